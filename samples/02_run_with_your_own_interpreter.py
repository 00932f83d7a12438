"""Story 2: my application builds LiteRT's interpreter itself; what do I change to run a smart model?

    python samples/02_run_with_your_own_interpreter.py

One argument. Without it LiteRT says which op it does not know, and the op's name says what to load. The same library goes into
benchmark_model (--external_delegate_path), C++ (TfLiteExternalDelegateCreate) and TensorFlow's interpreter.
"""

from ai_edge_litert.interpreter import Interpreter
import digits

import tflite_smart as ts

path = digits.OUT / "02.smart.tflite"
ts.convert(digits.tflite("float"), output=path, overwrite=True)

try:
    Interpreter(model_path=str(path)).allocate_tensors()
except RuntimeError as error:
    print(f"plain LiteRT: {error}\n")

interpreter = Interpreter(model_path=str(path), experimental_delegates=[ts.load_delegate({"num_threads": 2})])
interpreter.allocate_tensors()
_, (x, y) = digits.data()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[:1])
interpreter.invoke()
scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
print(f"with the delegate: {scores.argmax()} with probability {scores.max():.3f}; the label is {y[0]}")
