"""Models and what this machine computes with them: the emulated one must come to the same.

A case is NAME.tflite and NAME.npz: arrays `input_0 ...` and `output_0 ...` in the model's order, and `tolerance_0 ...`: 0 for integers, which must be equal.
All runs are without XNNPACK and on LiteRT's reference kernels (running.py).
"""

from pathlib import Path

import numpy as np

import tflite_smart as ts
from tests.arm64.running import invoke, reference_interpreter
from tests.delegates import models
from tests.tflite_smart.conftest import build_model
from tflite_smart.arrays import random_inputs
from tflite_smart.delegates import native

SEED = 5
# Instruction sets add in different orders. How far that moves the outputs of this very model is measured here, between all of this machine's; another
# order may be some times worse. And 2^-18, 32 units in the last place, for LiteRT's own kernels.
SPREAD_FACTOR, RELATIVE = 8, 2.0**-18


def make_cases(folder: Path, trained_models: Path) -> list[str]:
    """Writes all cases that are not there yet; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {**hand_built(), **trained(trained_models)}
    for name, make in makers.items():
        if not (folder / f"{name}.npz").exists():
            make(folder / f"{name}.tflite")
            np.savez(folder / f"{name}.npz", **reference(folder / f"{name}.tflite"))
    return list(makers)


def hand_built() -> dict:
    """One model of each op, without the converter, and a small network through it."""
    rng = np.random.default_rng(SEED)
    weight = lambda *arguments, **options: models.random_weight(rng, *arguments, **options)  # noqa: E731
    bias = rng.normal(size=70).astype(np.float32)
    contents = {
        "conv": models.conv_model((1, 9, 11, 5), weight((70, 3, 3, 5), 0), (3, 3, 5), bias=bias, activation="RELU", stride_h=2),
        "conv_1x1_bitpack": models.conv_model((1, 8, 8, 40), weight((70, 1, 1, 40), 0, codec="bitpack"), (1, 1, 40), bias=bias),
        "conv_codebook": models.conv_model((1, 8, 8, 8), weight((33, 3, 3, 8), 0, value_kind="codebook"), (3, 3, 8)),
        "depthwise": models.conv_model((1, 10, 10, 70), weight((1, 3, 3, 70), 3), (3, 3, 1), bias=bias, depth_multiplier=1),
        "fully_connected": models.fully_connected_model((3, 300), weight((70, 300), 0, panels_per_tile=2), bias=bias),
        "conv_int8": models.conv_model((2, 9, 11, 5), weight((70, 3, 3, 5), 0), (3, 3, 5), bias=bias, activation="RELU6", compute="int8"),
        "fully_connected_int8": models.fully_connected_model((3, 300), weight((70, 300), 0), bias=bias, compute="int8"),
        "fully_connected_sparse": models.fully_connected_model((1, 64), weight((40, 64), 0, codec="sparse")),
        "gather": models.gather_model(weight((200, 24), 0, codec="raw"), (24,), (2, 5)),
        "expand_float": models.expand_model(weight((40, 3, 3, 5), 0), (40, 3, 3, 5), 0),
        "expand_int8": models.expand_model(weight((40, 3, 3, 5), 0, value_kind="integer"), (40, 3, 3, 5), 0),
    }
    makers = {name: lambda path, content=content: path.write_bytes(content) for name, content in contents.items()}
    makers["network"] = lambda path: convert(build_model(), path)
    return makers


def trained(folder: Path) -> dict:
    """The trained models, where they are; of two files of one network the .tflite."""
    paths = [path for kind in ("*.tflite", "*.keras", "*.h5") for path in sorted(folder.glob(kind))]
    networks = {path.stem.removesuffix("_float").removesuffix("_fp32"): path for path in reversed(paths)}
    return {path.stem: lambda out, path=path: convert(str(path), out) for path in networks.values()}


def convert(model, path: Path) -> None:
    # A fixed error: what the recipe would choose is not the question here, and finding it takes time.
    ts.convert(model, recipe={"global_config": {"relative_error": 0.03}}, output=str(path), overwrite=True)


def reference(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a case."""
    details = reference_interpreter(path).get_input_details()
    inputs = [a.reshape(d["shape"]) for d, a in zip(details, random_inputs(details, 1, SEED).values())]
    by_isa = []
    for isa in reversed(native.isa_names()):
        native.force_isa(isa)
        by_isa.append(invoke(reference_interpreter(path), inputs))
    native.force_isa(None)
    arrays = {f"input_{i}": a for i, a in enumerate(inputs)}
    for i, output in enumerate(by_isa[0]):
        arrays[f"output_{i}"] = output
        arrays[f"tolerance_{i}"] = np.float64(0)
        if output.dtype.kind == "f":
            spread = max(np.max(np.abs(other[i] - output), initial=0) for other in by_isa)
            arrays[f"tolerance_{i}"] = SPREAD_FACTOR * spread + RELATIVE * np.max(np.abs(output), initial=0)
    return arrays
