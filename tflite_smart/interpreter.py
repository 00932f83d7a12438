"""LiteRT's interpreter with the TFLite Smart delegate loaded when the model needs it."""

from collections.abc import Iterator
import contextlib
import mmap
import os
from typing import Any

from ai_edge_litert import interpreter as litert
from flatbuffers import table

from tflite_smart.converter.errors import MissingDependencyError, ModelFormatError, UnsupportedModelError

OP_PREFIX = b"TFLiteSmart."

# Slots of the three fields in the flatbuffer tables (TFLite schema: 4 + 2 * field id). Read by hand because importing the
# generated schema takes longer than opening most models.
_MODEL_OPERATOR_CODES = 6
_MODEL_SUBGRAPHS = 8
_OPERATOR_CODE_CUSTOM_CODE = 6


def load_delegate(options: dict[str, Any] | None = None) -> litert.Delegate:
    """Returns the delegate for `experimental_delegates=[...]` of an interpreter you build yourself.

    Args:
        options: values are turned into text; an unknown key is an error.
            num_threads: 1 to 256, default what the interpreter recommends.
            cache_bytes: the smallest weights that together are at most so many are decoded once, at the first inference, and keep one byte a
                weight, two at most in integer layers; default 2^20, 0 keeps every weight packed. Others are decoded at every inference.
            compute: "auto", "f32" or "int8", the arithmetic of layers with float activations; default what each layer's op asks for.
            isa: an instruction set of `tflite_smart.delegates.native.isa_names()`, for tests; holds for the whole process.
    Raises:
        MissingDependencyError: the library is not built, or this machine can't load it.
    """
    try:
        return litert.load_delegate(delegate_path(), options)
    except OSError as error:
        raise MissingDependencyError(f"delegate library: it must load on this machine. Received: {error}. Build it here: "
                                     "`pip install .` in a checkout of tflite_smart.") from None


def delegate_path() -> str:
    """Returns the path of the delegate library. Raises MissingDependencyError where it is not built."""
    from tflite_smart.delegates import DelegateLibraryError, library_path

    try:
        return library_path()
    except DelegateLibraryError as error:
        raise MissingDependencyError(str(error)) from None


def needs_delegate(model: bytes | mmap.mmap) -> bool:
    """Returns whether the flatbuffer uses an op of ours. Damaged files count as False: LiteRT says what is wrong with them."""
    try:
        # Byte 0 holds the position of the root table.
        root = table.Table(model, int.from_bytes(model[:4], "little"))
        codes = root.Offset(_MODEL_OPERATOR_CODES)
        if not codes:
            return False
        start = root.Vector(codes)
        for i in range(root.VectorLen(codes)):
            code = table.Table(model, root.Indirect(start + 4 * i))
            name = code.Offset(_OPERATOR_CODE_CUSTOM_CODE)
            if name and code.String(code.Pos + name).startswith(OP_PREFIX):
                return True
    except Exception:  # struct.error, IndexError, TypeError: whatever random bytes lead the generic reader to
        return False
    return False


def lacks_graph(model: bytes | mmap.mmap) -> bool:
    """Returns whether the flatbuffer has no list of subgraphs, which LiteRT does not survive. Damaged files count as False, as above."""
    try:
        return not table.Table(model, int.from_bytes(model[:4], "little")).Offset(_MODEL_SUBGRAPHS)
    except Exception:
        return False


@contextlib.contextmanager
def _bytes_of(path: str | None, content: bytes | None) -> Iterator[bytes | mmap.mmap]:
    """The model's bytes; a file's are mapped."""
    if not path or os.path.getsize(path) == 0:
        yield content or b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


class Interpreter(litert.Interpreter):
    """`ai_edge_litert.interpreter.Interpreter`: same arguments, same methods, runs smart models too.

    A model without TFLiteSmart ops gets no delegate and behaves as in LiteRT. `num_threads` goes to LiteRT and to the delegate.

    Args:
        model_path: path of a .tflite file, or
        model_content: its bytes.
        experimental_delegates: further delegates; ours goes first.
        num_threads: at least 1; default 1, as in LiteRT.
        delegate_options: more options for our delegate, see `load_delegate`.
        litert_options: every other argument of LiteRT's interpreter.
    Raises:
        ModelFormatError: no such file, or not a TFLite model.
        UnsupportedModelError: a packed weight is damaged, or the model has ops that neither LiteRT nor the delegate knows.
        MissingDependencyError: the model needs the delegate and the library is not there.
    """

    def __init__(self, model_path=None, model_content=None, experimental_delegates=None, num_threads=None,
                 delegate_options=None, **litert_options):
        if model_path is not None and not os.path.isfile(model_path):
            raise ModelFormatError(f"{model_path}: no such file. Give the path of a .tflite model.")
        delegates = list(experimental_delegates or [])
        with _bytes_of(model_path, model_content) as view:
            ours, empty = needs_delegate(view), lacks_graph(view)
        if empty:
            raise ModelFormatError(f"{model_path or 'model_content'}: subgraphs must be at least one. Received: none. The file is damaged; get it again.")
        if ours:
            delegates.insert(0, load_delegate({"num_threads": num_threads or 1, **(delegate_options or {})}))
        try:
            super().__init__(model_path=model_path, model_content=model_content, experimental_delegates=delegates,
                             num_threads=num_threads, **litert_options)
        except ValueError as error:
            raise ModelFormatError(f"{model_path or 'model_content'}: LiteRT can't open it: {error}") from None
        except RuntimeError as error:
            # What our delegate says comes first; LiteRT's own complaints about the ops that then remain follow it.
            reason = str(error).split("Failed to initialize kernel")[0]
            raise UnsupportedModelError(f"{model_path or 'model_content'}: LiteRT can't prepare it: {reason}") from None
