"""One process with everything in it: TensorFlow with oneDNN, its interpreter and LiteRT's, each with XNNPACK and a delegate of its own, all at work at once.

`python -m tests.delegates.one_process_child LIBRARY COPY_OF_IT MODEL.tflite INPUT.npy OUTPUTS.npz` saves what each interpreter gave on its own and what it gave among the others.
"""

import sys
import threading

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from tensorflow.python.util import _pywrap_util_port

from tests.delegates.running import invoke

NUM_RUNS = 40


def make(kind, library: str, model: str, num_threads: int):
    load = tf.lite.experimental.load_delegate if kind is tf.lite.Interpreter else litert.load_delegate
    interpreter = kind(model, num_threads=2, experimental_delegates=[load(library, {"num_threads": num_threads})])
    interpreter.allocate_tensors()
    return interpreter


def main(library: str, copy: str, model: str, source: str, result: str) -> None:
    x = np.load(source)
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((32, 32, 8)), keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.Conv2D(8, 3)])
    picture = np.random.default_rng(1).normal(size=(4, 32, 32, 8)).astype(np.float32)
    # The copy is another library to the loader: its code and its variables are there twice.
    kinds = [(tf.lite.Interpreter, library, 2), (litert.Interpreter, library, 2), (litert.Interpreter, copy, 1)]
    interpreters = [make(kind, path, model, num_threads) for kind, path, num_threads in kinds]
    alone, keras_alone = [invoke(i, x) for i in interpreters], network(picture).numpy()

    together, errors = [[] for _ in interpreters], []
    start = threading.Barrier(len(interpreters) + 1)

    def work(interpreter, outputs):
        try:
            start.wait()
            outputs += [invoke(interpreter, x) for _ in range(NUM_RUNS)]
        except Exception as error:  # a thread's exception would be lost
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(interpreters, together)]
    for thread in threads:
        thread.start()
    start.wait()
    keras_together = [network(picture).numpy() for _ in range(NUM_RUNS)]
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    # One delegate goes while the other two stay; then another comes.
    del interpreters[1]
    late = invoke(make(litert.Interpreter, library, model, 2), x)
    np.savez(result, alone=alone, together=together, late=late, keras_alone=keras_alone, keras_together=keras_together,
             onednn=_pywrap_util_port.IsMklEnabled(), ops=[op["op_name"] for op in interpreters[0]._get_ops_details()])


if __name__ == "__main__":
    main(*sys.argv[1:])
