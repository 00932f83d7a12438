"""ts.Interpreter: LiteRT's own, with the delegate where the model needs it."""

from ai_edge_litert.interpreter import Interpreter as LiteRTInterpreter
import numpy as np
import pytest

import tflite_smart as ts
from tflite_smart.converter.errors import ModelFormatError
from tflite_smart.interpreter import needs_delegate


def run(interpreter, x):
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.fixture
def x(rng):
    return rng.standard_normal((1, 8, 8, 4)).astype(np.float32)


def test_plain_model_equals_litert(float_model, x):
    assert not needs_delegate(open(float_model, "rb").read())
    np.testing.assert_array_equal(run(ts.Interpreter(model_path=float_model), x), run(LiteRTInterpreter(model_path=float_model), x))


def test_smart_model_runs_from_path_and_from_bytes(float_model, smart_model, x):
    plain = run(ts.Interpreter(model_path=float_model), x)
    content = open(smart_model, "rb").read()
    assert needs_delegate(content)
    from_path = run(ts.Interpreter(model_path=smart_model, num_threads=2), x)
    from_bytes = run(ts.Interpreter(model_content=content), x)
    np.testing.assert_array_equal(from_path, from_bytes)
    # Compressed, so not equal; the same model, so close: about 27 dB (see smart_model), less for ten outputs that are a small sample.
    noise = np.sum((plain - from_path) ** 2) / np.sum(plain ** 2)
    assert 1e-4 < noise < 1e-2


def test_own_interpreter_with_load_delegate(smart_model, x):
    own = LiteRTInterpreter(model_path=smart_model, experimental_delegates=[ts.load_delegate({"num_threads": 1})])
    np.testing.assert_array_equal(run(own, x), run(ts.Interpreter(model_path=smart_model), x))


def test_without_the_delegate_litert_names_the_op(smart_model):
    with pytest.raises(RuntimeError, match="TFLiteSmart."):
        LiteRTInterpreter(model_path=smart_model).allocate_tensors()


def test_unknown_delegate_option_is_an_error():
    with pytest.raises(ValueError, match="num_treads"):
        ts.load_delegate({"num_treads": 2})


def test_several_interpreters_of_one_file(smart_model, x):
    first, second = ts.Interpreter(model_path=smart_model), ts.Interpreter(model_path=smart_model, num_threads=2)
    y = run(first, x)
    run(second, -x)
    np.testing.assert_array_equal(run(first, x), y)


def test_any_batch(smart_model, rng):
    x = rng.standard_normal((5, 8, 8, 4)).astype(np.float32)
    interpreter = ts.Interpreter(model_path=smart_model)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    together = run(interpreter, x)
    single = np.concatenate([run(ts.Interpreter(model_path=smart_model), x[i:i + 1]) for i in range(5)])
    # Another batch may be cut into other tiles, so sums of 4096 products round differently: 4096 * 2^-24 of sum |w x|, about 50.
    np.testing.assert_allclose(together, single, rtol=0, atol=50 * 4096 * 2.0 ** -24)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL3", bytes(range(256)) * 8, b"\x08\0\0\0TFL3" + b"\xff" * 64],
                         ids=["empty", "short", "zero root", "pattern", "wild offsets"])
def test_bad_files_are_named(content, tmp_path):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    assert not needs_delegate(content)
    with pytest.raises(ModelFormatError, match="bad.tflite"):
        ts.Interpreter(model_path=str(path))


@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.99])
def test_truncated_models_are_named(smart_model, tmp_path, part):
    data = open(smart_model, "rb").read()
    path = tmp_path / "cut.tflite"
    path.write_bytes(data[:int(len(data) * part)])
    with pytest.raises(ModelFormatError, match="cut.tflite"):
        ts.Interpreter(model_path=str(path))


def test_missing_file_is_named():
    with pytest.raises(ModelFormatError, match="no such file"):
        ts.Interpreter(model_path="nowhere.tflite")
