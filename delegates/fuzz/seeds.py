"""Seeds for the fuzz targets: valid packed weights of every codec and value kind, the golden errors, and the options of every op.

    python delegates/fuzz/seeds.py FOLDER     writes FOLDER/<target>/*
"""

import base64
import sys
from pathlib import Path

import numpy as np
from flatbuffers import flexbuffers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.delegates.models import CONV_OPTIONS
from tests.golden_errors import generate
from tflite_smart.converter.format import HEADER_BYTES, VALUE_KINDS, PackedWeight

OPTIONS = [
    {**CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": 8},
    {**CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "depth_multiplier": 70_000},
    {"activation": "RELU6", "keep_num_dims": 1, "axis": -1, "stride_h": 1 << 40},
]
# What has found something once: the fault must not come back.
FOUND_BY_LAYER = [
    # The address of partial sums beyond their end, where nothing is computed in parts.
    "AAECAwQFBgcICQr///////////////////////////////////////////////////////////////////////////8LDA0ODxAREhMUKBUWFxoZGhscRUZHSH+AgYKDhIWohoeIiYqLjI2Oj5CRkjuUMrm6u7y9vr/AwcLDxMXGxw==",
    # The address of packed columns in a layer of one row, which packs none.
    "AAECAFFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVEAX2BhYmNkZWZnaGl5t7u5trh6WABaW1xdXl9gYZ6cm4+6eVpbXF1eX2BhYmO3u7m2uHq8vce/wMHCw8TFxsc=",
]
FOUND_BY_SEGMENT = [
    # A residual without elements, added to a convolution of an empty batch.
    "ojYQG3tPXTyasB7BzW3TDGzEagJ4Dbo5kW+cstB/P+ZUZRQ+0fBeyOcATlExdJcZ3oHprgKji5JThVy/xpB1DRwRDusn02AYZmuMRLYuRnOXvivuLJBW9NltX+dPZlQ0nxcCodGjdNC0l0O1WJcK4K30HBygAYM=",
    # The mean of nothing, whose tensor lies nowhere.
    "AAAAAAAPAQIPAAAAAQIAAAgAAAAAAQAIAD8BAAAAAAA=",
]


def seeds() -> dict[str, list[bytes]]:
    """Target: its seeds."""
    valid = [generate.valid(coding, kind) for coding in generate.CODINGS for kind in VALUE_KINDS]
    errors = [blob for blobs in generate.BREAKS.values() for blob in blobs]
    layers = [bytes(range(op, 200)) for op in range(5)] + [base64.b64decode(text) for text in FOUND_BY_LAYER]
    graphs = [np.random.default_rng(number).bytes(300) for number in range(40)] + [base64.b64decode(text) for text in FOUND_BY_SEGMENT]
    options = [bytes(flexbuffers.Dumps(value)) for value in OPTIONS]
    return {"header": valid + errors, "tile": [_tile_input(blob) for blob in valid], "options": options, "layer": layers, "segment": graphs, "python_reader": valid + errors}


def _tile_input(blob: bytes) -> bytes:
    """fuzz/tile.cc: a header, proportions of the frequencies, the tiles. It adds 1 to counts."""
    packed = PackedWeight.from_bytes(blob)
    frequencies = bytes(packed.parameters.frequencies or 16)
    return blob[:HEADER_BYTES] + frequencies + b"".join(packed.tiles)


def write(folder: Path) -> None:
    for target, inputs in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(inputs):
            (folder / target / f"seed_{number:03}").write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
