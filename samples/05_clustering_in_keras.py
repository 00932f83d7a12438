"""Story 5: I want the weights of a layer to share 16 values, as in tfmot's clustering guide, but with Keras 3, and zeros of a pruning to stay zero.

    python samples/05_clustering_in_keras.py
"""

import mnist

import tflite_smart as ts

model = mnist.trained_model()
before, after = mnist.OUT / "mnist.smart.tflite", mnist.OUT / "05.smart.tflite"
with mnist.quiet():
    ts.convert(model, output=before, overwrite=True)

# Methods in a list follow each other on the weight: first half of it is pruned, then what is left is clustered.
methods = [{"name": "prune", "sparsity": 0.5}, {"name": "cluster", "num_clusters": 16}]
clustered = ts.smart_wrap(model, {"global_config": methods, "min_weight_elements": 1000})
with mnist.quiet():
    mnist.train(clustered, epochs=1, learning_rate=3e-4)
ts.summary(clustered)
with mnist.quiet():
    ts.convert(clustered, output=after, overwrite=True)
mnist.report("compressed", before)
mnist.report("pruned, clustered and compressed", after)
