"""Classifies one array: `python classify.py smart.tflite picture.npy [--num-threads 4]`. Runs on a Raspberry Pi and everywhere else."""

import argparse
import resource
import time

import numpy as np

import tflite_smart as ts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a .tflite file, smart or plain")
    parser.add_argument("input", help=".npy with one input, shaped and scaled as the model takes it")
    parser.add_argument("--num-threads", type=int, default=4)
    parser.add_argument("--top", type=int, default=5, help="how many classes to print")
    arguments = parser.parse_args()

    start = time.perf_counter()
    interpreter = ts.Interpreter(model_path=arguments.model, num_threads=arguments.num_threads)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(source["index"], np.load(arguments.input).reshape(source["shape"]).astype(source["dtype"]))
    interpreter.invoke()
    cold = time.perf_counter() - start

    start = time.perf_counter()
    interpreter.invoke()
    warm = time.perf_counter() - start

    scores = interpreter.get_tensor(result["index"]).reshape(-1)
    for label in np.argsort(-scores)[: arguments.top]:
        print(f"class {label}: {scores[label]:.4f}")
    print(f"open and first run {1000 * cold:.1f} ms, second run {1000 * warm:.1f} ms, "
          f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
