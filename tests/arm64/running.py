"""Runs a model so that only our own code can differ between processors: all other ops on LiteRT's reference kernels, plain C++ without instruction sets.

XNNPACK's sums and LiteRT's optimized integer kernels are written for each processor and round each in their own way.
"""

import os

from ai_edge_litert.interpreter import OpResolverType
import numpy as np

import tflite_smart as ts


def reference_interpreter(path: str | os.PathLike):
    interpreter = ts.Interpreter(model_path=os.fspath(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs for the inputs, both in the model's order."""
    for detail, value in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
