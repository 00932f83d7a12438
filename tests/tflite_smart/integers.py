"""Running a model that takes and gives int8."""

import numpy as np

import tflite_smart as ts


def run_integers(path, x):
    """Outputs in steps of the output's scale, and that scale and zero point."""
    interpreter = ts.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == result["dtype"] == np.int8
    scale, zero_point = given["quantization"]
    outputs = []
    for sample in x:
        interpreter.set_tensor(given["index"], np.clip(np.rint(sample / scale) + zero_point, -128, 127).astype(np.int8)[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"])[0].astype(int))
    return np.array(outputs), *result["quantization"]
