"""The doors beside the external delegate: registrations for an op resolver, and LiteRT's CompiledModel from a C program."""

import ctypes
from pathlib import Path
import subprocess
import tempfile

import numpy as np
import pytest

import tflite_smart as ts
from tests.delegates import models
from tests.delegates.c_programs import compiled_with_litert
from tests.delegates.running import run
from tests.tflite_smart.conftest import build_model
from tflite_smart.delegates import native

ROOT = Path(__file__).resolve().parents[2]
OPS = ["TFLiteSmart.Conv2D", "TFLiteSmart.DepthwiseConv2D", "TFLiteSmart.FullyConnected", "TFLiteSmart.Expand", "TFLiteSmart.Gather"]
# MutableOpResolver::AddCustom(const char*, const TfLiteRegistration*, int), which TensorFlow's library shows.
ADD_CUSTOM = "_ZN6tflite17MutableOpResolver9AddCustomEPKcPK18TfLiteRegistrationi"


def registrations() -> list[tuple[str, int]]:
    library = ctypes.CDLL(native.library_path())
    library.tfs_op_name.restype, library.tfs_op_registration.restype = ctypes.c_char_p, ctypes.c_void_p
    found = []
    while name := library.tfs_op_name(len(found)):
        found.append((name.decode(), library.tfs_op_registration(len(found))))
    assert library.tfs_op_registration(len(found)) is None and library.tfs_op_name(-1) is None
    return found


def test_a_registration_for_every_op():
    found = registrations()
    assert [name for name, _ in found] == OPS
    assert len({pointer for _, pointer in found}) == len(OPS) and all(pointer for _, pointer in found)


def test_registrations_in_tensorflows_resolver(rng):
    """The same outputs as through the delegate, no delegate loaded; two interpreters share the registrations."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow's library has a resolver that can be reached")
    folder = Path(tf.__file__).parent
    library = next(folder.glob("libtensorflow_cc.so*"), None)
    add_custom = getattr(ctypes.CDLL(str(library)), ADD_CUSTOM, None) if library else None
    if add_custom is None:
        pytest.skip("this TensorFlow shows no MutableOpResolver::AddCustom")
    add_custom.argtypes, add_custom.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int], None

    def register(resolver) -> None:
        for name, registration in registrations():
            add_custom(resolver, name.encode(), registration, 1)

    content = models.two_layers_model(rng)
    from tensorflow.lite.python.interpreter import InterpreterWithCustomOps

    interpreters = [InterpreterWithCustomOps(model_content=content, custom_op_registerers=[register]) for _ in range(2)]
    x = rng.normal(size=(1, 6, 7, 5)).astype(np.float32)
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), run(content, x))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """samples/cpp/compiled_model.c, compiled and linked as its README says."""
    return compiled_with_litert(ROOT / "samples" / "cpp" / "compiled_model.c", tmp_path_factory.mktemp("sample"))


def converted_model(_) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        ts.convert(build_model(), recipe={"global_config": {"relative_error": 0.03}}, output=str(path))
        return path.read_bytes()


@pytest.mark.parametrize("make, shape", [(models.two_layers_model, (1, 6, 7, 5)), (converted_model, (1, 8, 8, 4))], ids=["hand-built", "converted"])
def test_compiled_model_from_c(sample, rng, tmp_path, make, shape):
    content = make(rng)
    x = rng.normal(size=shape).astype(np.float32)
    model, source, result = tmp_path / "m.tflite", tmp_path / "x.bin", tmp_path / "y.bin"
    model.write_bytes(content)
    x.tofile(source)
    subprocess.run([sample, model, source, result], check=True, capture_output=True)
    np.testing.assert_array_equal(np.fromfile(result, np.float32), run(content, x).reshape(-1))


def test_compiled_model_says_what_is_wrong(sample, rng, tmp_path):
    """A damaged weight stops the compilation, with the delegate's message."""
    model = tmp_path / "damaged.tflite"
    content = models.two_layers_model(rng)
    model.write_bytes(content.replace(b"TFSW", b"TFSX"))
    done = subprocess.run([sample, model, model, tmp_path / "y"], capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "y").exists()
    assert "TFLiteSmart.Conv2D" in done.stderr and "must" in done.stderr


def test_litert_door_refuses_what_it_can_not_use():
    library, error = ctypes.CDLL(native.library_path()), ctypes.create_string_buffer(224)
    library.tfs_litert_register.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p]
    assert library.tfs_litert_register(None, None, 1, error) == 1
    assert library.tfs_litert_register(1, None, 257, error) == 1 and b"num_threads=257" in error.value
    libc = ctypes.CDLL("libc.so.6")._handle  # a library, but not LiteRT
    assert library.tfs_litert_register(1, libc, 1, error) == 3 and b"LiteRtCreateAccelerator" in error.value
