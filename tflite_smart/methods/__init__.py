"""Compression methods by name; importing this package registers them all."""

from tflite_smart.methods.base import METHODS, Finished, Layout, Method, VariableSpec, register, straight_through
from tflite_smart.methods.binarize import Binarize
from tflite_smart.methods.clustering import Cluster
from tflite_smart.methods.compressibility import Compressibility
from tflite_smart.methods.entropy_quantize import EntropyQuantize
from tflite_smart.methods.pruning import Prune
from tflite_smart.methods.quantize import Quantize
from tflite_smart.methods.smartdeal import SmartDeal, SmartDealCoefficients
from tflite_smart.methods.ternarize import Ternarize

__all__ = [
    "METHODS", "Binarize", "Cluster", "Compressibility", "EntropyQuantize", "Finished", "Layout", "Method", "Prune", "Quantize", "SmartDeal", "SmartDealCoefficients", "Ternarize", "VariableSpec", "register", "straight_through",
]  # fmt: skip
