"""tflite_smart: Keras and TFLite models several times smaller, in the file and in RAM while they run.

        import tflite_smart as ts
        report = ts.convert("model.tflite", output="smart.tflite")
        interpreter = ts.Interpreter("smart.tflite", num_threads=2)

Names are loaded when they are first used: a Raspberry Pi that only runs models never imports the converter, and
nothing here imports TensorFlow before a Keras model is converted.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "convert": "tflite_smart.converter.convert",
    "ConversionReport": "tflite_smart.converter.convert",
    "TFLiteSmartError": "tflite_smart.converter.errors",
    "SmartConfig": "tflite_smart.converter.recipe",
    "WeightConfig": "tflite_smart.converter.recipe",
    "Interpreter": "tflite_smart.interpreter",
    "load_delegate": "tflite_smart.interpreter",
    "smart_wrap": "tflite_smart.wrap",
    "strip": "tflite_smart.wrap",
    "project": "tflite_smart.projection",
    "loosen": "tflite_smart.projection",
    "load_model": "tflite_smart.wrap",
    "smart_weights": "tflite_smart.wrap",
    "WrapConfig": "tflite_smart.config",
    "summary": "tflite_smart.describe",
    "CompressionLog": "tflite_smart.callbacks",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'tflite_smart' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("tflite_smart.converter", "tflite_smart.delegates"):
            raise
        raise ImportError("tflite_smart is imported from its source folder, where its parts lie apart. Run `pip install -e .` there, or work in another folder.") from None
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
