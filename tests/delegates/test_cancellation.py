"""An application may call a run off: the runtime asks before every node of its graph, and our kernels leave nothing behind that the next run would meet.

The real functions are called: `SetCancellationFunction` of TensorFlow Lite's interpreter, which TensorFlow's library shows, and `LiteRtSetCompiledModelCancellationFunction` of LiteRT's C API.
"""

import ctypes
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.delegates import models
from tests.delegates.c_programs import compiled_with_litert
from tests.delegates.running import invoke, run
from tflite_smart.delegates import native

NUM_LAYERS = 6
SHAPE = (1, 12, 12, 40)
ASK = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
_INTERPRETER = "_ZN6tflite4impl11Interpreter"  # tflite::impl::Interpreter


def deep_model(rng) -> bytes:
    """Convolutions, and between them an op of the runtime's: a node of its own each, before which the runtime asks."""
    model = models.ModelBuilder()
    tensors = [model.tensor(f"t{i}", SHAPE) for i in range(2 * NUM_LAYERS + 1)]
    options = {**models.CONV_OPTIONS, "filter_h": 3, "filter_w": 3, "filter_in": SHAPE[3]}
    for i in range(NUM_LAYERS):
        weight = model.packed(f"w{i}", models.random_weight(rng, (SHAPE[3], 3, 3, SHAPE[3]), 0))
        bias = model.constant(f"b{i}", rng.normal(size=SHAPE[3]).astype(np.float32))
        model.custom("TFLiteSmart.Conv2D", [tensors[2 * i], weight, bias], [tensors[2 * i + 1]], options)
        model.builtin("SIN", [tensors[2 * i + 1]], [tensors[2 * i + 2]])
    return model.build([tensors[0]], [tensors[-1]])


class Cancellation:
    """TensorFlow's interpreter with the delegate, and the functions of the C++ class behind it."""

    def __init__(self, content: bytes, num_threads: int):
        tf = pytest.importorskip("tensorflow", reason="its library shows tflite::Interpreter")
        library = next(Path(tf.__file__).parent.glob("libtensorflow_cc.so*"), None)
        self._library = ctypes.CDLL(str(library)) if library else None
        if not hasattr(self._library, f"{_INTERPRETER}23SetCancellationFunctionEPvPFbS2_E"):
            pytest.skip("this TensorFlow shows no Interpreter::SetCancellationFunction")
        delegate = tf.lite.experimental.load_delegate(native.library_path(), {"num_threads": num_threads, "cache_bytes": 0})
        self.interpreter = tf.lite.Interpreter(model_content=content, experimental_delegates=[delegate])
        self.interpreter.allocate_tensors()
        self._handle = ctypes.c_void_p(self.interpreter._native_handle())

    def ask(self, function) -> None:
        """`function() -> bool` is called before every layer; None for nobody."""
        self._asked = ASK(lambda _: function()) if function else ASK()
        self._library[f"{_INTERPRETER}23SetCancellationFunctionEPvPFbS2_E"](self._handle, None, self._asked)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_called_off_between_any_two_nodes(rng, num_threads):
    cancellation = Cancellation(deep_model(rng), num_threads)
    x = rng.normal(size=SHAPE).astype(np.float32)
    expected, asked = invoke(cancellation.interpreter, x), []
    cancellation.ask(lambda: bool(asked.append(1)))
    invoke(cancellation.interpreter, x)
    num_nodes = len(asked)
    assert num_nodes >= NUM_LAYERS
    for layer in range(num_nodes):
        asked.clear()
        cancellation.ask(lambda: asked.append(1) or len(asked) > layer)
        with pytest.raises(RuntimeError, match="cancel"):
            invoke(cancellation.interpreter, -x)
        assert len(asked) == layer + 1  # nothing runs past the answer
        cancellation.ask(None)
        np.testing.assert_array_equal(invoke(cancellation.interpreter, x), expected)


def test_called_off_from_another_thread(rng):
    """The layers that were at work end, and no other begins."""
    cancellation = Cancellation(deep_model(rng), num_threads=2)
    x = rng.normal(size=SHAPE).astype(np.float32)
    expected, off, asked = invoke(cancellation.interpreter, x), threading.Event(), []

    def ask() -> bool:
        asked.append(1)
        if len(asked) == NUM_LAYERS:
            other = threading.Thread(target=off.set)
            other.start()
            other.join()
        return off.is_set()

    cancellation.ask(ask)
    with pytest.raises(RuntimeError, match="cancel"):
        invoke(cancellation.interpreter, x)
    assert len(asked) == NUM_LAYERS
    cancellation.ask(None)
    np.testing.assert_array_equal(invoke(cancellation.interpreter, x), expected)


def test_compiled_model_called_off(rng, tmp_path):
    """Through LiteRT's accelerator: called off at every question that it asks, then run to the end."""
    program = compiled_with_litert(Path(__file__).with_name("cancelled_model.c"), tmp_path)
    content, x = deep_model(rng), rng.normal(size=SHAPE).astype(np.float32)
    (tmp_path / "m.tflite").write_bytes(content)
    x.tofile(tmp_path / "x")
    done = subprocess.run([program, tmp_path / "m.tflite", tmp_path / "x", tmp_path / "y"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= NUM_LAYERS
    np.testing.assert_array_equal(np.fromfile(tmp_path / "y", np.float32), run(content, x).reshape(-1))
