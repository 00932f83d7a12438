"""One tensor: weights to a packed weight and back."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from tflite_smart.converter import buckets, feedback, smartdeal, structure
from tflite_smart.converter.codecs import CODECS, CodecParameters
from tflite_smart.converter.codecs.base import MAX_ID, MIN_ID
from tflite_smart.converter.errors import UnpackableWeightError, require
from tflite_smart.converter.format import PANEL, PackedWeight, Quantized, from_matrix, tile_count, tile_order, to_matrix
from tflite_smart.delegates import native

# A tile more costs `tile_overhead_bytes` and makes random access and threads finer: cut where the overhead is this small a part.
_TILE_OVERHEAD = 0.004

_EXACT_BITS = 1.0  # what it may cost per weight to keep what somebody trained exactly
# How many bits per id a unit of `Codec.decode_time` is worth. Where weights come from memory and are used once, such a unit takes as long as reading 2 to 4 bits.
_DECODE_WEIGHT = {"size": 0.0, "balanced": 0.05, "latency": 2.0}


@dataclasses.dataclass(frozen=True)
class TensorSettings:
    """How to compress one tensor; made by `allocate` from the recipe.

    Attributes:
        buckets: `dependent` (where that pays, else `uniform`), `uniform`, `midrise`, `binary`, `smartdeal`, or `integer` for tensors that are int8 already.
        relative_error: rms error over rms weight to aim at; unused for `binary` and `integer`.
        channel_exponent: see `buckets.bucket_steps`.
        codecs: names to choose from.
        objective: `size`, `balanced` or `latency`: how much decoding time counts in that choice; None, if nobody has asked for one: `size`.
        taps: height and width of the filter, which say what typical inputs have in common (`feedback.TypicalInputs`); None rounds every weight for itself.
        compute: arithmetic that the operator asks for, `f32` or `int8`; None says nothing. Changes no byte of the packed weight.
        grouping: of `smartdeal.grouping`, for those buckets.
    """

    buckets: str = "uniform"
    relative_error: float = 0.01
    channel_exponent: float = 1.0
    codecs: tuple[str, ...] = ("raw", "bitpack", "rans", "sparse")
    objective: str | None = None
    taps: tuple[int, int] | None = (1, 1)
    compute: str | None = None
    grouping: tuple[int, int, int] = (3, 1, smartdeal.SLICE_GROUPS)


@dataclasses.dataclass(frozen=True)
class CompressedTensor:
    """A packed weight and what it cost.

    Attributes:
        blob: the bytes of FORMAT.md.
        quantized: what `blob` must decode to.
        codec: its name.
        bits_per_weight: everything counted.
        max_error: largest |w - w'|, in the unit of the weights.
        relative_error: rms error over rms weight; 0 for `integer`.
    """

    blob: bytes
    quantized: Quantized
    codec: str
    bits_per_weight: float
    max_error: float
    relative_error: float

    @property
    def value_kind(self) -> str:
        return self.quantized.value_kind


def compress_tensor(
    values: np.ndarray,
    axis: int,
    settings: TensorSettings,
    factor: np.ndarray | None = None,
    trained: Iterable[Quantized] = (),
    rounded: Quantized | None = None,
    target: np.ndarray | None = None,
) -> CompressedTensor:
    """Compresses one constant tensor.

    Args:
        values: float32 or int8, any shape with at least one element, finite.
        axis: the channel axis.
        settings: see `TensorSettings`. An int8 tensor is stored as it is, whatever they ask for.
        factor: of `feedback.feedback_factor`, from the layer's inputs; None rounds without data.
        rounded: what these values and settings became before, where that is known; it is not done again.
        target: float32 `(num_channels, channel_elements)`, what to round instead of the values, see `sequential`. Errors are those of the values all the same.
        trained: what a training handed over of all weights; the one whose values these are, but for the scales, is kept exactly. See `structure`.

    Raises:
        ValueError: for another dtype.
        UnpackableWeightError: for inf and nan, and for weights so large or small that float32 steps fail.
    """
    matrix = to_matrix(values, axis)
    if values.dtype == np.int8:
        quantized = Quantized(matrix, "integer")
    elif values.dtype == np.float32:
        if not np.isfinite([matrix.min(), matrix.max()]).all():  # nan wins both; no array of flags
            raise UnpackableWeightError("weights must be finite. Received: inf or nan.")
        handed_over = (structure.with_scales(matrix, candidate) for candidate in trained)
        quantized = next(filter(None, handed_over), None) or rounded or _quantize(matrix, settings, factor, matrix if target is None else target)
    else:
        raise ValueError(f"weights must be float32 or int8. Received: {values.dtype}.")
    inner = int(np.prod(values.shape[axis + 1 :], dtype=np.int64))
    packed = pack(quantized, inner, settings)
    blob = packed.to_bytes()
    max_error, relative_error = (0.0, 0.0) if quantized.scales is None else _errors(matrix, quantized)
    if not np.isfinite(max_error) or _vanished(quantized) and matrix.any():
        raise UnpackableWeightError(f"weights must keep their size. Received: relative error {relative_error:.2g}, largest error {max_error:.2g}.")
    return CompressedTensor(blob, quantized, packed.codec, 8 * len(blob) / values.size, max_error, relative_error)


def pack(quantized: Quantized, inner_elements: int, settings: TensorSettings = TensorSettings()) -> PackedWeight:
    """Chooses a codec for the ids, cuts them in tiles and encodes those."""
    q, ids = quantized, quantized.ids
    codec, parameters, bits_per_id = choose_codec(ids, settings)
    panels = _panels_per_tile(ids.shape, bits_per_id, CODECS[codec].tile_overhead_bytes)
    encode = _tile_encoder(codec)
    tiles = [encode(tile_order(ids, tile, panels), parameters) for tile in range(tile_count(len(ids), panels))]
    return PackedWeight(codec, q.value_kind, parameters, *ids.shape, inner_elements, panels, q.scales, q.codebook, tiles, q.basis)


def expand_blob(blob: bytes, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The tensor that every decoder must reproduce bit for bit: float32, or int8 for `integer`."""
    packed = PackedWeight.from_bytes(blob)
    # Looked at before anything is decoded: 100 bytes may stand for 2^31 weights.
    stored = packed.num_channels, packed.channel_elements, packed.inner_elements
    inner = math.prod(shape[axis + 1 :])
    require("shape", stored == (shape[axis], math.prod(shape[:axis]) * inner, inner), shape, f"that of N={stored[0]}, K={stored[1]}, inner_elements={stored[2]}")
    return from_matrix(packed.expand(), shape, axis)


def choose_codec(ids: np.ndarray, settings: TensorSettings) -> tuple[str, CodecParameters, float]:
    """The cheapest codec for these ids under the settings' objective: name, parameters and bits per id."""
    histogram = _histogram(ids)
    weight = _DECODE_WEIGHT[settings.objective or "size"]
    best = None
    for name in settings.codecs:
        for parameters, bits, time in CODECS[name].plans(histogram):
            bits += 8 * CODECS[name].tile_overhead_bytes
            cost = bits + weight * time
            if best is None or cost < best[0]:
                best = cost, name, parameters, bits / ids.size
    if best is None:
        raise ValueError(f"codecs must hold one that can store these ids. Received: codecs={settings.codecs}. Add `raw`.")
    return best[1:]


def _histogram(ids: np.ndarray) -> np.ndarray:
    """Counts of the ids -128..127. Block by block, as bincount makes 64-bit copies."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(ids), PANEL):
        counts += np.bincount(np.ascontiguousarray(ids[start : start + PANEL]).reshape(-1).view(np.uint8), minlength=256)
    return np.roll(counts, -MIN_ID)  # from the order 0..127, -128..-1 to -128..127


def entropy(ids: np.ndarray) -> float:
    """Order-0 entropy in bits per id."""
    share = _histogram(ids) / ids.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def _quantize(matrix: np.ndarray, settings: TensorSettings, factor: np.ndarray | None, target: np.ndarray) -> Quantized:
    if settings.buckets == "binary":
        ids, scales = buckets.binarize(matrix)
        return Quantized(ids, "midrise", scales)
    if settings.buckets == "midrise":
        return _round(target, settings, factor)
    rounded = _decompose(target, settings) if settings.buckets == "smartdeal" else _round(target, settings, factor)
    exact = structure.recognise(matrix)
    return exact if exact is not None and _bits(exact) <= _bits(rounded) + _EXACT_BITS * matrix.size else rounded


def _bits(quantized: Quantized) -> float:
    """What it will take, but for the scales: the ids' entropy, codebook or bases."""
    tables = [quantized.codebook, quantized.basis and quantized.basis.values]
    return entropy(quantized.ids) * quantized.ids.size + sum(8 * table.nbytes for table in tables if table is not None)


def _round(matrix: np.ndarray, settings: TensorSettings, factor: np.ndarray | None) -> Quantized:
    """Error-bounded buckets."""
    value_kind, steps = grid(matrix, buckets.bucket_steps(matrix, settings.relative_error, settings.channel_exponent), settings.buckets)
    ids = feedback.round_ids(matrix, steps, known_inputs(matrix.shape[1], settings.taps, factor), value_kind)
    if value_kind != "midrise":
        steps = np.where(ids.any(axis=1), steps, np.float32(0))  # channels of nothing need no range in the bytes of the scales
    return Quantized(ids, value_kind, steps)


def grid(matrix: np.ndarray, steps: np.ndarray, kind: str) -> tuple[str, np.ndarray]:
    """Value kind and scales of error-bounded buckets of these steps; `kind` is what the settings say."""
    finer = buckets.dependent_steps(matrix, steps) if kind == "dependent" else None
    if finer is not None:
        return "dependent", finer
    least = np.abs(matrix).max(axis=1) / np.float32(MAX_ID + 0.25)  # no weight is ever clipped
    return "midrise" if kind == "midrise" else "uniform", buckets.coarse(steps, matrix.shape[1], np.where(steps > 0, least, 0))


def known_inputs(size: int, taps: tuple[int, int] | None, factor: np.ndarray | None) -> feedback.Inputs:
    """What is known of the inputs that the `size` weights of a channel meet."""
    if factor is not None:
        return feedback.MeasuredInputs(factor)
    return feedback.TypicalInputs(taps, size // math.prod(taps)) if taps else feedback.IndependentInputs()


def _decompose(matrix: np.ndarray, settings: TensorSettings) -> Quantized:
    """Coefficients and bases."""
    fitted = smartdeal.decompose_to_error(matrix, settings.grouping, settings.relative_error)
    return Quantized(fitted.ids, "smartdeal", fitted.scales, basis=fitted.basis)


def _errors(matrix: np.ndarray, quantized: Quantized) -> tuple[float, float]:
    """Largest error, and rms error over rms weight, some channels at a time to bound the memory."""
    largest = squares = power = 0.0
    for part in buckets.blocks(matrix.shape):
        error = matrix[part] - quantized.values(part)
        largest = max(largest, float(np.abs(error).max()))
        squares += float(np.square(error, dtype=np.float64).sum())
        power += float(np.square(matrix[part], dtype=np.float64).sum())
    return largest, float(np.sqrt(squares / power)) if power else 0.0


def _vanished(quantized: Quantized) -> bool:
    """Nothing is left, as of weights below the smallest float32 step."""
    return quantized.value_kind in ("uniform", "dependent") and not quantized.ids[quantized.scales != 0].any()


def _panels_per_tile(shape: tuple[int, int], bits_per_id: float, tile_overhead_bytes: int) -> int:
    """The fewest panels for which the tile's overhead stays below `_TILE_OVERHEAD`, evened out over the tiles."""
    num_panels = -(-shape[0] // PANEL)
    panel_bytes = max(1.0, PANEL * shape[1] * bits_per_id / 8)
    fewest = min(num_panels, int(np.ceil(tile_overhead_bytes / _TILE_OVERHEAD / panel_bytes)))
    num_tiles = max(1, num_panels // fewest)
    return -(-num_panels // num_tiles)


def _tile_encoder(codec: str):
    """The C++ encoder where the library is built, else the reference; the bytes are the same."""
    try:
        native.library()
    except native.DelegateLibraryError:
        return CODECS[codec].encode_tile
    return lambda ids, parameters: native.encode_tile(ids, codec, parameters)
