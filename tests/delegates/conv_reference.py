"""Naive float64 convolution with the sum of absolute products beside it, which is what the tolerance of a float32 kernel is made of."""

import numpy as np

_LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}


def conv2d(x, filters, *, stride=(1, 1), dilation=(1, 1), padding="SAME"):
    """x (b, h, w, c), filters (n, fh, fw, i), c / i groups -> y (b, oh, ow, n) in float64, by TFLite's rules of padding."""
    n, filter_h, filter_w, per_group_in = filters.shape
    groups = x.shape[3] // per_group_in
    per_group_out = n // groups
    reach = [(f - 1) * d + 1 for f, d in zip((filter_h, filter_w), dilation)]
    if padding == "SAME":
        out = [-(-size // s) for size, s in zip(x.shape[1:3], stride)]
    else:
        out = [(size - r) // s + 1 for size, r, s in zip(x.shape[1:3], reach, stride)]
    total = [max(0, (o - 1) * s + r - size) for o, s, r, size in zip(out, stride, reach, x.shape[1:3])]
    before = total[0] // 2, total[1] // 2
    # More zeros than needed at the end, so that VALID can use the same slices.
    padded = np.pad(x.astype(np.float64), ((0, 0), (before[0], total[0]), (before[1], total[1]), (0, 0)))
    y = np.zeros((x.shape[0], *out, n))
    for h in range(filter_h):
        for w in range(filter_w):
            rows = slice(h * dilation[0], h * dilation[0] + (out[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(w * dilation[1], w * dilation[1] + (out[1] - 1) * stride[1] + 1, stride[1])
            window = padded[:, rows, columns]
            for group in range(groups):
                inputs = window[..., group * per_group_in : (group + 1) * per_group_in]
                outputs = slice(group * per_group_out, (group + 1) * per_group_out)
                y[..., outputs] += inputs @ filters[outputs, h, w].T.astype(np.float64)
    return y


def finish(y, bias, activation):
    low, high = _LIMITS[activation]
    return np.clip(y if bias is None else y + bias, low, high)


def assert_close(got, expected, magnitude, terms):
    """Compares a float32 result with a float64 one.

    Args:
        magnitude: what the sum would be with |x|, |w| and |bias| for x, w and bias.
        terms: length of the sum. Whatever the order of the additions, every product meets at most `terms` roundings of half an ulp, of sums
            that never exceed `magnitude`; the conversion of the weight, scale, bias and clamp add a few. Twice that is allowed.
    """
    assert got.shape == expected.shape
    tolerance = 2 * (terms + 4) * np.finfo(np.float32).eps / 2 * magnitude + 1e-30
    error = np.abs(got - expected)
    assert np.all(error <= tolerance), f"largest error / tolerance: {np.max(error / tolerance)}"
