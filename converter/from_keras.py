"""Keras models, files and SavedModels to a float .tflite. The only file of the converter that imports TensorFlow.

Three ways are tried, the best first:

1. builtin operators, free batch size;
2. builtin operators, batch size 1: LSTM, GRU and other loops keep lists of tensors, which TFLite can lower only for a known size;
3. builtin operators and TensorFlow's own ("flex"), which need a runtime that links them.
"""

import contextlib
import dataclasses
import logging
import os
import re
import sys
import tempfile
import warnings
import zipfile

import numpy as np

from tflite_smart.converter import structure, trained_grids
from tflite_smart.converter.errors import MissingDependencyError, ModelFormatError, UnsupportedModelError
from tflite_smart.converter.format import Quantized
from tflite_smart.converter.model_editor import Model

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class FloatModel:
    """Result of `to_tflite`: the file, what the user should know of how it came about, and what a training of ours says of weights beyond their values."""

    path: str
    notes: tuple[str, ...]
    trained: tuple[Quantized, ...] = ()


def is_keras_source(source: object) -> bool:
    """Whether `to_tflite` takes it: a model object, a Keras file or a SavedModel folder."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return os.path.isdir(path) or path.endswith((".keras", ".h5", ".hdf5"))
    return not isinstance(source, (bytes, bytearray, memoryview))


def to_tflite(source: object, folder: str) -> FloatModel:
    """Converts to float32 .tflite, written into `folder`.

    Args:
        source: path of a `.keras` or `.h5` file or of a SavedModel folder, or a Keras 3 or tf_keras model.
        folder: where the result and intermediate files may lie; the caller removes it.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
        ModelFormatError: the path is not what its name says.
        UnsupportedModelError: the model can't be loaded or expressed as .tflite.
    """
    if isinstance(source, (str, os.PathLike)):
        _check_path(os.fspath(source))
    with _silenced(), contextlib.ExitStack() as changes:
        tf = _tensorflow()
        name, routes, trained = _routes(tf, source, folder, changes)
        notes, failures = [], []
        for note, run_converter in routes:
            try:
                data = run_converter()
            except Exception as error:  # the converter raises whatever its stages do
                failures.append(_first_line(error))
                continue
            if note:
                notes.append(note)
            path = os.path.join(folder, "float.tflite")
            with open(path, "wb") as file:
                file.write(data)
            return FloatModel(path, tuple(notes), trained)
    raise UnsupportedModelError(f"{name}: must be convertible by TFLiteConverter. Received: {failures[0]}. Remove the layer it names, or convert to .tflite yourself and pass that.")


def _routes(tf, source, folder: str, changes: contextlib.ExitStack):
    """Name of the model for messages, `(note, function that returns a .tflite)` in the order to try, and `FloatModel.trained`. `changes` takes back what is done to the caller's model."""
    lite = tf.lite.TFLiteConverter
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        path = os.fspath(source)
        # Only one that Keras 2 saved can be traced again with another batch size; the functions of the others have theirs built in.
        fixed = (lambda: _fixed_tf_keras(tf, _load(path))) if os.path.exists(os.path.join(path, "keras_metadata.pb")) else None  # noqa: E731
        return path, _three_ways(tf, lambda: lite.from_saved_model(path), fixed), ()
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"model {getattr(source, 'name', type(source).__name__)}"
    model = _load(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else source
    kind, trained = _keras_kind(model), ()
    if kind is None:
        raise UnsupportedModelError(f"model must be a path, .tflite bytes, or a Keras 3 or tf_keras model. Received: {type(source).__name__}.")
    if not getattr(model, "built", True):
        raise UnsupportedModelError(f"{name}: model must be built. Received: built=False. Call it once on an input, or give it an Input layer.")
    if kind == "keras":
        from tflite_smart import wrap

        if wrap.smart_ranges(model):
            changes.enter_context(_computing_in_float32(model))
            changes.enter_context(wrap.exporting(model))
            weights = [np.asarray(weight.layout.to_matrix(weight.finish().weight)) for weight in wrap.smart_weights(model)]
            return name, _integer_ways(tf, lambda: _from_keras_3(tf, model, folder), weights, folder), ()
        if wrap.smart_weights(model):
            parts = [weight.finish().parts for weight in wrap.smart_weights(model)]
            trained = tuple(structure.from_parts(entry) for entry in parts if entry)
            model = wrap.strip(model)
        changes.enter_context(_computing_in_float32(model))
        free = lambda: _from_keras_3(tf, model, folder)  # noqa: E731
        fixed = lambda: lite.from_saved_model(_export(tf, model, folder, 1))  # noqa: E731
    else:
        from tflite_smart import tf_keras_wrap

        if tf_keras_wrap.is_quantized(model):
            return name, _integer_ways(tf, lambda: lite.from_keras_model(model), [], folder), ()
        model = tf_keras_wrap.strip(model)
        free = lambda: lite.from_keras_model(model)  # noqa: E731
        fixed = lambda: _fixed_tf_keras(tf, model)  # noqa: E731
    return name, _three_ways(tf, free, fixed), trained


@contextlib.contextmanager
def _computing_in_float32(model):
    """Mixed precision is for training: TFLite's kernels compute in float32 and know no float16 convolution. The variables are float32 already."""
    import keras

    mixed = {layer: layer.dtype_policy for layer in model._flatten_layers() if layer.compute_dtype in ("float16", "bfloat16")}
    try:
        for layer in mixed:
            layer.dtype_policy = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in mixed.items():
            layer.dtype_policy = policy


def _three_ways(tf, free, fixed):
    def flex():
        converter = free()
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter._experimental_lower_tensor_list_ops = False
        return converter

    ways = [
        (None, free),
        ("batch size fixed to 1: the model has loops (LSTM, GRU) that TFLite can't convert with a free batch size", fixed),
        ("uses TensorFlow operators (SELECT_TF_OPS): it runs only where the flex delegate is linked, not in LiteRT's Python interpreter", flex),
    ]
    return [(note, lambda way=way: way().convert()) for note, way in ways if way is not None]


def _from_keras_3(tf, model, folder):
    """A TFLiteConverter with a free batch size. TensorFlow's own way asks for `model.inputs`, which a subclassed model does not have, unless it is seen as a functional one."""
    from tflite_smart.activations import graph_of

    graph = graph_of(model)
    if graph is not None:
        return tf.lite.TFLiteConverter.from_keras_model(graph if getattr(model, "inputs", None) is None else model)
    return tf.lite.TFLiteConverter.from_saved_model(_export(tf, model, folder, None))


def _integer_ways(tf, free, trained: list[np.ndarray], folder: str):
    """Of a model that was trained to round its activations: int8 from end to end, or float inputs and outputs where an operator at an end has no integer form.

    Args:
        free: function that makes the TFLiteConverter.
        trained: weights of fewer than 8 bits perhaps, see `trained_grids`.
    """

    def quantized(kind) -> bytes:
        converter = free()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = kind
        edited = Model.read(converter.convert())
        trained_grids.restore(edited, trained)
        path = os.path.join(folder, "integer.tflite")
        edited.write(path, overwrite=True)
        with open(path, "rb") as file:
            return file.read()

    return [(None, lambda: quantized(tf.int8)), ("inputs and outputs are float32: the first or last operators do not run in integers", lambda: quantized(tf.float32))]


def _export(tf, model, folder: str, batch: int | None) -> str:
    """Exports a Keras 3 model as a SavedModel with that batch size."""
    import keras

    path = os.path.join(folder, f"saved_model_{batch}")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.__call__, input_signature=[_specs(tf, model, batch)])
    archive.write_out(path, verbose=False)
    return path


def _fixed_tf_keras(tf, model):
    return tf.lite.TFLiteConverter.from_concrete_functions([tf.function(model).get_concrete_function(_specs(tf, model, 1))], model)


def _specs(tf, model, batch: int | None):
    """The model's inputs, in their own structure, with that batch size."""
    structure = getattr(getattr(model, "_functional", model), "_inputs_struct", None)  # Keras 3; a Sequential keeps it in its functional model
    if structure is None and _keras_kind(model) == "keras":
        return _specs_of_subclassed(tf, model, batch)
    if structure is None:
        structure = model.input  # tf_keras
    return tf.nest.map_structure(lambda tensor: tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=tensor.name.split(":")[0]), structure)


def _specs_of_subclassed(tf, model, batch: int | None):
    """All that Keras remembers of what a subclassed model was called on is the shapes: the inputs are taken for floats."""
    import keras
    from tflite_smart.activations import input_shapes

    shapes = input_shapes(model)
    if shapes is None:
        raise UnsupportedModelError(f"{model.name}: a subclassed model must have been called on one input, or one list or dict of them. Received: other arguments. Wrap it in a functional model.")
    return keras.tree.map_shape_structure(lambda shape: tf.TensorSpec((batch, *shape[1:]), tf.float32), shapes)


def _load(path: str):
    """A Keras file: Keras 3 first, tf_keras for files of Keras 2 that Keras 3 no longer reads."""
    failures = []
    for package in ("keras", "tf_keras"):
        try:
            module = __import__(package)
            if package == "keras":
                import tflite_smart.wrap  # noqa: F401  a wrapped model is made of its layers
        except ImportError as error:
            failures.append(f"{package}: {error}")
            continue
        try:
            return module.models.load_model(path, compile=False)
        except Exception as error:  # layers raise whatever they like from their configuration
            failures.append(f"{package}: {_shorten(str(error))}")
    raise UnsupportedModelError(
        f"{path}: must load with Keras. Received: {'; '.join(failures)}. For custom layers, load it yourself and pass the model object to `tflite_smart.convert`."
    )


def _keras_kind(model) -> str | None:
    packages = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    return next((package for package in ("tf_keras", "keras") if package in packages), None)


def _check_path(path: str) -> None:
    if not os.path.exists(path):
        raise ModelFormatError(f"{path}: path must exist. Received: no such file or folder. Check the path.")
    if os.path.isdir(path):
        if not os.path.exists(os.path.join(path, "saved_model.pb")):
            raise ModelFormatError(f"{path}: folder must be a SavedModel. Received: one without saved_model.pb. Give the folder that holds it, or a file.")
        return
    with open(path, "rb") as file:
        hdf5 = file.read(8) == _HDF5_MAGIC
    if not hdf5 and not zipfile.is_zipfile(path):
        raise ModelFormatError(f"{path}: file must be a Keras archive or HDF5. Received: neither. It is truncated or another format; save the model again.")


def _tensorflow():
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"  # no other backend can be exported here
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingDependencyError(f"tensorflow: must be installed to read Keras models. Received: {error}. Run `pip install tflite_smart[keras]`, or pass a .tflite.") from error
    return tf


@contextlib.contextmanager
def _silenced():
    """Sends what TensorFlow's C++ writes to the terminal into a file that nobody reads: a failure also comes as an exception."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    logger = logging.getLogger("tensorflow")
    level, absl_level = logger.level, logging.getLogger("absl").level
    with tempfile.TemporaryFile("w+", errors="replace") as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        logging.getLogger("absl").setLevel(logging.ERROR)
        for number in kept:
            os.dup2(heard.fileno(), number)
        try:
            # Python's streams need not be the descriptors: not in a notebook.
            with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            logger.setLevel(level)
            logging.getLogger("absl").setLevel(absl_level)


def _first_line(error: Exception) -> str:
    """The line of the converter's long message that says what is wrong."""
    text = str(error)
    found = re.search(r"error: (.*)", text)
    return _shorten(found.group(1) if found else text)


def _shorten(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    return line if len(line) <= 300 else line[:297] + "..."
