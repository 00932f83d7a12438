"""Compression methods by name; importing this package registers them all."""

from tflite_smart.methods.base import METHODS, Finished, Layout, Method, VariableSpec, register, straight_through
from tflite_smart.methods.pruning import Prune
from tflite_smart.methods.quantize import Quantize

__all__ = ["METHODS", "Finished", "Layout", "Method", "Prune", "Quantize", "VariableSpec", "register", "straight_through"]
