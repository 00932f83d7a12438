"""Runs a model with the delegate in LiteRT's interpreter."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

from tflite_smart.delegates import native


def make_interpreter(content, *, resize=None, **options):
    """LiteRT's interpreter with the delegate; `resize` gives the first input a new shape.

    The models of these tests are small: unless asked otherwise they keep no ids, so that every run decodes, as large models do.
    """
    options = {"cache_bytes": 0, **options}
    interpreter = Interpreter(model_content=content, experimental_delegates=[load_delegate(native.library_path(), options)])
    if resize is not None:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], resize)
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter, x) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run(content, x, **options) -> np.ndarray:
    """The model's first output for one input, which gets the shape of `x`."""
    return invoke(make_interpreter(content, resize=x.shape, **options), x)
