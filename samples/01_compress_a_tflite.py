"""Story 1: I have a float .tflite and want a smaller one that answers the same.

    python samples/01_compress_a_tflite.py

On the command line it is two lines:
    tflite_smart convert digits_float.tflite -o digits.smart.tflite
    tflite_smart verify digits_float.tflite digits.smart.tflite
"""

import digits
import numpy as np

import tflite_smart as ts

source = digits.tflite("float")
target = digits.OUT / "01.smart.tflite"
ts.convert(source, output=target, overwrite=True)
print(f"{source.name}: {source.stat().st_size:,} bytes, {target.name}: {target.stat().st_size:,} bytes")

# The same interpreter class opens both; it loads the delegate where the model needs it.
_, (x, y) = digits.data()
answers = {}
for path in (source, target):
    interpreter = ts.Interpreter(model_path=str(path), num_threads=2)
    # Any number of images at once: the compressed ops can be resized like the others.
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    answers[path] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    print(f"{path.name}: {np.mean(answers[path].argmax(1) == y):.1%} of {len(y)} digits right")
print(f"largest difference of a probability: {np.abs(answers[source] - answers[target]).max():.4f}")
