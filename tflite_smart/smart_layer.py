"""Layers that compute with the compressed form of their weights while the optimizer trains the original.

READ FIRST. A Keras layer reads its weights through attributes (`self.kernel`). A wrapped layer is the same object with another class, made on the fly: a subclass of the layer's own class
in which these attributes are properties that return the effective weight. So every layer of the table, every subclass of one and everything that is made of them is wrapped by the same few
lines, and isinstance, shared layers, names and weights stay what they were.

* **Owner**: the layer that Keras saves on its own. It keeps one `SmartWeight`, a sublayer with the methods' variables, for every weight inside it: a Dense has one, an LSTM two (in its cell),
  MultiHeadAttention four.
* **Saving**: the owner's configuration is that of the plain layer plus the methods. Weights inside are named by the position of their layer, since names of inner layers change from one
  process to the next.
* **Steps**: every optimizer calls the `constraint` of a variable once it has changed it. There the step is counted and the methods' variables are updated: `fit`, `train_on_batch`, a custom
  `train_step` and loops written by hand all pass there, and nobody has to remember a callback. Updates assign unconditionally what `ops.cond` has chosen, which graphs, XLA and
  replicas all can do.
* Before the first step the effective weight is the weight itself, so wrapping alone changes no output.
"""

import contextlib
import functools
import threading
import types

import keras
from keras import ops

from tflite_smart.activations import SmartRange, call_with_ranges
from tflite_smart.methods.base import Finished, Layout, Method
from tflite_smart.weight_table import class_attributes, layout

_running = threading.local()  # effective weights of the calls in progress; replicas are traced in threads of their own


class SmartWeight(keras.layers.Layer):
    """The methods of one weight and their variables; a layer so that Keras tracks, saves and restores them.

    Attributes:
        weight_path: readable name, for example `block/attention/query/kernel`.
        methods: in the order in which they are applied.
        layout: of the weight.
        raw: the variable that the layer had before.
        step: steps of the optimizer so far, int32.
    """

    def __init__(self, path: str, methods: list[Method], layout: Layout, raw):
        super().__init__(name="smart_" + path.rsplit("/")[-1], dtype="float32")
        # Not tracked: the variable is the other layer's.
        self.__dict__.update(weight_path=path, methods=list(methods), layout=layout, raw=raw, _states=[])
        raw._autocast = False  # methods compute in float32, whatever the layer does
        self.step = self._variable("step", (), "int32", False, 0)
        values = ops.convert_to_numpy(raw.value).astype("float32")
        for number, method in enumerate(methods):
            first = method.initial(values, layout)
            self._states.append({name: self._variable(f"{number}_{method.name}_{name}", spec.shape, spec.dtype, spec.trainable, first[name]) for name, spec in method.variables(layout).items()})
            if not method.trains_weight:
                raw.trainable = False
        self.built = True
        trained = raw if raw.trainable else next((variable for state in self._states for variable in state.values() if variable.trainable), raw)
        self.__dict__.update(_trained=trained, _before=(raw.trainable, trained.constraint, trained.regularizer))
        trained.constraint = _AfterStep(self, trained.constraint, trained is raw)
        trained.regularizer = _WithLoss(self, trained.regularizer)

    def release(self) -> None:
        """Gives the variable back as it was."""
        self.raw.trainable, self._trained.constraint, self._trained.regularizer = self._before
        self.raw._autocast = True

    def _variable(self, name: str, shape, dtype: str, trainable: bool, value):
        return self.add_weight(name=name, shape=shape, dtype=dtype, trainable=trainable, autocast=False, initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype))

    def effective(self):
        """What the layer computes with, float32."""
        finished = getattr(_running, "finished", {})
        if id(self) in finished:
            return ops.convert_to_tensor(finished[id(self)])
        weight = ops.cast(self.raw.value, "float32")
        return ops.where(self.step.value > 0, self.rounded(weight), weight)

    def rounded(self, weight):
        """What the methods make of a weight, `raw` or another, float32."""
        for method, state in zip(self.methods, self._states):
            weight = method.apply(weight, _tensors(state), self.layout)
        return weight

    def update(self, weight):
        """Counts a step and lets the methods update their variables. Returns the weight, which the first method may have replaced.

        Args:
            weight: the trained variable's new value.
        """
        step = self.step.value + 1
        result = value = ops.cast(weight, "float32")
        for number, (method, state) in enumerate(zip(self.methods, self._states)):
            changed = method.update(value, _tensors(state), self.layout, step)
            if number == 0 and "weight" in changed:
                result = value = changed["weight"]
            for name, variable in state.items():
                if name in changed:
                    variable.assign(changed[name])
            if number + 1 < len(self.methods):
                value = method.apply(value, {**_tensors(state), **{name: changed[name] for name in state if name in changed}}, self.layout)
        self.step.assign(step)
        return ops.cast(result, self.raw.dtype)

    def losses_of_methods(self):
        """What the methods add to the training loss, as a list of scalars."""
        value, terms = ops.cast(self.raw.value, "float32"), []
        for method, state in zip(self.methods, self._states):
            terms.append(method.loss(value, _tensors(state), self.layout))
            value = method.apply(value, _tensors(state), self.layout)
        return [term for term in terms if term is not None]

    def finish(self) -> Finished:
        """The weight for inference, with the last method's parts."""
        result = Finished(ops.convert_to_numpy(self.raw.value).astype("float32"))
        for method, state in zip(self.methods, self._states):
            result = method.finish(result.weight, {name: ops.convert_to_numpy(variable.value) for name, variable in state.items()}, self.layout)
        return result


def _tensors(state: dict) -> dict:
    return {name: variable.value for name, variable in state.items()}


class _AfterStep(keras.constraints.Constraint):
    """The constraint that the variable had, then the methods' updates."""

    def __init__(self, smart_weight: SmartWeight, before, is_weight: bool):
        self.smart_weight, self.before, self.is_weight = smart_weight, before, is_weight

    def __call__(self, variable):
        value = variable.value if self.before is None else self.before(variable)
        weight = self.smart_weight.update(value if self.is_weight else self.smart_weight.raw.value)
        return weight if self.is_weight else value


class _WithLoss(keras.regularizers.Regularizer):
    """The regularizer that the variable had plus the methods' losses."""

    def __init__(self, smart_weight: SmartWeight, before):
        self.smart_weight, self.before = smart_weight, before

    def __call__(self, variable):
        return sum(self.smart_weight.losses_of_methods(), ops.zeros(()) if self.before is None else self.before(variable))


class SmartLayer:
    """Mixin of all wrapped layers; `smart_class` puts it before the layer's own class.

    Attributes:
        plain_class: the layer's own class.
        smart_weights: list of the SmartWeights that an owner keeps; absent in the layers inside it.
        smart_ranges: `"<position of the part>/<place>"` -> SmartRange that an owner keeps, where activations are rounded.
    """

    plain_class: type

    def get_config(self) -> dict:
        with as_plain(self):
            layer = keras.saving.serialize_keras_object(self)
        layer.pop("compile_config", None)  # Keras saves it once more, for the wrapped model
        # The first key is for people: Keras prints it when it meets the file before this package was imported.
        return {"load_with": "tflite_smart.load_model", "layer": layer, "weights": {key: [method.get_config() for method in methods] for key, methods in plan_of(self).items()}, "ranges": ranges_of(self)}

    @classmethod
    def from_config(cls, config):
        """The plain layer, wrapped; as it was built when it was saved."""
        plain = getattr(cls, "plain_class", None)
        known = {plain.__name__: plain} if plain is not None and plain.__name__ == config["layer"]["class_name"] else {}  # a clone needs no registration
        layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects=known)
        plan = {key: [Method.from_config(entry) for entry in methods] for key, methods in config["weights"].items()}
        ranges = config["ranges"]
        return attach(layer, plan, ranges) if plan or ranges else layer

    def get_build_config(self):
        return None  # it is part of the plain layer's

    def save_own_variables(self, store):
        with as_plain(self):
            self.save_own_variables(store)

    def load_own_variables(self, store):
        with as_plain(self):
            self.load_own_variables(store)

    def __call__(self, *args, **kwargs):
        outputs = super().__call__(*args, **kwargs)
        if "_smart_pending" in self.__dict__:
            attach(self, *self.__dict__["_smart_pending"])
        return outputs


@functools.cache
def smart_class(plain: type) -> type:
    """The wrapped form of a layer's class."""

    @functools.wraps(plain.call)
    def call(self, *args, **kwargs):
        # Once a call, not once a use: an RNN reads its kernels at every time step.
        with _evaluated(self.__dict__.get("smart_weights", ())):
            ranges = self.__dict__.get("_smart_places")
            if not ranges:
                return plain.call(self, *args, **kwargs)
            finished = getattr(_running, "finished", {})
            ranges = {place: finished.get(id(one), one) for place, one in ranges.items()}
            return call_with_ranges(self, ranges, plain.call, args, kwargs)

    attributes = {"plain_class": plain, "call": call, "__module__": __name__, "__doc__": f"{plain.__name__} that computes with the compressed form of its weights."}
    for name in class_attributes(plain):
        attributes[name] = _effective_property(plain, name)
    made = type(f"Smart{plain.__name__}", (SmartLayer, plain), attributes)
    # One registered name for all: `from_config` needs no class of its own.
    return keras.saving.register_keras_serializable(package="tflite_smart", name="Smart")(made)


def _effective_property(plain: type, name: str) -> property:
    inherited = getattr(plain, name, None)

    def get(self):
        weight = getattr(self.__dict__.get("_smart_links"), name, None)
        if weight is not None:
            value = getattr(_running, "weights", {}).get(id(weight))
            return ops.cast(weight.effective(), self.compute_dtype) if value is None else ops.cast(value, self.compute_dtype)
        if isinstance(inherited, property):
            return inherited.fget(self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r} before it is built") from None

    def put(self, value):
        self.__dict__[name] = value

    return property(get, put)


@contextlib.contextmanager
def _evaluated(weights):
    """Computes the effective weights that are not known yet, for the time of a call."""
    before = getattr(_running, "weights", {})
    _running.weights = {**before, **{id(weight): weight.effective() for weight in weights if id(weight) not in before}}
    try:
        yield
    finally:
        _running.weights = before


@contextlib.contextmanager
def exporting(weights: list[SmartWeight], ranges: list[SmartRange]):
    """Whatever is traced meanwhile has finished weights and constant ranges, for TFLite's converter."""
    _running.finished = {**{id(one): one.finish().weight for one in weights}, **{id(one): one.frozen() for one in ranges}}
    try:
        yield
    finally:
        _running.finished = {}


@contextlib.contextmanager
def as_plain(layer):
    """A wrapped layer with its own class again: attributes are the variables, configuration and files those of the plain layer. Any other layer as it is."""
    smart = type(layer)
    object.__setattr__(layer, "__class__", getattr(smart, "plain_class", smart))
    try:
        yield layer
    finally:
        object.__setattr__(layer, "__class__", smart)


def parts(owner) -> dict[str, object]:
    """The owner and all layers inside it by their path, each once, in an order that depends on how they were made alone: `{"": owner, "query": ...}`."""
    found, seen = {}, set()

    def visit(layer, path):
        if id(layer) in seen or isinstance(layer, (SmartWeight, SmartRange)):
            return
        seen.add(id(layer))
        found[path if path not in found else f"{path}:{len(found)}"] = layer
        for inner in layer._layers:
            visit(inner, f"{path}/{inner.name}" if path else inner.name)

    visit(owner, "")
    return found


def raw_variable(layer, attribute: str):
    """The variable behind a weight attribute, or None where it is no variable (yet, or any more: Keras' own quantization, LoRA)."""
    if not layer.built:
        return None
    with as_plain(layer):
        value = getattr(layer, attribute, None)
    return value if isinstance(value, keras.Variable) else None


def attach(owner, plan: dict[str, list[Method]], ranges: dict, path: str = ""):
    """Wraps an owner in place and returns it.

    Args:
        owner: a layer. Where its parts are not built yet, it is wrapped after its first call.
        plan: `"<position of the part>/<attribute>"` -> methods.
        ranges: `"<position of the part>/<place>"` -> kind of `SmartRange`; the places are those of `activations.places`.
        path: of the owner in its model, for messages; its name by default.
    """
    found = list(parts(owner).items())
    sites = [(key, *found[int(key.split("/")[0])], key.split("/")[1]) for key in (*plan, *ranges) if int(key.split("/")[0]) < len(found)]
    _become_smart(owner)
    if len(sites) < len(plan) + len(ranges) or any(raw_variable(layer, attribute) is None for key, _, layer, attribute in sites if key in plan):
        owner.__dict__["_smart_pending"] = plan, ranges
        return owner
    owner.__dict__.pop("_smart_pending", None)
    weights, kept_ranges = [], {}
    for key, inner, layer, attribute in sites:
        _become_smart(layer)
        if key in ranges:
            kept_ranges[key] = layer.__dict__.setdefault("_smart_places", {})[attribute] = SmartRange(attribute, ranges[key])
            continue
        weight = SmartWeight("/".join(filter(None, [path or owner.name, inner, attribute])), plan[key], layout(layer, attribute, raw_variable(layer, attribute).shape), raw_variable(layer, attribute))
        weights.append(weight)
        setattr(layer.__dict__.setdefault("_smart_links", types.SimpleNamespace()), attribute, weight)
    owner.__dict__["smart_keys"] = list(plan)
    owner._tracker.unlock()
    owner.smart_weights, owner.smart_ranges = weights, kept_ranges
    owner._tracker.lock()
    return owner


def detach(owner) -> None:
    """Takes the wrapping off an owner in place; its weights are the variables that were trained."""
    for layer in parts(owner).values():
        object.__setattr__(layer, "__class__", getattr(type(layer), "plain_class", type(layer)))
        for links in ("_smart_links", "_smart_places"):
            layer.__dict__.pop(links, None)
    for weight in owner.__dict__.get("smart_weights", ()):
        weight.release()
    owner._tracker.unlock()
    for kept in ("smart_weights", "smart_ranges"):
        owner.__dict__.pop(kept, []).clear()
    owner._tracker.lock()


def plan_of(owner) -> dict[str, list[Method]]:
    """What `attach` was given; empty for a layer inside an owner."""
    if "_smart_pending" in owner.__dict__:
        return owner.__dict__["_smart_pending"][0]
    return {key: weight.methods for key, weight in zip(owner.__dict__.get("smart_keys", ()), owner.__dict__.get("smart_weights", ()))}


def ranges_of(owner) -> dict:
    """The `ranges` that `attach` was given."""
    if "_smart_pending" in owner.__dict__:
        return owner.__dict__["_smart_pending"][1]
    return {key: one.kind for key, one in owner.__dict__.get("smart_ranges", {}).items()}


def _become_smart(layer) -> None:
    if not isinstance(layer, SmartLayer):
        object.__setattr__(layer, "__class__", smart_class(type(layer)))


# A saved model names this class; any of the made ones reads it as well.
keras.saving.register_keras_serializable(package="tflite_smart", name="Smart")(SmartLayer)
