"""Story 6: I want quantization-aware training in Keras 3 that ends in a model without a single float, for 8 and for 4 bit weights.

    python samples/06_integer_training_in_keras.py
"""

import mnist

import tflite_smart as ts

model = mnist.trained_model()
with mnist.quiet():
    ts.convert(model, output=mnist.OUT / "mnist.smart.tflite", overwrite=True)
mnist.report("float, compressed", mnist.OUT / "mnist.smart.tflite")

for bits in (8, 4, 2):
    recipe = {"global_config": {"name": "quantize", "bits": bits}, "op_name_configs": {"^first/": {"name": "quantize", "bits": 8}}, "min_weight_elements": 1, "activation_bits": 8}
    wrapped, path = ts.smart_wrap(model, recipe), mnist.OUT / f"06_{bits}_bits.smart.tflite"
    with mnist.quiet():
        mnist.train(wrapped, epochs=1, learning_rate=3e-4)
        # The converter finds the trained ranges and the trained ids; nothing is calibrated, nothing rounded again.
        ts.convert(wrapped, output=path, overwrite=True)
    mnist.report(f"integers, weights of {bits} bits, compressed", path)
