"""How sparse a weight has to be at which step of training.

A schedule is called with the step (an integer tensor) and returns `(due, sparsity)`: whether the mask is to be chosen anew, a bool, and the fraction of zeros, a float32. tfmot's
schedules have the same form and are accepted as they are; where ours can say the same they become ours, which saved models remember.
"""

import dataclasses

from keras import ops

from tflite_smart.converter.errors import RecipeError


class _Schedule:
    def get_config(self) -> dict:
        return {"class_name": type(self).__name__, "config": dataclasses.asdict(self)}

    def _check(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("sparsity") and not 0 <= value < 1:
                raise RecipeError(f"{type(self).__name__}: {field.name} must be in [0, 1). Received: {field.name}={value}.")
        if self.frequency < 1:
            raise RecipeError(f"{type(self).__name__}: frequency must be at least 1. Received: frequency={self.frequency}.")

    def _due(self, step):
        """At `begin_step` and every `frequency` steps until `end_step`; for ever where that is -1."""
        due = (step >= self.begin_step) & (ops.mod(step - self.begin_step, self.frequency) == 0)
        return due if self.end_step < 0 else due & (step <= self.end_step)


@dataclasses.dataclass(frozen=True)
class ConstantSparsity(_Schedule):
    """The same sparsity from `begin_step` on. Field names and defaults are tfmot's."""

    target_sparsity: float
    begin_step: int = 0
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self):
        self._check()

    def __call__(self, step):
        return self._due(step), ops.full((), self.target_sparsity)


@dataclasses.dataclass(frozen=True)
class PolynomialDecay(_Schedule):
    """Sparsity that rises fast at first and slowly at the end: `final + (initial - final) * (1 - progress) ** power`.

    Field names and defaults are tfmot's. Source: Zhu and Gupta, arXiv:1710.01878, eq. 1.
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self):
        self._check()
        if self.end_step <= self.begin_step:
            raise RecipeError(f"PolynomialDecay: end_step must be greater than begin_step={self.begin_step}. Received: end_step={self.end_step}.")

    def __call__(self, step):
        progress = ops.cast(step - self.begin_step, "float32") / (self.end_step - self.begin_step)
        left = (1 - ops.clip(progress, 0.0, 1.0)) ** self.power
        # The last change falls on end_step whatever the frequency, or the final sparsity would be missed.
        return self._due(step) | ops.equal(step, self.end_step), self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * left


SCHEDULES = {cls.__name__: cls for cls in (ConstantSparsity, PolynomialDecay)}


def get(schedule):
    """A schedule from one of ours, a number (that sparsity from the start), a `get_config` mapping, or tfmot's object; any other callable of that form stays as it is."""
    if isinstance(schedule, _Schedule):
        return schedule
    if isinstance(schedule, (int, float)) and not isinstance(schedule, bool):
        return ConstantSparsity(float(schedule))
    config = schedule if isinstance(schedule, dict) else schedule.get_config() if hasattr(schedule, "get_config") else {}
    if config.get("class_name") in SCHEDULES:
        try:
            return SCHEDULES[config["class_name"]](**config["config"])
        except TypeError as error:
            raise RecipeError(f"schedule {config['class_name']}: config must have its fields. Received: {config.get('config')!r}. {error}.") from None
    if callable(schedule):
        return schedule
    raise RecipeError(f"schedule must be a sparsity, a schedule or its configuration. Received: {schedule!r}. Known: {', '.join(SCHEDULES)}.")
