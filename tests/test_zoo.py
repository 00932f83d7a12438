"""The architectures that users bring: each converts, runs through the delegate and equals its own expanded model on LiteRT's builtin kernels."""

import math

import numpy as np
import pytest
from ai_edge_litert.interpreter import OpResolverType

import tflite_smart as ts
from tests import zoo
from tflite_smart.converter import calibration, expand
from tflite_smart.converter.model_editor import Model, shape
from tflite_smart.converter.synthetic import synthetic_inputs

pytest.importorskip("tensorflow", reason="TensorFlow builds and converts the models of the zoo")

NAMES = ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121", "VGG16", "Xception", "InceptionV3",
         "LSTM", "GRU", "Transformer", "U-Net", "Conv1D"]  # fmt: skip

# A fixed budget: how a budget is searched is tested elsewhere and costs time here.
RECIPE = {"error_budget": 0.05}


def reduction_lengths(path) -> list[int]:
    """How many products each multiplying operator of a plain model adds up."""
    model, lengths = Model.read(path), []
    for subgraph in model.schema.subgraphs:
        for op in subgraph.operators or ():
            if model.op_name(op) in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"):
                dimensions = shape(subgraph.tensors[int(op.inputs[1])])
                lengths.append(math.prod(dimensions[1:]))
    return lengths


def tolerance(path) -> float:
    """Relative to the range of the outputs. Rounding errors are a random walk: two orders of summing K products differ by about eps * sqrt(K), and the layers' shares add up
    as squares. A factor of 4 for what attention, normalization and softmax stretch, and for Winograd's extra additions."""
    return 4 * np.finfo(np.float32).eps * math.sqrt(sum(reduction_lengths(path)))


def outputs(path, samples, resolver=OpResolverType.AUTO):
    """Outputs `[sample][output]`. With AUTO, LiteRT's default, a plain model runs on XNNPACK."""
    interpreter = ts.Interpreter(model_path=str(path), experimental_op_resolver_type=resolver)
    results = []
    for sample in samples:
        calibration.run(interpreter, sample)
        results.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return results


def test_the_list_is_complete():
    assert sorted(NAMES) == sorted(zoo.builders(small=True))


@pytest.mark.parametrize("name", NAMES)
def test_smart_model_equals_its_expanded_self(name, tmp_path):
    smart, plain = tmp_path / "smart.tflite", tmp_path / "plain.tflite"
    report = ts.convert(zoo.build(name, small=True), recipe=RECIPE, output=smart)
    assert report.packed, "nothing was compressed"
    assert report.file_bytes_after < 0.4 * report.file_bytes_before, f"{report.ratio:.2f} times smaller only"
    assert not any("Select TensorFlow" in note or "flex" in note.lower() for note in report.notes), report.notes
    expand.expand(smart, plain)

    samples = synthetic_inputs(ts.Interpreter(model_path=str(plain)).get_input_details(), num_samples=2, seed=zoo.SEED)[0]
    bound = tolerance(plain)
    for ours, theirs in zip(outputs(smart, samples), outputs(plain, samples, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)):
        for a, b in zip(ours, theirs):
            assert np.isfinite(b).all() and np.ptp(b) > 0, "the comparison must compare something"
            # By the range, as probabilities of an untrained model are all alike; and each number may be rounded the other way.
            difference = float((np.abs(a - b).max() - np.finfo(np.float32).eps * np.abs(b).max()) / np.ptp(b))
            assert difference <= bound, f"{name}: {difference:.2e} > {bound:.2e}"
            print(f"{name}: difference {difference:.2e}, bound {bound:.2e}, {report.ratio:.2f} times smaller")
