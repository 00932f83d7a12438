"""The codecs, one file each; the same names and numbers as `delegates/core`."""

from tflite_smart.converter.codecs.base import Codec, CodecParameters
from tflite_smart.converter.codecs.bitpack import BitPack
from tflite_smart.converter.codecs.rans import Rans
from tflite_smart.converter.codecs.raw import Raw
from tflite_smart.converter.codecs.sparse import Sparse

CODECS: dict[str, Codec] = {codec.name: codec for codec in (Raw(), BitPack(), Rans(), Sparse())}
BY_NUMBER: dict[int, Codec] = {codec.number: codec for codec in CODECS.values()}

__all__ = ["CODECS", "BY_NUMBER", "Codec", "CodecParameters"]
