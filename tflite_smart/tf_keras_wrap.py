"""tf_keras models: tfmot's own wrappers underneath, with what tfmot leaves to the user done.

`prune`, `cluster` and 8-bit `quantize` are tfmot's prune_low_magnitude, cluster_weights and quantize_model; other methods need Keras 3. Pruning needs no callback, and a batch
normalization that stands alone (behind a convolution with an activation, say), which quantize_model refuses, is rounded at its output.
"""

import dataclasses
import functools
import sys

from tflite_smart.config import WrapConfig
from tflite_smart.converter.errors import MissingDependencyError, UnsupportedModelError


def wrap(model, config: WrapConfig):
    """A model for training, made by tfmot from a built Sequential or functional tf_keras model, which stays as it was.

    Raises:
        UnsupportedModelError: the recipe asks for what tfmot does not have.
    """
    import tf_keras

    chosen = _chosen(model, config)
    names = {method.name for method in chosen.values()}
    if config.activation_bits or "quantize" in names:
        if not config.activation_bits or names != {"quantize"} or any(method.bits != 8 for method in chosen.values()):
            raise UnsupportedModelError(f"{model.name}: quantize must be with 8 bits, activation_bits=8 and no other method. Received: {', '.join(sorted(names))} of a tf_keras model. Move to Keras 3 for the rest.")
        return _quantized(tf_keras, model, chosen)
    unknown = names - {"prune", "cluster"}
    if unknown:
        raise UnsupportedModelError(f"{model.name}: methods of a tf_keras model must be prune, cluster or quantize. Received: {', '.join(sorted(unknown))}. Move to Keras 3 for the others.")
    makers = {"prune": _pruned, "cluster": _clustered}
    wrapped = tf_keras.models.clone_model(_copy(tf_keras, model), clone_function=lambda layer: makers[chosen[layer.name].name](layer, chosen[layer.name]) if layer.name in chosen else layer)
    for layer in _pruning(wrapped):
        layer.pruning_step.assign(0)  # what UpdatePruningStep is for: tfmot's layers count, but refuse to begin at -1
    return wrapped


def strip(model):
    """The plain model of one that `wrap` made; a quantized one stays, as TFLite's converter needs its nodes."""
    tfmot = sys.modules.get("tensorflow_model_optimization")
    for layer in _pruning(model):
        layer.pruning_obj.weight_mask_op()  # the last step of the optimizer moved the zeros
    return model if tfmot is None or is_quantized(model) else tfmot.clustering.keras.strip_clustering(tfmot.sparsity.keras.strip_pruning(model))


def is_quantized(model) -> bool:
    """Whether tfmot's quantizers are in a model."""
    return any(type(layer).__name__.startswith("QuantizeWrapper") for layer in model.layers)


def _pruning(model) -> list:
    return [layer for layer in model.layers if hasattr(layer, "pruning_obj")]


def _chosen(model, config: WrapConfig) -> dict:
    """Layer name -> its method."""
    found, classes, paths = {}, set(), []
    for layer in model.layers:
        sizes = [weight.shape.num_elements() for weight in layer.weights if len(weight.shape) > 1]
        if not sizes:
            continue
        names, path = [cls.__name__ for cls in type(layer).__mro__], f"{layer.name}/kernel"
        classes.update(names)
        paths.append(path)
        methods = config.for_weight(names, path) if max(sizes) >= config.min_weight_elements else None
        if methods is not None and len(methods) != 1:
            raise UnsupportedModelError(f"{path}: methods of a tf_keras layer must be one. Received: {len(methods)}. Move to Keras 3 to combine them.")
        if methods:
            found[layer.name] = methods[0]
    config.check_names(classes, paths)
    return found


def _copy(tf_keras, model):
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _tfmot():
    try:
        import tensorflow_model_optimization as tfmot
    except ImportError as error:
        raise MissingDependencyError(f"tensorflow-model-optimization: must be installed for tf_keras models. Received: {error}. Run `pip install tflite_smart[keras]`.") from error
    return tfmot


def _pruned(layer, method):
    sparsity, schedule, options = _tfmot().sparsity.keras, method.sparsity, {"block_size": method.block}
    if dataclasses.is_dataclass(schedule):
        schedule = getattr(sparsity, type(schedule).__name__)(**dataclasses.asdict(schedule))
    if method.group is not None:
        options = {"sparsity_m_by_n": (round(method.sparsity.target_sparsity * method.group), method.group)}
    return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule, **options)


def _clustered(layer, method):
    clustering = _tfmot().clustering.keras
    initial = {"k-means++": "KMEANS_PLUS_PLUS", "density": "DENSITY_BASED", "linear": "LINEAR"}[method.initial_centroids]
    return clustering.cluster_weights(layer, number_of_clusters=method.num_clusters, cluster_centroids_init=clustering.CentroidInitialization[initial])


def _quantized(tf_keras, model, chosen: dict):
    """quantize_model, but for the layers that the recipe leaves alone, and for batch normalizations that nothing before them takes in."""
    quantization = _tfmot().quantization.keras
    output_only = _output_config(quantization)

    def annotate(layer):
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            return quantization.quantize_annotate_layer(layer, output_only()) if _stands_alone(layer) else quantization.quantize_annotate_layer(layer)
        if layer.weights and layer.name not in chosen:
            return layer
        return quantization.quantize_annotate_layer(layer)

    with quantization.quantize_scope({"OutputOnly": output_only}):
        return quantization.quantize_apply(tf_keras.models.clone_model(_copy(tf_keras, model), clone_function=annotate))


def _stands_alone(layer) -> bool:
    producer = layer.inbound_nodes[0].inbound_layers
    activation = getattr(producer, "activation", None)
    return not hasattr(producer, "kernel") and not hasattr(producer, "depthwise_kernel") or activation is not None and activation.__name__ != "linear"


@functools.cache
def _output_config(quantization) -> type:
    """A quantize configuration that rounds what a layer gives and nothing inside."""
    nothing = {name: lambda self, *_: [] for name in ("get_weights_and_quantizers", "get_activations_and_quantizers", "set_quantize_weights", "set_quantize_activations")}
    rounding = quantization.quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    members = {**nothing, "get_output_quantizers": lambda self, layer: [rounding], "get_config": lambda self: {}}
    return type("OutputOnly", (quantization.QuantizeConfig,), members)
