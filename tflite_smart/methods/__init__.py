"""Compression methods by name; importing this package registers them all."""

from tflite_smart.methods.base import METHODS, Finished, Layout, Method, VariableSpec, register, straight_through
from tflite_smart.methods.pruning import Prune

__all__ = ["METHODS", "Finished", "Layout", "Method", "Prune", "VariableSpec", "register", "straight_through"]
