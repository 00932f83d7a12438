"""Which made-up inputs a network was trained for: those that keep its ReLUs undecided.

After training (with batch normalisation above all) the inputs of a ReLU lie on both sides of zero in nearly every channel. Inputs of the wrong range or offset destroy that: too large
ones silence the biases, too small ones leave nothing but the biases, and channel after channel is always on or always off. So the mean entropy of 'is it positive?', in bits per
channel, tells ranges apart without data: on seven trained networks the right one has the highest, whether images of 0 to 255, normalised images or spectra in decibels.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tflite_smart.converter import calibration
from tflite_smart.converter.model_editor import Model


def undecided_bits(open_interpreter: Callable, model, sets: Mapping[str, list]) -> dict[str, float]:
    """Mean entropy of the sign per ReLU channel, for every set of inputs; empty for a model without ReLUs.

    A ReLU is what is never negative and sometimes 0, whichever operator made it.

    Args:
        open_interpreter: gives an unallocated LiteRT interpreter of a path or bytes that keeps all tensors (`keep_tensors=True`).
        model: path or bytes.
        sets: name -> samples `[sample][input]`.
    """
    interpreter = open_interpreter(model, keep_tensors=True)
    made = [int(index) for op in Model.read(model).schema.subgraphs[0].operators or () for index in op.outputs]
    lowest: dict[int, float] = {}
    positive: dict[str, dict[int, np.ndarray]] = {name: {} for name in sets}
    for name, samples in sets.items():
        for sample in samples:
            calibration.run(interpreter, sample)
            for index in made:
                values = interpreter.get_tensor(index)
                if values.dtype == np.float32 and values.ndim > 1 and values.size:
                    lowest[index] = min(lowest.get(index, np.inf), float(values.min()))
                    share = np.mean((values > 0).reshape(-1, values.shape[-1]), axis=0)
                    positive[name][index] = positive[name].get(index, 0) + share / len(samples)
    relus = [index for index in made if lowest.get(index) == 0]
    return {name: float(np.mean([_entropy(shares[index]) for index in relus])) for name, shares in positive.items()} if relus else {}


def _entropy(share: np.ndarray) -> float:
    """Mean over the channels, in bits."""
    inside = share[(share > 0) & (share < 1)]
    return float(-(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside)).sum() / share.size)
