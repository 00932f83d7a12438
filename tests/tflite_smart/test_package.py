"""What an installed package holds and what importing it costs."""

from importlib import metadata, resources
import subprocess
import sys

import tflite_smart as ts


def test_public_names_are_there():
    for name in ts.__all__:
        assert getattr(ts, name) is not None
    assert ts.__version__ == metadata.version("tflite_smart")


def test_unknown_names_are_refused():
    assert not hasattr(ts, "no_such_name")


def test_running_a_model_loads_no_tensorflow_and_no_schema(smart_model):
    """A small device pays for neither: the schema alone takes a tenth of a second and megabytes."""
    program = f"""
import sys, tflite_smart as ts
interpreter = ts.Interpreter(model_path={smart_model!r})
interpreter.allocate_tensors()
interpreter.invoke()
heavy = [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "keras", "rich") or m.endswith("schema_py_generated")]
print(heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_that_are_no_code_are_installed():
    assert "TFSW" in (resources.files("tflite_smart.converter") / "FORMAT.md").read_text()
    assert "tfs_expand" in (resources.files("tflite_smart.delegates") / "include" / "tflite_smart.h").read_text()
