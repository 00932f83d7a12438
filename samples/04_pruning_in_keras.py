"""Story 4: I want to prune while training, as in tfmot's guide, but with Keras 3, and see the file shrink without zipping it.

    python samples/04_pruning_in_keras.py
"""

import mnist

import tflite_smart as ts
from tflite_smart import schedules

model = mnist.trained_model()
before, after = mnist.OUT / "mnist.smart.tflite", mnist.OUT / "04.smart.tflite"
with mnist.quiet():
    ts.convert(model, output=before, overwrite=True)

# tfmot's schedules are accepted as well. No callback: the masks are updated by the training step itself.
steps = 2 * -(-len(mnist.data()[0][0]) // 128)
schedule = schedules.PolynomialDecay(initial_sparsity=0.5, final_sparsity=0.9, begin_step=0, end_step=steps // 2, frequency=20)
pruned = ts.smart_wrap(model, {"global_config": {"name": "prune", "sparsity": schedule}, "min_weight_elements": 1000})
with mnist.quiet():
    mnist.train(pruned, epochs=2)
ts.summary(pruned)
with mnist.quiet():
    ts.convert(pruned, output=after, overwrite=True)
mnist.report("compressed", before)
mnist.report("pruned to 90 % and compressed", after)
