"""`smart_wrap`: a Keras model that trains in compressed form, and the way back."""

import math
import warnings

import keras
from keras.src.models.functional import Functional  # has no public name

from tflite_smart import config as recipes
from tflite_smart import smart_layer, tf_keras_wrap
from tflite_smart.activations import SmartRange, places
from tflite_smart.converter.errors import UnsupportedModelError
from tflite_smart.smart_layer import SmartLayer, SmartWeight, as_plain, attach, detach, parts, raw_variable
from tflite_smart.weight_table import class_attributes, layout


def smart_wrap(model, recipe=None):
    """A model of the same kind with the same weights and outputs, whose training takes the compression into account.

    Args:
        model: a built Keras 3 model: Sequential, functional or subclassed, nested as you like. It is cloned and stays as it was. A subclassed model that Keras can't clone
            (it needs `get_config`) is wrapped in place. A Sequential or functional tf_keras model is wrapped by tfmot, see `tf_keras_wrap`.
        recipe: see `config.resolve`.

    Returns:
        The wrapped model, compiled as `model` was. Train it in any way, then `strip` or `convert` it.

    Raises:
        RecipeError: the recipe is invalid or names what the model does not have.
        UnsupportedModelError: `model` is no built Keras model.
    """
    config = recipes.resolve(recipe)
    if _is_tf_keras(model):
        return tf_keras_wrap.wrap(model, config)
    if not isinstance(model, keras.Model) or not model.built:
        raise UnsupportedModelError(f"model must be a built Keras 3 model. Received: {type(model).__name__}{'' if not isinstance(model, keras.Model) else ', not built'}. Call it once on an input.")
    if _all(model, (SmartWeight, SmartRange)):
        raise UnsupportedModelError(f"{model.name}: model must be plain. Received: one that is wrapped already. Give all methods in one recipe, or strip it first.")
    wrapped, skipped = clone(model), []
    plans = [(owner, path, _plan(owner, path, config, skipped)) for owner, path in owners(wrapped)]
    candidates = [site for owner, path in owners(wrapped) for site in _sites(owner, path)]
    config.check_names({name for _, names, _, _ in candidates for name in names}, [path for path, _, _, _ in candidates])
    found = _places(wrapped) if config.activation_bits else {}
    if config.activation_bits and not found:
        skipped.append("all activations (the model's call must be made of layers and keras.ops to show where they are rounded)")
    for owner, path, plan in plans:
        ranges = {f"{position}/{place}": fixed or config.range_kind for position, layer in enumerate(parts(owner).values()) for place, fixed in found.get(id(layer), {}).items()}
        if plan or ranges:
            attach(owner, plan, ranges, path)
    if skipped:
        warnings.warn(f"smart_wrap left alone: {'; '.join(skipped)}.", stacklevel=2)
    if model.compiled and wrapped is not model:
        wrapped.compile_from_config(model.get_compile_config())  # the clone's optimizer knows nothing of the methods' variables
    return wrapped


def strip(model):
    """The plain Keras model with the compressed weights; `model` stays as it was, unless Keras can't clone it."""
    if _is_tf_keras(model):
        return tf_keras_wrap.strip(model)
    finished = {id(weight.raw): weight.finish().weight for weight in smart_weights(model)}
    plain = clone(model)
    if plain is model:
        for owner, _ in owners(model):
            detach(owner)
    for variable, trained in zip(_plain_variables(plain), _plain_variables(model)):
        if id(trained) in finished:
            variable.assign(finished[id(trained)])
    return plain


def load_model(path, **options):
    """`keras.saving.load_model` that knows wrapped layers. (Keras' own does as well once this module has been imported.)"""
    return keras.saving.load_model(path, **options)


def exporting(model):
    """A context in which the model is traced for TFLite's converter: finished weights, constant ranges."""
    return smart_layer.exporting(smart_weights(model), smart_ranges(model))


def smart_weights(model) -> list[SmartWeight]:
    """All wrapped weights, in the order of the layers."""
    return _all(model, SmartWeight)


def smart_ranges(model) -> list[SmartRange]:
    """All places where activations are rounded, in the order of the layers."""
    return _all(model, SmartRange)


def _all(model, kind) -> list:
    found, seen = [], set()

    def visit(layer):
        if id(layer) not in seen:
            seen.add(id(layer))
            found.extend([layer] if isinstance(layer, kind) else [])
            for inner in layer._layers:
                visit(inner)

    visit(model)
    return found


def _places(model) -> dict[int, dict]:
    """`activations.places` of a model and of those nested in it."""
    found = places(model)
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if isinstance(layer, keras.Model):
            found |= _places(layer)
    return found


def owners(model, path: str = ""):
    """Yields `(layer, path)` for every layer that Keras saves on its own: those of Sequential and functional models at any depth; a subclassed model is one itself. Shared layers come once."""
    seen = set()

    def visit(layer, prefix):
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
            return
        seen.add(id(layer))
        if not _is_container(layer):
            yield layer, f"{prefix}{layer.name}"
            return
        for inner in layer.layers:
            yield from visit(inner, prefix if layer is model else f"{prefix}{layer.name}/")

    yield from visit(model, path)


def _is_container(layer) -> bool:
    """Whether Keras saves the layers inside one by one."""
    return isinstance(layer, (keras.Sequential, Functional))


def _sites(owner, path: str):
    """`(path, class names, key, variable)` of every weight of the table inside an owner."""
    for position, (inner, layer) in enumerate(parts(owner).items()):
        for attribute in class_attributes(type(layer)):
            names = [cls.__name__ for cls in type(layer).__mro__ if issubclass(cls, keras.layers.Layer)]
            yield "/".join(filter(None, [path, inner, attribute])), names, f"{position}/{attribute}", raw_variable(layer, attribute)


def _plan(owner, path: str, config: recipes.WrapConfig, skipped: list[str]) -> dict:
    """Key -> methods for one owner; names of what a recipe wants and we can't are added to `skipped`."""
    plan = {}
    for name, class_names, key, variable in _sites(owner, path):
        methods = config.for_weight(class_names, name)
        if methods is None:
            continue
        if variable is None:
            skipped.append(f"{name} (no plain variable: not built, quantized or LoRA)")
        elif math.prod(variable.shape) >= config.min_weight_elements:
            plan[key] = list(methods)
    known = {id(variable) for layer in parts(owner).values() if class_attributes(type(layer)) for variable in layer.variables}
    for variable in owner.trainable_variables if config.global_config else ():
        if id(variable) not in known and len(variable.shape) > 1 and math.prod(variable.shape) >= config.min_weight_elements:
            skipped.append(f"{path}/{variable.name} (made by {type(owner).__name__} itself)")
    return plan


def _is_tf_keras(model) -> bool:
    return any(cls.__module__.split(".")[0] == "tf_keras" for cls in type(model).__mro__)


def plain_weights(model):
    """Yields `(variable, layout)` of every weight of the table, each once, in the order of the layers."""
    seen = set()
    for owner, _ in owners(model):
        for layer in parts(owner).values():
            for attribute in class_attributes(type(layer)):
                variable = raw_variable(layer, attribute)
                if variable is not None and id(variable) not in seen:
                    seen.add(id(variable))
                    yield variable, layout(layer, attribute, variable.shape)


def clone(model):
    """The plain form of a model with the same weights, or the model itself where Keras can't make another."""
    try:
        if _is_container(model):
            copy = keras.models.clone_model(model, clone_function=_plain_copy, recursive=True)
        else:
            copy = _plain_copy(model)
            with as_plain(model):
                copy.build_from_config(model.get_build_config() or {})
    except (NotImplementedError, TypeError, ValueError):
        return model
    variables = _plain_variables(copy)
    if [variable.shape for variable in variables] != [variable.shape for variable in _plain_variables(model)]:
        return model
    for variable, value in zip(variables, _plain_variables(model)):
        variable.assign(value.value)
    return copy


def _plain_copy(layer):
    """A fresh layer of the plain class with the same configuration."""
    with as_plain(layer):
        return type(layer).from_config(layer.get_config())


def _plain_variables(model) -> list:
    """The variables without those of the methods; the same order in a wrapped model and a plain one."""
    ours = {id(variable) for ours in _all(model, (SmartWeight, SmartRange)) for variable in ours.variables}
    return [variable for variable in model.variables if id(variable) not in ours]
