"""Training in several processes: two workers of MultiWorkerMirroredStrategy stay equal, with no line of ours between them.

The loop is written by hand: under this strategy the `fit` and `train_on_batch` of Keras 3.15 fail for every model, plain ones too.
"""

import json
import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("keras", reason="Keras and a backend are needed to train")
pytest.importorskip("tensorflow", reason="Keras and a backend are needed to train")

WORKER = """
import hashlib, numpy as np, tensorflow as tf, keras, tflite_smart as ts
from tflite_smart.methods import Prune

strategy = tf.distribute.MultiWorkerMirroredStrategy()
keras.utils.set_random_seed(5)
with strategy.scope():
    wrapped = ts.smart_wrap(keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4)]), ts.WrapConfig(Prune(0.5), min_weight_elements=16))
    optimizer = keras.optimizers.SGD(0.1, 0.9)
    optimizer.build(wrapped.trainable_variables)

def replica_step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((wrapped(x, training=True) - y) ** 2)
    optimizer.apply(tape.gradient(loss, wrapped.trainable_variables))

@tf.function
def train_step(x, y):
    strategy.run(replica_step, (x, y))

rng, worker = np.random.default_rng(5), strategy.cluster_resolver.task_id
for _ in range(4):
    x, y = rng.random((2, 8, 8), np.float32), rng.random((2, 8, 4), np.float32)
    train_step(x[worker], y[worker])
for weight in ts.smart_weights(wrapped):
    print(int(weight.step.numpy()), np.mean(weight.finish().weight == 0), hashlib.sha256(np.asarray(weight.raw.value)).hexdigest())
print(worker)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_workers_stay_equal():
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        workers.append(subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment))
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], outputs[0][1][-2000:] + outputs[1][1][-2000:]
    first, second = (output.split() for output, _ in outputs)
    assert (first[-1], second[-1]) == ("0", "1")
    assert first[:-1] == second[:-1] and first[0:2] == first[3:5] == ["4", "0.5"]
