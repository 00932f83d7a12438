"""SmartDeal beside plain buckets: the error of a model's weights at equal storage, without retraining.

    python tests/bench/smartdeal_table.py MODEL.tflite

Both are entropy-coded; ids at their entropy, scales and bases counted. `zeros` is the sparsity of the coefficients. Powers of two can't be finer than they are: below some 16 % error SmartDeal only pays bits.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tflite_smart.converter import buckets, smartdeal
from tflite_smart.converter.format import to_matrix
from tflite_smart.converter.model_editor import Model
from tflite_smart.converter.selection import find_weights

PENALTIES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.3)
OPS = ("CONV_2D", "FULLY_CONNECTED")


def entropy(ids: np.ndarray) -> float:
    """Bits per id."""
    share = np.unique(ids, return_counts=True)[1] / ids.size
    return float(-(share * np.log2(share)).sum())


def bucket_error(matrix: np.ndarray, bits: float) -> float:
    """Squared error over power of uniform buckets whose ids have this entropy."""
    low, high = 1e-3, 3.0
    for _ in range(20):
        middle = np.sqrt(low * high)
        steps = buckets.bucket_steps(matrix, middle)
        ids = buckets.to_buckets(matrix, steps)
        low, high = (middle, high) if entropy(ids) > bits else (low, middle)
    return float(np.square(matrix - steps[:, None] * ids).sum() / np.square(matrix).sum())


def measure(matrices: list[tuple[np.ndarray, tuple[int, int, int]]], penalty: float) -> tuple[float, float, float, float]:
    """Bits per weight, relative errors of SmartDeal and of buckets, sparsity: all layers together."""
    size = sum(matrix.size for matrix, _ in matrices)
    bits = error = plain = zeros = 0.0
    for matrix, shape in matrices:
        fitted = smartdeal.decompose(matrix, shape, penalty)
        ids_bits = entropy(fitted.ids) + smartdeal.basis_bits(matrix.shape[1], shape[0], shape[2])
        bits += (ids_bits + 32 / matrix.shape[1]) * matrix.size
        error += np.square(matrix - smartdeal.reconstruct(fitted)).sum() / np.square(matrix).sum() * matrix.size
        plain += bucket_error(matrix, ids_bits) * matrix.size
        zeros += np.sum(fitted.ids == 0)
    return bits / size, np.sqrt(error / size), np.sqrt(plain / size), zeros / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    weights, _ = find_weights(Model.read(parser.parse_args().model))
    matrices = []
    for weight in weights:
        if weight.info.op_type in OPS and weight.info.dtype == "float32":
            values = weight.values()
            matrices.append((to_matrix(values, 0), smartdeal.grouping(values.shape[1:], weight.info.op_type == "CONV_2D")))
    print("penalty  bits/weight  times smaller  SmartDeal error  bucket error  zeros")
    for penalty in PENALTIES:
        bits, error, plain, zeros = measure(matrices, penalty)
        print(f"{penalty:7g}  {bits:11.2f}  {32 / bits:13.1f}  {error:15.3f}  {plain:12.3f}  {zeros:5.2f}", flush=True)


if __name__ == "__main__":
    main()
