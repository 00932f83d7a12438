"""Every op against a naive float64 reference, on every instruction set."""

import numpy as np
import pytest

from tests.delegates import conv_reference as reference
from tests.delegates import models
from tests.delegates.running import run


def check_conv(rng, x_shape, filter_shape, *, bias=True, num_threads=1, weight=None, activation="NONE", **geometry):
    """filter_shape: (n, h, w, channels per group)."""
    weight = weight or models.random_weight(rng, filter_shape, 0)
    x = rng.normal(size=x_shape).astype(np.float32)
    bias = rng.normal(size=filter_shape[0]).astype(np.float32) if bias else None
    stride, dilation, padding = geometry.get("stride", (1, 1)), geometry.get("dilation", (1, 1)), geometry.get("padding", "SAME")
    content = models.conv_model(
        x_shape, weight, filter_shape[1:], bias=bias, activation=activation, padding=padding,
        stride_h=stride[0], stride_w=stride[1], dilation_h=dilation[0], dilation_w=dilation[1],
    )  # fmt: skip
    got = run(content, x, num_threads=num_threads)
    filters = weight.expand().reshape(filter_shape)
    expected = reference.finish(reference.conv2d(x, filters, **geometry), bias, activation)
    magnitude = reference.conv2d(np.abs(x), np.abs(filters), **geometry) + (0 if bias is None else np.abs(bias))
    reference.assert_close(got, expected, magnitude, weight.channel_elements)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 3), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 1)), ((1, 1), (1, 2)), ((2, 1), (2, 3))])
@pytest.mark.parametrize("filter_size", [(1, 1), (3, 3), (2, 5)])
def test_conv2d_geometry(rng, isa, filter_size, stride, dilation, padding):
    check_conv(rng, (2, 11, 13, 5), (34, *filter_size, 5), stride=stride, dilation=dilation, padding=padding)


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])
@pytest.mark.parametrize("bias", [True, False])
def test_conv2d_epilogue(rng, isa, activation, bias):
    check_conv(rng, (1, 5, 7, 8), (40, 3, 3, 8), activation=activation, bias=bias)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 70])
def test_output_channels(rng, isa, n):
    check_conv(rng, (1, 4, 5, 3), (n, 2, 2, 3))


# One chunk of the kernel is at most 288, one piece of the lockstep schedule 288, several whole panels fit up to 576, one up to 2304.
@pytest.mark.parametrize("panels_per_tile", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 31, 32, 33, 287, 288, 289, 575, 577, 1100, 2305, 4700])
def test_reduction_length(rng, isa, k, panels_per_tile):
    weight = models.random_weight(rng, (70, 1, 1, k), 0, codec="raw", panels_per_tile=panels_per_tile)
    check_conv(rng, (1, 3, 5, k), (70, 1, 1, k), weight=weight)


@pytest.mark.parametrize("positions", range(1, 30))
def test_rows(rng, isa, positions):
    check_conv(rng, (1, 1, positions, 6), (33, 1, 1, 6))


def test_more_panels_than_a_batch(rng, isa):
    weight = models.random_weight(rng, (32 * 70 + 5, 1, 1, 3), 0, codec="raw", panels_per_tile=3)
    check_conv(rng, (1, 3, 5, 3), (32 * 70 + 5, 1, 1, 3), weight=weight)


@pytest.mark.parametrize("codec", ["raw", "bitpack", "rans", "sparse"])
@pytest.mark.parametrize("value_kind", ["uniform", "midrise", "codebook", "dependent"])
def test_codecs_and_values(rng, isa, codec, value_kind):
    weight = models.random_weight(rng, (41, 3, 3, 40), 0, codec=codec, value_kind=value_kind)
    check_conv(rng, (2, 4, 4, 40), (41, 3, 3, 40), weight=weight)


# (groups, channels per group in, out): whole panels a group, panels across groups, and so many groups a panel that the lanes take over.
@pytest.mark.parametrize("groups, group_in, group_out", [(2, 5, 32), (2, 3, 40), (3, 4, 11), (4, 2, 8), (8, 4, 4), (16, 2, 2), (20, 3, 1), (33, 1, 1), (12, 7, 3), (5, 2, 1)])
def test_grouped_conv2d(rng, isa, groups, group_in, group_out):
    check_conv(rng, (2, 5, 6, groups * group_in), (groups * group_out, 3, 3, group_in), activation="RELU")


def test_grouped_conv2d_with_long_lanes(rng, isa):
    """More k than the lanes take at once, and a cut inside the channels of one pixel."""
    weight = models.random_weight(rng, (12, 3, 3, 300), 0, codec="raw")
    check_conv(rng, (1, 4, 4, 3600), (12, 3, 3, 300), weight=weight)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
@pytest.mark.parametrize("x_shape, n, filter_size, panels_per_tile", [((1, 20, 20, 16), 40, 3, 1), ((1, 9, 9, 64), 200, 1, 2), ((5, 1, 1, 700), 333, 1, 1)])
def test_threads_do_not_change_a_bit(rng, x_shape, n, filter_size, panels_per_tile, num_threads):
    weight = models.random_weight(rng, (n, filter_size, filter_size, x_shape[3]), 0, panels_per_tile=panels_per_tile)
    x = rng.normal(size=x_shape).astype(np.float32)
    content = models.conv_model(x_shape, weight, (filter_size, filter_size, x_shape[3]))
    np.testing.assert_array_equal(run(content, x, num_threads=num_threads), run(content, x, num_threads=1))


def check_depthwise(rng, x_shape, filter_size, multiplier, *, weight=None, **geometry):
    channels = x_shape[3]
    n = channels * multiplier
    weight = weight or models.random_weight(rng, (1, *filter_size, n), 3, panels_per_tile=1)
    x = rng.normal(size=x_shape).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32)
    stride, dilation, padding = geometry.get("stride", (1, 1)), geometry.get("dilation", (1, 1)), geometry.get("padding", "SAME")
    content = models.conv_model(
        x_shape, weight, filter_size, bias=bias, depth_multiplier=multiplier, activation="RELU6", padding=padding,
        stride_h=stride[0], stride_w=stride[1], dilation_h=dilation[0], dilation_w=dilation[1],
    )  # fmt: skip
    filters = weight.expand().reshape(n, *filter_size, 1)
    expected = reference.finish(reference.conv2d(x, filters, **geometry), bias, "RELU6")
    magnitude = reference.conv2d(np.abs(x), np.abs(filters), **geometry) + np.abs(bias)
    reference.assert_close(run(content, x, num_threads=2), expected, magnitude, weight.channel_elements)


@pytest.mark.parametrize("multiplier", [1, 2, 3, 40])
@pytest.mark.parametrize("channels", [1, 5, 31, 32, 33, 70])
def test_depthwise_channels(rng, isa, channels, multiplier):
    check_depthwise(rng, (2, 6, 5, channels), (3, 3), multiplier)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [((2, 2), (1, 1)), ((1, 2), (1, 1)), ((1, 1), (2, 2)), ((2, 1), (1, 3))])
def test_depthwise_geometry(rng, isa, stride, dilation, padding):
    check_depthwise(rng, (1, 11, 12, 36), (3, 4), 1, stride=stride, dilation=dilation, padding=padding)


COLUMNS = [((1, 1), (1, 1), "SAME"), ((2, 1), (1, 1), "SAME"), ((3, 2), (1, 1), "VALID"), ((1, 1), (3, 1), "SAME"), ((2, 3), (2, 1), "VALID")]


@pytest.mark.parametrize("stride, dilation, padding", COLUMNS)
def test_columns(rng, isa, stride, dilation, padding):
    """Images of one pixel's width, as sound comes in: computed as lines."""
    geometry = {"stride": stride, "dilation": dilation, "padding": padding}
    check_conv(rng, (2, 37, 1, 12), (40, 5, 1, 12), num_threads=2, **geometry)
    check_conv(rng, (1, 30, 1, 70), (33, 4, 1, 70), **geometry)
    check_depthwise(rng, (2, 37, 1, 70), (10, 1), 1, **geometry)
    check_depthwise(rng, (1, 19, 1, 9), (3, 1), 2, **geometry)


def test_depthwise_with_a_huge_filter(rng, isa):
    """More k than is decoded at once."""
    check_depthwise(rng, (1, 6, 7, 40), (46, 46), 1)


@pytest.mark.parametrize("keep_num_dims, x_shape", [(0, (1, 50)), (0, (5, 50)), (0, (2, 5, 10)), (1, (2, 3, 50)), (1, (13, 50)), (1, (50,))])
@pytest.mark.parametrize("bias", [True, False])
def test_fully_connected_shapes(rng, isa, keep_num_dims, x_shape, bias):
    check_fully_connected(rng, x_shape, 37, 50, keep_num_dims, bias)


@pytest.mark.parametrize("k", [1, 33, 600, 3000])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 14])
def test_fully_connected_sizes(rng, isa, rows, k):
    check_fully_connected(rng, (rows, k), 70, k, 0, True)


def check_fully_connected(rng, x_shape, n, k, keep_num_dims, with_bias):
    weight = models.random_weight(rng, (n, k), 0, codec="bitpack")
    x = rng.normal(size=x_shape).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32) if with_bias else None
    got = run(models.fully_connected_model(x_shape, weight, bias=bias, keep_num_dims=keep_num_dims, activation="RELU"), x)
    shape = (*x_shape[:-1], n) if keep_num_dims else (x.size // k, n)
    rows, filters = x.reshape(-1, k).astype(np.float64), weight.expand().astype(np.float64)
    expected = reference.finish(rows @ filters.T, bias, "RELU")
    magnitude = np.abs(rows) @ np.abs(filters).T + (0 if bias is None else np.abs(bias))
    reference.assert_close(got, expected.reshape(shape), magnitude.reshape(shape), k)


@pytest.mark.parametrize("value_kind", ["integer", "uniform", "midrise", "codebook", "dependent"])
@pytest.mark.parametrize("shape, axis", [((1,), 0), ((70, 3, 3, 5), 0), ((1, 3, 3, 70), 3), ((4, 33, 7), 1), ((3, 2, 40, 17), 2), ((700, 40), 1), ((40, 700), 0), ((31, 9), 0)])
def test_expand_is_exact(rng, isa, shape, axis, value_kind):
    panels_per_tile = 2 if shape[axis] > 32 else 1
    codec = "rans" if np.prod(shape) > 1 else "raw"  # rANS needs two symbols
    weight = models.random_weight(rng, shape, axis, value_kind=value_kind, codec=codec, panels_per_tile=panels_per_tile)
    matrix = weight.expand()
    expected = np.moveaxis(matrix.reshape(shape[axis], *shape[:axis], *shape[axis + 1 :]), 0, axis)
    got = run(models.expand_model(weight, shape, axis), np.ones((1, 4), np.float32), num_threads=2)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("panels_per_tile", [1, 3])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("row_shape", [(5,), (300,), (2, 3)])
def test_gather_is_exact(rng, isa, row_shape, dtype, panels_per_tile):
    weight = models.random_weight(rng, (200, *row_shape), 0, panels_per_tile=panels_per_tile)
    table = weight.expand().reshape(200, *row_shape)
    content = models.gather_model(weight, row_shape, (1, 4), dtype)
    for indices in (rng.integers(0, 200, (3, 7)), np.array([[199]]), np.array([[0, 0, 199, 0, 31, 32]]), np.arange(200)[None, ::-1]):
        got = run(content, indices.astype(dtype), num_threads=2)
        np.testing.assert_array_equal(got, table[indices])
