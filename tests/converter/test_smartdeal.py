"""SmartDeal's mathematics: groups, exact cases, convergence, the target, and a model converted with it."""

import numpy as np
import pytest

from tflite_smart.converter import smartdeal
from tflite_smart.converter.codecs import smartdeal as codec
from tflite_smart.converter.compress import TensorSettings, compress_tensor, expand_blob
from tflite_smart.converter.format import Quantized, from_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(2101)


def relative_error(weights, fitted):
    return float(np.linalg.norm(weights - smartdeal.reconstruct(fitted)) / np.linalg.norm(weights))


def test_coefficients_are_powers_of_two():
    ids = np.array([0, 1, -1, 2, 7, -7, 15, 16, 127, -128], np.int8)
    assert codec.coefficients(ids).tolist() == [0, 1, -1, 2, 64, -64, 2**14, 2**14, 2**14, -(2**14)]


@pytest.mark.parametrize("elements, size, stride", [(12, 3, 4), (12, 3, 2), (12, 3, 1), (13, 3, 1), (1, 8, 1), (50, 5, 10)])
def test_groups_and_back(rng, elements, size, stride):
    matrix = rng.normal(size=(4, elements))
    grouped = codec.groups(matrix, size, stride)
    assert np.array_equal(codec.from_groups(grouped, stride, elements), matrix)
    for g in range(grouped.shape[1]):
        for s in range(size):
            k = g // stride * size * stride + s * stride + g % stride
            assert np.array_equal(grouped[:, g, s], matrix[:, k] if k < elements else np.zeros(4))


@pytest.mark.parametrize(
    "inner, spatial, expected",
    [((3, 3, 16), True, (3, 16, 48)), ((3, 3, 512), True, (3, 512, 192)), ((5, 5, 8), True, (5, 8, 40)), ((7, 7, 3), True, (7, 3, 21)), ((1, 1, 64), True, (3, 1, 22)),
     ((3, 3, 1024), True, (3, 1, 192)), ((11, 11, 3), True, (3, 1, 121)), ((3, 3), True, (3, 1, 3)), ((1000,), False, (3, 1, 167))],
)  # fmt: skip
def test_every_kernel_size_has_groups(inner, spatial, expected):
    size, stride, slice_groups = smartdeal.grouping(inner, spatial)
    assert (size, stride, slice_groups) == expected
    assert stride == 1 or codec.piece(int(np.prod(inner)), size, stride) <= codec.MAX_PIECE


def test_powers_of_two_are_found_exactly(rng):
    """Weights that are powers of two times the identity: nothing is lost but what 8 bits of basis lose."""
    ids = rng.integers(-7, 8, (16, 96)).astype(np.int8)
    weights = (codec.coefficients(ids) * 0.01).astype(np.float32)
    fitted = smartdeal.decompose(weights, (3, 1, 32), 0.0)
    assert relative_error(weights, fitted) < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 60), (3, 20, 30), (5, 4, 20)])
def test_error_falls_with_the_penalty_to_the_floor_of_powers_of_two(rng, shape):
    """Between two powers of two an error uniform in the mantissa has the rms .147; the basis helps a little, the code lengths take."""
    weights = rng.normal(size=(24, 300)).astype(np.float32)
    errors = [relative_error(weights, smartdeal.decompose(weights, shape, penalty)) for penalty in (1.0, 0.1, 0.01, 0.0)]
    sparsity = [np.mean(smartdeal.decompose(weights, shape, penalty).ids == 0) for penalty in (1.0, 0.1, 0.01)]
    assert errors == sorted(errors, reverse=True) and sparsity == sorted(sparsity, reverse=True)
    assert 0.10 < errors[-1] < 0.20 and sparsity[0] > 0.5


def test_ids_fit_four_bits_and_are_deterministic(rng):
    weights = rng.standard_cauchy((8, 200)).astype(np.float32)
    first, second = (smartdeal.decompose(weights, (3, 1, 67), 0.02) for _ in range(2))
    assert np.abs(first.ids).max() <= smartdeal.EXPONENTS
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.basis.values, second.basis.values)


@pytest.mark.parametrize("target", [0.2, 0.3, 0.5])
def test_target_error(rng, target):
    weights = rng.laplace(size=(32, 288)).astype(np.float32)
    assert target * 0.9 < relative_error(weights, smartdeal.decompose_to_error(weights, (3, 32, 96), target)) < target * 1.1


@pytest.mark.parametrize("bits", [1.5, 2.5])
def test_target_size(rng, bits):
    weights = rng.laplace(size=(32, 288)).astype(np.float32)
    fitted = smartdeal.decompose_to_size(weights, (3, 32, 96), bits)
    counts = np.bincount(fitted.ids.reshape(-1).astype(int) + 7)
    share = counts[counts > 0] / fitted.ids.size
    assert bits * 0.9 < -(share * np.log2(share)).sum() + smartdeal.basis_bits(288, 3, 96) < bits * 1.1


def test_zeros_stay(rng):
    """Channels and groups of zeros, as channel-wise and vector-wise pruning leave them."""
    weights = rng.normal(size=(10, 60)).astype(np.float32)
    weights[3] = 0
    grouped = codec.groups(weights, 3, 1)
    grouped[:, ::4] = 0
    weights = codec.from_groups(grouped, 1, 60)
    rebuilt = smartdeal.reconstruct(smartdeal.decompose(weights, (3, 1, 10), 0.01))
    assert np.all(rebuilt[weights == 0] == 0) and np.all(rebuilt[3] == 0)


def test_errors_cancel_over_a_channel(rng):
    """Against inputs with a mean, as after a ReLU, the sum of the errors counts: a random walk over 288 weights would leave 3 times more."""
    weights = rng.normal(size=(32, 288)).astype(np.float32)
    error = weights - smartdeal.reconstruct(smartdeal.decompose(weights, (3, 32, 96), 0.05))
    assert np.std(error.sum(axis=1)) < np.std(error) * np.sqrt(288) / 3


@pytest.mark.parametrize("shape, axis", [((40, 3, 3, 24), 0), ((33, 1, 1, 50), 0), ((70, 301), 0)])
def test_packed_and_expanded(rng, shape, axis):
    values = rng.normal(size=shape).astype(np.float32)
    inner = shape[:axis] + shape[axis + 1 :]
    result = compress_tensor(values, axis, TensorSettings("smartdeal", 0.25, grouping=smartdeal.grouping(inner, len(shape) == 4)))
    assert result.value_kind == "smartdeal" and 0.22 < result.relative_error < 0.29 and 2 < result.bits_per_weight < 5.5
    assert isinstance(result.quantized, Quantized)
    expanded = expand_blob(result.blob, shape, axis)
    assert np.array_equal(expanded, from_matrix(result.quantized.values(), shape, axis))
    assert np.abs(expanded - values).max() <= result.max_error
