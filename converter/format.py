"""The packed weight: header, sections and tiles, in the order of FORMAT.md.

This is the readable reference. Conversion uses the C++ encoder for the tiles where the library is built; both write the same bytes.
"""

import dataclasses
import math
import struct
import zlib

import numpy as np

from tflite_smart.converter import channel_codes, trellis
from tflite_smart.converter.channel_codes import MAX_CODE_BITS, Bias, ScaleCodes
from tflite_smart.converter.codecs import BY_NUMBER, CODECS, CodecParameters, smartdeal
from tflite_smart.converter.codecs.base import LANES
from tflite_smart.converter.errors import PackedWeightError, require

MAGIC = b"TFSW"
VERSION = 0
HEADER_BYTES = 36
READABLE_BYTES = 40  # that at least follow the payload
PANEL = 32
CODEBOOK_SIZE = 256
MAX_ELEMENTS = (1 << 31) - 1
VALUE_KINDS = {"integer": 0, "uniform": 1, "midrise": 2, "codebook": 3, "dependent": 4, "smartdeal": 5}

_HEADER = struct.Struct("<4sBBBBbBBBIIIHBBII")
assert _HEADER.size == HEADER_BYTES
_GROUPING = struct.Struct("<III")


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Ids and what they mean: FORMAT.md, 1.

    Attributes:
        ids: int8 `(num_channels, channel_elements)`.
        value_kind: name in `VALUE_KINDS`.
        scales: float32 `(num_channels,)`; None for `integer`.
        codebook: float32 `(256,)` for `codebook`, else None.
        basis: for `smartdeal`, else None.
    """

    ids: np.ndarray
    value_kind: str
    scales: np.ndarray | None = None
    codebook: np.ndarray | None = None
    basis: smartdeal.Basis | None = None

    def values(self, channels: slice = slice(None)) -> np.ndarray:
        """The weights of some channels: `scale * value(id)` in float32, or the ids themselves."""
        ids = self.ids[channels]
        if self.value_kind == "integer":
            return ids
        if self.value_kind == "codebook":
            values = self.codebook[ids.astype(np.int16) + 128]
        elif self.value_kind == "smartdeal":
            values = smartdeal.rebuild(ids, dataclasses.replace(self.basis, values=self.basis.values[..., channels]))
        else:
            values = trellis.plain_values(ids, self.value_kind)
        values *= self.scales[channels, None]
        return values


@dataclasses.dataclass(frozen=True)
class PackedWeight:
    """A packed weight with its tiles still encoded.

    Attributes:
        codec: name in `codecs.CODECS`.
        value_kind: name in `VALUE_KINDS`.
        parameters: the codec's.
        num_channels, channel_elements, inner_elements, panels_per_tile: FORMAT.md, 3.
        scales: float32 `(num_channels,)`; None for `integer`.
        codebook: float32 `(256,)` for `codebook`, else None.
        tiles: one bytes object per tile.
        basis: for `smartdeal`, else None.
        bias: of the operator that multiplies, where it is stored here, else None.
    """

    codec: str
    value_kind: str
    parameters: CodecParameters
    num_channels: int
    channel_elements: int
    inner_elements: int
    panels_per_tile: int
    scales: np.ndarray | None
    codebook: np.ndarray | None
    tiles: list[bytes]
    basis: smartdeal.Basis | None = None
    bias: Bias | None = None

    @property
    def num_tiles(self) -> int:
        return tile_count(self.num_channels, self.panels_per_tile)

    def to_bytes(self) -> bytes:
        """The packed weight as it stands in the file."""
        ends = np.cumsum([len(tile) for tile in self.tiles])
        if ends[-1] >= 1 << 32:
            raise PackedWeightError(f"packed weight: payload must be under 4 GiB. Received: {ends[-1]} bytes. Split the tensor.")
        front = b""
        if self.basis is not None:
            front = _GROUPING.pack(self.basis.group_size, self.basis.group_stride, self.basis.slice_groups) + self.basis.values.astype(np.int8).tobytes()
        payload = b"".join([front, *self.tiles])
        coded = ScaleCodes.of(self.scales)
        codes = b"".join(part.to_bytes() for part in (coded, self.bias) if part is not None)
        sections = b"" if self.codebook is None else self.codebook.astype("<f4").tobytes()
        sections += bytes(self.parameters.frequencies)
        if coded is None and self.scales is not None:
            sections += self.scales.astype("<f4").tobytes()
        sections += ends[:-1].astype("<u4").tobytes()
        behind = b"".join([codes, bytes(-(len(payload) + len(codes)) % 4), sections])
        rest = b"".join([payload, behind, bytes(max(0, READABLE_BYTES - len(behind)))])
        header = self._header(coded, int(ends[-1]))
        return b"".join([header, struct.pack("<I", zlib.crc32(rest, zlib.crc32(header))), rest])

    def _header(self, coded: ScaleCodes | None, payload_bytes: int) -> bytes:
        p = self.parameters
        scale_exponent, scale_coding = (0, 0) if coded is None else (coded.exponent, coded.bits | coded.mantissa_bits << 4)
        packed = _HEADER.pack(
            MAGIC, VERSION, CODECS[self.codec].number, VALUE_KINDS[self.value_kind], p.raw_bits, p.base, p.num_symbols, p.has_escape, scale_exponent,
            self.num_channels, self.channel_elements, self.inner_elements, self.panels_per_tile, 0 if self.bias is None else self.bias.bits, scale_coding,
            payload_bytes, 0,
        )  # fmt: skip
        return packed[:-4]

    @classmethod
    def from_bytes(cls, data: bytes) -> "PackedWeight":
        """Parses and checks everything that FORMAT.md, 5 asks for, rule by rule in its order. Raises PackedWeightError."""
        smallest = HEADER_BYTES + READABLE_BYTES
        require("size", len(data) >= smallest, len(data), f"at least {smallest} bytes")
        (magic, version, codec, kind, raw_bits, base, num_symbols, has_escape, scale_exponent,
         channels, elements, inner, panels, bias_bits, scale_coding, payload_bytes, crc) = _HEADER.unpack(data[:HEADER_BYTES])  # fmt: skip
        names = {number: name for name, number in VALUE_KINDS.items()}
        require("magic", magic == MAGIC, magic, MAGIC)
        require("version", version == VERSION, version, VERSION)
        require("codec", codec in BY_NUMBER, codec, sorted(BY_NUMBER))
        require("value_kind", kind in names, kind, sorted(names))
        _check_channel_codes(names[kind], scale_exponent, scale_coding, bias_bits)
        name = BY_NUMBER[codec].name
        _check_parameters(name, CodecParameters(raw_bits, base, num_symbols, has_escape))
        most_panels = -(-channels // PANEL)
        require("num_channels", channels >= 1, channels, "at least 1")
        require("channel_elements", elements >= 1, elements, "at least 1")
        require("num_elements", channels * elements <= MAX_ELEMENTS, channels * elements, f"at most {MAX_ELEMENTS}")
        require("inner_elements", inner >= 1 and elements % inner == 0, inner, f"a divisor of {elements}")
        require("panels_per_tile", 1 <= panels <= most_panels, panels, f"1..{most_panels}")

        num_tiles, front, basis = tile_count(channels, panels), HEADER_BYTES, None
        if names[kind] == "smartdeal":
            grouping = _read_grouping(data[HEADER_BYTES:], elements)
            basis_shape = (smartdeal.num_slices(elements, grouping[0], grouping[2]), grouping[0], grouping[0], channels)
            front += _GROUPING.size + math.prod(basis_shape)
        codebook_size = CODEBOOK_SIZE if names[kind] == "codebook" else 0
        scale_bits, mantissa_bits = scale_coding & 15, scale_coding >> 4
        sizes = [4 * codebook_size, 16 if name == "rans" else 0, 0 if names[kind] == "integer" or scale_exponent else 4 * channels, 4 * (num_tiles - 1)]
        payload_end = front + payload_bytes
        bias_at = payload_end + channel_codes.packed_bytes(channels, scale_bits)
        codes_end = bias_at + (2 + channel_codes.packed_bytes(channels, bias_bits) if bias_bits else 0)
        starts = -(-codes_end // 4) * 4 + np.cumsum([0] + sizes)
        expected = int(max(starts[-1], payload_end + READABLE_BYTES))
        require("size", len(data) == expected, len(data), f"{expected} bytes as the header implies")
        checked = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[: HEADER_BYTES - 4]))
        require("crc", checked == crc, crc, checked)
        frequencies = tuple(data[starts[1] : starts[2]])
        require("frequencies", not any(frequencies[num_symbols:]), frequencies, "0 at and above num_symbols")
        require("frequencies", sum(frequencies) == 256 or not frequencies, frequencies, "16 numbers of the sum 256")
        codebook = np.frombuffer(data, "<f4", codebook_size, starts[0]) if codebook_size else None
        if scale_exponent:
            scales = ScaleCodes(channel_codes.unpack_bits(data[payload_end:bias_at], scale_bits, channels), scale_bits, scale_exponent, mantissa_bits).values()
        else:
            scales = np.frombuffer(data, "<f4", channels, starts[2]) if sizes[2] else None
        for rule, values in (("codebook", codebook), ("scales", scales)):
            require(rule, values is None or np.isfinite(values).all(), "inf or nan", "finite")
        half = int.from_bytes(data[bias_at : bias_at + 2], "little")
        require("bias_step", not bias_bits or channel_codes.is_step(half), half, "the upper half of a normal float32 below 2^112")
        bias = Bias.from_bytes(data[bias_at:codes_end], bias_bits, channels) if bias_bits else None

        ends = np.array([0, *np.frombuffer(data, "<u4", num_tiles - 1, starts[3]), payload_bytes], np.int64)
        require("tile_ends", np.all(np.diff(ends) >= 0), ends.tolist()[:4], "ascending, to payload_bytes")
        tiles = [data[front + a : front + b] for a, b in zip(ends[:-1], ends[1:])]
        parameters = CodecParameters(raw_bits, base, num_symbols, bool(has_escape), frequencies)
        if names[kind] == "smartdeal":
            basis = smartdeal.Basis(*grouping, np.frombuffer(data, np.int8, math.prod(basis_shape), HEADER_BYTES + _GROUPING.size).reshape(basis_shape))
        packed = cls(name, names[kind], parameters, channels, elements, inner, panels, scales, codebook, tiles, basis, bias)
        for tile in range(packed.num_tiles):
            CODECS[name].check_bytes(len(tiles[tile]), packed.tile_ids(tile), parameters)
        require("padding", not any(data[codes_end : starts[0]]) and not any(data[starts[-1] :]), "other bytes", "bytes of 0")
        return packed

    def tile_ids(self, tile: int) -> int:
        """How many ids a tile holds."""
        return sum(self._panel_widths(tile)) * self.channel_elements

    def decode_tile(self, tile: int) -> np.ndarray:
        """The ids of one tile, int8, in tile order."""
        return CODECS[self.codec].decode_tile(self.tiles[tile], self.tile_ids(tile), self.parameters)

    def ids(self) -> np.ndarray:
        """All ids, int8 `(num_channels, channel_elements)`."""
        panels = []
        for tile in range(self.num_tiles):
            ids, start = self.decode_tile(tile), 0
            for width in self._panel_widths(tile):
                stop = start + width * self.channel_elements
                panels.append(ids[start:stop].reshape(self.channel_elements, width).T)
                start = stop
        return np.concatenate(panels)

    def expand(self) -> np.ndarray:
        """The weights as a matrix `(num_channels, channel_elements)`: int8 for `integer`, else float32."""
        return self.quantized().values()

    def quantized(self) -> Quantized:
        return Quantized(self.ids(), self.value_kind, self.scales, self.codebook, self.basis)

    def _panel_widths(self, tile: int) -> list[int]:
        first = tile * self.panels_per_tile * PANEL
        last = min(first + self.panels_per_tile * PANEL, self.num_channels)
        return [min(PANEL, last - start) for start in range(first, last, PANEL)]


def tile_count(num_channels: int, panels_per_tile: int) -> int:
    return -(-num_channels // (PANEL * panels_per_tile))


def tile_order(ids: np.ndarray, tile: int, panels_per_tile: int) -> np.ndarray:
    """The ids of one tile in the order in which they are stored. `ids` is `(num_channels, channel_elements)`."""
    first = tile * panels_per_tile * PANEL
    last = min(first + panels_per_tile * PANEL, len(ids))
    return np.concatenate([ids[start : min(start + PANEL, last)].T.reshape(-1) for start in range(first, last, PANEL)])


def to_matrix(values: np.ndarray, axis: int) -> np.ndarray:
    """A tensor as the matrix of FORMAT.md, 1: `(shape[axis], remaining elements)`."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Inverse of `to_matrix`."""
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(moved), 0, axis))


def _check_parameters(codec: str, p: CodecParameters) -> None:
    most_bits = {"raw": 0, "bitpack": 7, "rans": 4, "sparse": 0}[codec]
    escapes = codec in ("bitpack", "rans")
    require("raw_bits", p.raw_bits <= most_bits, p.raw_bits, f"0..{most_bits} for {codec}")
    require("base", p.base == 0 or escapes, p.base, f"0 for {codec}")
    require("num_symbols", (2 <= p.num_symbols <= 16) if codec == "rans" else p.num_symbols == 0, p.num_symbols, "2..16 for rans, else 0")
    require("has_escape", p.has_escape <= 1, p.has_escape, "0 or 1")
    require("has_escape", not p.has_escape or escapes, p.has_escape, f"0 for {codec}")
    require("has_escape", not p.has_escape or codec != "bitpack" or p.raw_bits >= 1, p.has_escape, "0 where raw_bits is 0")


def _check_channel_codes(kind: str, scale_exponent: int, scale_coding: int, bias_bits: int) -> None:
    require("scale_exponent", scale_exponent == 0 or kind != "integer", scale_exponent, "0 for integer")
    coded = channel_codes.is_coding(scale_exponent, scale_coding >> 4, scale_coding & 15)
    require("scale_coding", coded if scale_exponent else scale_coding == 0, scale_coding, "0 without a scale_exponent, else one of scales that are all finite")
    require("bias_bits", bias_bits <= MAX_CODE_BITS["bias"], bias_bits, f"0..{MAX_CODE_BITS['bias']}")


def _read_grouping(data: bytes, elements: int) -> tuple[int, int, int]:
    """`group_size`, `group_stride` and `slice_groups` at the start of `data`, checked."""
    size, stride, slice_groups = _GROUPING.unpack(data[: _GROUPING.size])
    require("group_size", 1 <= size <= smartdeal.MAX_GROUP, size, f"1..{smartdeal.MAX_GROUP}")
    require("group_stride", stride == 1 or stride > 1 and elements % (size * stride) == 0, stride, f"1, or such that group_size * group_stride divides {elements}")
    piece = smartdeal.piece(elements, size, stride)
    require("group_stride", stride == 1 or piece <= smartdeal.MAX_PIECE, stride, f"such that {piece} k at once are at most {smartdeal.MAX_PIECE}")
    require("slice_groups", 1 <= slice_groups <= smartdeal.num_groups(elements, size), slice_groups, f"1..{smartdeal.num_groups(elements, size)}")
    return size, stride, slice_groups


__all__ = ["LANES", "PANEL", "PackedWeight", "VALUE_KINDS", "from_matrix", "tile_count", "tile_order", "to_matrix"]
