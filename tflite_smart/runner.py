"""Runs a model on arrays: what run, verify, evaluate and the demo share."""

from collections.abc import Iterator
import os

from ai_edge_litert.interpreter import OpResolverType
import numpy as np

from tflite_smart.arrays import to_model_type, to_real
from tflite_smart.converter.calibration import by_tensor_name, num_samples, signature_names
from tflite_smart.converter.errors import InputError, UnsupportedModelError
from tflite_smart.interpreter import Interpreter


class Runner:
    """One model, opened and ready: `outputs = Runner("m.tflite")({"x": array})`.

    Inputs are cast to the model's type; a float input of a quantized model is quantized with its scale and zero point.
    Args:
        xnnpack: False runs the ops that are not ours with LiteRT's builtin kernels. Its integer kernels and XNNPACK's round differently, and an
            op whose weights TFLiteSmart.Expand delivers can only run on the former: compare integers without XNNPACK.
    Raises: ModelFormatError, UnsupportedModelError: LiteRT can't open or prepare the model.
    """

    def __init__(self, model_path: str | os.PathLike, num_threads: int = 1, xnnpack: bool = True):
        self.path = os.fspath(model_path)
        resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.interpreter = Interpreter(model_path=self.path, num_threads=num_threads, experimental_op_resolver_type=resolver)
        self._allocate()
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()
        if not self.outputs:
            raise UnsupportedModelError(f"{self.path}: model must have outputs. Received: none. There is nothing to see of it.")

    def _allocate(self) -> None:
        try:
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise UnsupportedModelError(f"{self.path}: LiteRT can't prepare it: {error}") from None

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns output name -> array for one call with input tensor name -> array."""
        resized = False
        for detail in self.inputs:
            shape = feeds[detail["name"]].shape
            if tuple(detail["shape"]) != shape:
                self._resize(detail, shape)
                resized = True
        if resized:
            self._allocate()
            self.inputs = self.interpreter.get_input_details()
        for detail in self.inputs:
            self.interpreter.set_tensor(detail["index"], to_model_type(feeds[detail["name"]], detail))
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            raise InputError(f"{self.path}: LiteRT stopped while running it: {error}") from None
        return {d["name"]: self.interpreter.get_tensor(d["index"]) for d in self.outputs}

    def real(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the real numbers that the outputs stand for: integers of a quantized model times their scale."""
        return {d["name"]: to_real(output, d) for d, output in zip(self.outputs, self(feeds).values())}

    def from_other(self, other: "Runner", feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns feeds of another model of the same task under this model's names, in this model's types."""
        names, others = [d["name"] for d in self.inputs], [d["name"] for d in other.inputs]
        if len(names) != len(others):
            raise InputError(f"{self.path}: the number of inputs must be {len(others)}, as in {other.path}. Received: {len(names)}.")
        pairs = zip(self.inputs, names if set(names) == set(others) else others)
        theirs = {d["name"]: d for d in other.inputs}
        return {mine["name"]: self._from_detail(theirs[name], mine, feeds[name]) for mine, name in pairs}

    @staticmethod
    def _from_detail(theirs: dict, mine: dict, array: np.ndarray) -> np.ndarray:
        same = theirs["dtype"] == mine["dtype"] and theirs["quantization"] == mine["quantization"]
        return array if same else to_model_type(to_real(to_model_type(array, theirs), theirs), mine)

    def _resize(self, detail: dict, shape: tuple[int, ...]) -> None:
        signature = tuple(int(n) for n in detail["shape_signature"])
        fits = len(signature) == len(shape) and all(s in (-1, n) for s, n in zip(signature, shape))
        # A batch other than the model's own is worth a try even where the signature is fixed.
        if not fits and (len(signature) != len(shape) or signature[1:] != shape[1:]):
            raise InputError(f"{self.path}: input {detail['name']} must have shape {list(signature)}. "
                             f"Received: shape={list(shape)}. -1 stands for any length.")
        self.interpreter.resize_tensor_input(detail["index"], shape)

    def batches(self, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yields feeds of the model's own batch size from arrays whose first axis counts samples.

        A model without a batch axis (a scalar input, say) is not cut: its arrays need one more axis than the input.
        """
        lengths = num_samples(arrays.values())
        if len(lengths) != 1:
            raise InputError(f"{self.path}: all inputs must have the same number of samples. Received: {sorted(lengths)}")
        step = {}
        for detail in self.inputs:
            has_batch_axis = arrays[detail["name"]].ndim == len(detail["shape"])
            step[detail["name"]] = int(detail["shape"][0]) if has_batch_axis else 0
        size = max(max(step.values(), default=1), 1)
        for start in range(0, lengths.pop(), size):
            yield {name: a[start:start + size] if step[name] else a[start] for name, a in arrays.items()}

    def named(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the arrays under the model's input tensor names.

        Accepts tensor names, the names of the default signature, and for a model with one input any single array.
        """
        return by_tensor_name([d["name"] for d in self.inputs], arrays, signature_names(self.interpreter))
