"""The delegate: the C++ library that runs compressed models on LiteRT / TensorFlow Lite, and its Python face."""

from tflite_smart.delegates.native import DelegateLibraryError, NativeError, library_path

__all__ = ["DelegateLibraryError", "NativeError", "library_path"]
