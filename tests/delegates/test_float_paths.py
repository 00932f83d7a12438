"""The float32 kernels that are chosen by shape, each at the edges of its choice: Winograd, depthwise windows, one position, batches of tiles."""

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.running import run
from tests.delegates.test_kernels import check_conv, check_depthwise, check_fully_connected

# --- Winograd: 3x3, stride 1, 17 to 512 channels; pieces of 64 channels, pairs of panels, blocks of 12 tiles of 2x2 outputs.


@pytest.mark.parametrize("channels", [15, 16, 17, 63, 64, 65, 130])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_winograd_channels(rng, isa, channels, padding):
    check_conv(rng, (1, 9, 10, channels), (33, 3, 3, channels), padding=padding, activation="RELU6")


@pytest.mark.parametrize("n", [1, 8, 31, 32, 33, 64, 65, 100])
@pytest.mark.parametrize("panels_per_tile", [1, 2, 3])
def test_winograd_output_channels(rng, isa, n, panels_per_tile):
    weight = models.random_weight(rng, (n, 3, 3, 20), 0, panels_per_tile=min(panels_per_tile, -(-n // 32)))
    check_conv(rng, (1, 8, 8, 20), (n, 3, 3, 20), weight=weight)


@pytest.mark.parametrize("height, width", [(6, 8), (7, 7), (8, 9), (5, 13), (12, 11), (2, 24)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_winograd_images(rng, isa, height, width, padding):
    check_conv(rng, (3, height, width, 18), (40, 3, 3, 18), padding=padding if height > 2 else "SAME", bias=False)


@pytest.mark.parametrize("codec, value_kind", [("raw", "midrise"), ("bitpack", "uniform"), ("sparse", "codebook"), ("rans", "midrise")])
def test_winograd_values(rng, isa, codec, value_kind):
    weight = models.random_weight(rng, (41, 3, 3, 70), 0, codec=codec, value_kind=value_kind)
    check_conv(rng, (1, 8, 8, 70), (41, 3, 3, 70), weight=weight)


# --- One row, of which AVX-512 makes integers, 128 numbers at a time.


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 3e30])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 15, 17, 127, 128, 129, 131, 300])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_one_row_of_all_sizes(rng, isa, cache_bytes, k, size):
    """Every number counts in full, whatever the others are: the error is that of floats, by what the row and the weights of a channel have in their largest."""
    weight = models.random_weight(rng, (70, k), 0)
    x = (rng.normal(size=(1, k)) * 10.0 ** rng.uniform(-6, 0, k) * size).astype(np.float32)
    y = run(models.fully_connected_model(x.shape, weight), x, cache_bytes=cache_bytes)
    filters = weight.expand().astype(np.float64)
    bound = np.abs(x).max() * np.abs(filters).sum(1) * 2.0**-22 + 2.0**-149 * (1 + np.abs(filters).sum(1))
    assert np.all(np.abs(y - x.astype(np.float64) @ filters.T) <= bound)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_row_that_is_not_finite(rng, isa, number):
    weight, x = models.random_weight(rng, (70, 300), 0), rng.normal(size=(1, 300)).astype(np.float32)
    x[0, 200] = number
    y = run(models.fully_connected_model(x.shape, weight), x, cache_bytes=1 << 20)
    ids = weight.expand()[:, 200]
    assert np.all(np.isnan(y[0][ids == 0])) and np.all(~np.isfinite(y[0][ids != 0]))


# --- Threads: many parts of the image, fewer parts than threads, panels instead of parts.


@pytest.mark.parametrize("num_threads", [2, 3, 8])
@pytest.mark.parametrize("filter_size", [1, 3, 5])
@pytest.mark.parametrize("height, width", [(30, 29), (14, 14), (8, 7), (2, 3)])
def test_threads_do_not_change_a_bit(rng, filter_size, height, width, num_threads):
    weight = models.random_weight(rng, (70, filter_size, filter_size, 32), 0)
    x = rng.normal(size=(1, height, width, 32)).astype(np.float32)
    content = models.conv_model(x.shape, weight, (filter_size, filter_size, 32))
    np.testing.assert_array_equal(run(content, x, num_threads=num_threads), run(content, x, num_threads=1))


@pytest.mark.parametrize("num_threads", [2, 3])
@pytest.mark.parametrize("n, k, panels_per_tile", [(320, 64, 1), (300, 200, 1), (380, 40, 2), (128, 2600, 1), (190, 1300, 2)])
def test_threads_that_share_tiles_do_not_change_a_bit(rng, n, k, panels_per_tile, num_threads):
    """So few positions that no thread decodes what another one does; the last two: in pieces, side by side."""
    weight = models.random_weight(rng, (n, 1, 1, k), 0, panels_per_tile=panels_per_tile)
    x = rng.normal(size=(1, 7, 7, k)).astype(np.float32)
    content = models.conv_model(x.shape, weight, (1, 1, k))
    np.testing.assert_array_equal(run(content, x, num_threads=num_threads), run(content, x, num_threads=1))


@pytest.mark.parametrize("height", [8, 40])
def test_threads_do_not_change_a_depthwise_bit(rng, height):
    weight = models.random_weight(rng, (1, 3, 3, 200), 3)
    x = rng.normal(size=(1, height, 11, 200)).astype(np.float32)
    content = models.conv_model(x.shape, weight, (3, 3), depth_multiplier=1)
    np.testing.assert_array_equal(run(content, x, num_threads=3), run(content, x, num_threads=1))


# --- Windows that are multiplied where they lie: at most 288 weights a channel; lines of whole windows in 12, 6 or 4, in 8 or 4 and the rest.


@pytest.mark.parametrize("filter_size, channels, stride", [((3, 3), 3, 1), ((3, 3), 16, 1), ((3, 3), 32, 2), ((5, 2), 7, 1), ((1, 4), 9, 2), ((7, 7), 3, 2)])
@pytest.mark.parametrize("padding, width", [("SAME", 46), ("SAME", 25), ("VALID", 31), ("VALID", 40)])
def test_windows_in_place(rng, isa, filter_size, channels, stride, padding, width):
    check_conv(rng, (2, 9, width, channels), (40, *filter_size, channels), stride=(1, stride), padding=padding, activation="RELU")


@pytest.mark.parametrize("codec, panels_per_tile", [("raw", 1), ("rans", 3), ("bitpack", 2)])
def test_windows_in_place_of_many_panels(rng, isa, codec, panels_per_tile):
    weight = models.random_weight(rng, (90, 3, 3, 32), 0, codec=codec, panels_per_tile=panels_per_tile)
    check_conv(rng, (1, 12, 44, 32), (90, 3, 3, 32), weight=weight, stride=(2, 2))


@pytest.mark.parametrize("num_threads", [2, 3, 8])
def test_threads_do_not_change_a_bit_of_windows_in_place(rng, num_threads):
    weight = models.random_weight(rng, (40, 3, 3, 3), 0)
    x = rng.normal(size=(2, 31, 45, 3)).astype(np.float32)
    content = models.conv_model(x.shape, weight, (3, 3, 3))
    np.testing.assert_array_equal(run(content, x, num_threads=num_threads), run(content, x, num_threads=1))


# --- Depthwise: windows of 3 and 5 columns with stride 1 and 2, others; blocks of 8, 4 and 1 positions; channels in vectors and parts of them.


@pytest.mark.parametrize("filter_size", [(3, 3), (5, 5), (2, 4), (1, 7)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("width", [3, 5, 8, 13, 26])
def test_depthwise_windows(rng, isa, filter_size, stride, width):
    check_depthwise(rng, (1, 7, width, 40), filter_size, 1, stride=stride)


@pytest.mark.parametrize("channels", [3, 4, 8, 12, 16, 20, 24, 48, 100])
def test_depthwise_parts_of_vectors(rng, isa, channels):
    check_depthwise(rng, (2, 6, 11, channels), (3, 3), 1)


def test_depthwise_windows_outside_the_image(rng, isa):
    """A dilated window whose columns are all outside but one."""
    check_depthwise(rng, (1, 3, 4, 33), (5, 5), 1, dilation=(3, 3))


# --- One position.


@pytest.mark.parametrize("panels_per_tile", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 32, 33, 96, 129, 300])
def test_one_position(rng, isa, n, panels_per_tile):
    weight = models.random_weight(rng, (n, 1, 1, 200), 0, panels_per_tile=min(panels_per_tile, -(-n // 32)))
    check_conv(rng, (1, 1, 1, 200), (n, 1, 1, 200), weight=weight, activation="RELU_N1_TO_1")


@pytest.mark.parametrize("value_kind", ["uniform", "midrise", "codebook"])
def test_one_position_values(rng, isa, value_kind):
    weight = models.random_weight(rng, (45, 1, 1, 131), 0, value_kind=value_kind)
    check_conv(rng, (1, 1, 1, 131), (45, 1, 1, 131), weight=weight)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_one_position_on_threads(rng, num_threads):
    weight = models.random_weight(rng, (400, 700), 0)
    x = rng.normal(size=(1, 700)).astype(np.float32)
    content = models.fully_connected_model(x.shape, weight)
    np.testing.assert_array_equal(run(content, x, num_threads=num_threads), run(content, x, num_threads=1))


def test_one_row_of_a_fully_connected_layer(rng, isa):
    check_fully_connected(rng, (1, 1030), 97, 1030, 0, True)


# --- Batches: whole tiles, several at once; and one panel of several tiles in step, where two tiles don't fit (2304 k in all).


@pytest.mark.parametrize("k, n, panels_per_tile", [(100, 330, 1), (100, 330, 2), (300, 200, 3), (700, 230, 2), (2400, 70, 3), (1200, 300, 1)])
def test_batches_of_tiles(rng, isa, k, n, panels_per_tile):
    weight = models.random_weight(rng, (n, 1, 1, k), 0, panels_per_tile=panels_per_tile)
    check_conv(rng, (1, 3, 5, k), (n, 1, 1, k), weight=weight)


@pytest.mark.parametrize("filter_size, stride, width", [(3, 2, 12), (3, 1, 9), (2, 2, 7)])
def test_few_input_channels(rng, isa, filter_size, stride, width):
    """Short lines of the window, packed whole, next to those that the border cuts."""
    check_conv(rng, (2, 8, width, 3), (16, filter_size, filter_size, 3), stride=(stride, stride))
