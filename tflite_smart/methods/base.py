"""What a compression method is: what happens to a weight between the variable that the optimizer trains and the value that the layer computes with.

A method is a frozen description, a dataclass whose fields are its settings, that holds no state of its own: everything that changes while training is a variable that Keras saves with
the layer. One file per method, pure functions for its mathematics, `@register("name")` to be found in recipes. Several can follow each other on one weight; each sees what the one
before made of it, so every method **keeps an exact zero zero**, and pruning before it survives.

Tensors are the backend's; use `keras.ops` alone, nothing that needs a value in Python: all of it runs in graphs, under `jit_compile` and in several replicas. Weights arrive in float32, also
under mixed precision.
"""

import dataclasses
import math

import numpy as np
from keras import ops

from tflite_smart.converter.errors import RecipeError

METHODS: dict[str, type["Method"]] = {}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the output channels and the filter taps of a weight lie.

    Attributes:
        shape: of the weight, as Keras stores it.
        channel_axes: the axes that together count the output channels, in order: `(3,)` for Conv2D's `(h, w, in, out)`, `(2, 3)` for DepthwiseConv2D's `(h, w, in, multiplier)`.
        spatial_axes: the axes of the taps, `(0, 1)` for both.
    """

    shape: tuple[int, ...]
    channel_axes: tuple[int, ...]
    spatial_axes: tuple[int, ...] = ()

    @property
    def inner_axes(self) -> tuple[int, ...]:
        """The axes inside one output channel: what to reduce over for one number per channel (`keepdims=True` gives `scale_shape`)."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.channel_axes)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of one number per channel that broadcasts against the weight."""
        return tuple(size if axis in self.channel_axes else 1 for axis, size in enumerate(self.shape))

    @property
    def matrix_shape(self) -> tuple[int, int]:
        channels = math.prod(self.shape[axis] for axis in self.channel_axes)
        return channels, math.prod(self.shape) // max(channels, 1)

    def to_matrix(self, weight):
        """The weight as `w[n, k]` of FORMAT.md: `(num_channels, channel_elements)`, the elements in row-major order of the inner axes; a tensor or an array."""
        return ops.reshape(ops.transpose(weight, self.channel_axes + self.inner_axes), self.matrix_shape)

    def from_matrix(self, matrix):
        """Inverse of `to_matrix`."""
        order = self.channel_axes + self.inner_axes
        moved = ops.reshape(matrix, [self.shape[axis] for axis in order])
        return ops.transpose(moved, [order.index(axis) for axis in range(len(order))])


@dataclasses.dataclass(frozen=True)
class VariableSpec:
    """A variable that a method adds to the layer."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    trainable: bool = False


@dataclasses.dataclass(frozen=True)
class Finished:
    """A weight at the end of training.

    Attributes:
        weight: float32, what the plain layer gets.
        parts: arrays that describe the weight exactly where values alone do not tell, for example `coefficients` and `basis`; empty for grids and codebooks, which the converter
            recognises from the weights themselves.
    """

    weight: np.ndarray
    parts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Method:
    """Base of all methods. Subclasses are frozen dataclasses with JSON values as fields, and override what they need; `apply` always.

    Attributes:
        name: in recipes; set by `register`.
        trains_weight: False where trainable variables of the method take the place of the layer's weight, which then only serves to begin with.
        has_integer_form: False where the trained weights are not a scale per channel times int8 values, even roughly, so that a model of integers alone would lose them.
    """

    name = ""
    trains_weight = True
    has_integer_form = True

    def variables(self, layout: Layout) -> dict[str, VariableSpec]:
        """What the layer has to keep for this method, by name. Shapes depend on the layout alone."""
        return {}

    def initial(self, weight: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
        """First values of all `variables`, from the weight when it is wrapped. It also runs when a saved model is built, before its values are loaded: keep it cheap."""
        return {}

    def apply(self, weight, variables: dict, layout: Layout):
        """The effective weight, a tensor of the weight's shape. Where it rounds, `straight_through` lets the gradient pass.

        Args:
            weight: tensor, float32.
            variables: name -> tensor.
        """
        raise NotImplementedError

    def update(self, weight, variables: dict, layout: Layout, step) -> dict:
        """New values of those variables that change, after every step of the optimizer; put what is costly and rare in `ops.cond`.

        Args:
            weight, variables: as in `apply`.
            step: steps taken so far, 1 at the first update; a scalar int32 tensor.
        """
        return {}

    def loss(self, weight, variables: dict, layout: Layout):
        """A scalar that is added to the training loss, or None."""
        return None

    def finish(self, weight: np.ndarray, variables: dict[str, np.ndarray], layout: Layout) -> Finished:
        """The weight for inference. Arrays in, arrays out, nothing is being traced; overridden where annealing may be unfinished, or for `parts`."""
        return Finished(ops.convert_to_numpy(self.apply(ops.convert_to_tensor(weight), variables, layout)))

    def get_config(self) -> dict:
        """JSON values: `name` and the fields."""
        return {"name": self.name, **{field.name: _to_json(getattr(self, field.name)) for field in dataclasses.fields(self)}}

    @classmethod
    def from_config(cls, config: dict) -> "Method":
        """A method from `get_config`'s result or a recipe's entry; raises RecipeError for unknown names and fields."""
        config = dict(config)
        name = config.pop("name", None)
        kind = METHODS.get(name)
        if kind is None:
            raise RecipeError(f"method: name must be one of {', '.join(sorted(METHODS))}. Received: name={name!r}.")
        known = [field.name for field in dataclasses.fields(kind)]
        unknown = [key for key in config if key not in known]
        if unknown:
            raise RecipeError(f"method {kind.name}: keys must be out of {', '.join(known)}. Received: {', '.join(map(repr, unknown))}.")
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})


def register(name: str):
    """Decorator that makes a method known to recipes and saved models under a name."""

    def decorate(cls: type[Method]) -> type[Method]:
        cls.name = name
        METHODS[name] = cls
        return cls

    return decorate


def straight_through(value, weight):
    """`value`, bit for bit, with the gradient of `value` and that of `weight` added to it: what rounds has none of its own.

    Source: Bengio et al., arXiv:1308.3432. `weight + stop_gradient(value - weight)` would round twice and miss the grid.
    """
    return value + (weight - ops.stop_gradient(weight))


def _to_json(value):
    return value.get_config() if hasattr(value, "get_config") else list(value) if isinstance(value, tuple) else value
