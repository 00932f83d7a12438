"""Runs a program of samples/cpp, compiled as a shared library together with tflite_c_forward.c: `python c_api_child.py LIBRARY ARGUMENT ...`.

TensorFlow Lite's C API is played by this process, on top of LiteRT's real interpreter, which gets the delegate that the program made.
"""

import ctypes
import itertools
import sys
import traceback

import numpy as np
from ai_edge_litert.interpreter import Interpreter

POINTER, INT, SIZE, TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t, ctypes.c_char_p
objects, numbers = {}, itertools.count(1)


def keep(thing) -> int:
    """What the program holds in its hands in place of a Python object."""
    number = next(numbers)
    objects[number] = thing
    return number


class Delegate:
    def __init__(self, pointer: int):
        self.pointer = pointer

    def _get_native_delegate_pointer(self) -> int:
        return self.pointer


class Tensor:
    def __init__(self, interpreter, details):
        self.interpreter, self.index, self.dtype = interpreter, details["index"], details["dtype"]

    def array(self) -> np.ndarray:
        return self.interpreter.get_tensor(self.index)


def create(model, options):
    return keep(Interpreter(objects[model], experimental_delegates=[Delegate(p) for p in objects[options]["delegates"]]))


def delete(interpreter):
    """With its tensors, which belong to it: what is left of an interpreter may not outlive its delegate."""
    gone = objects.pop(interpreter)
    for number in [n for n, thing in objects.items() if isinstance(thing, Tensor) and thing.interpreter is gone]:
        del objects[number]


def copy_from(tensor, data, size):
    tensor = objects[tensor]
    tensor.interpreter.set_tensor(tensor.index, np.frombuffer(ctypes.string_at(data, size), tensor.dtype).reshape(tensor.array().shape))


def copy_to(tensor, data, size):
    content = objects[tensor].array().tobytes()
    if size != len(content):
        raise ValueError(f"{size} bytes for a tensor of {len(content)}")
    ctypes.memmove(data, content, size)


FUNCTIONS = {  # name: (result, parameters, what it does)
    "TfLiteModelCreateFromFile": (POINTER, [TEXT], lambda path: keep(path.decode())),
    "TfLiteModelDelete": (None, [POINTER], objects.pop),
    "TfLiteInterpreterOptionsCreate": (POINTER, [], lambda: keep({"delegates": []})),
    "TfLiteInterpreterOptionsDelete": (None, [POINTER], objects.pop),
    "TfLiteInterpreterOptionsSetNumThreads": (None, [POINTER, INT], lambda options, n: None),
    "TfLiteInterpreterOptionsAddDelegate": (None, [POINTER, POINTER], lambda options, delegate: objects[options]["delegates"].append(delegate)),
    "TfLiteInterpreterCreate": (POINTER, [POINTER, POINTER], create),
    "TfLiteInterpreterDelete": (None, [POINTER], delete),
    "TfLiteInterpreterAllocateTensors": (INT, [POINTER], lambda i: objects[i].allocate_tensors()),
    "TfLiteInterpreterInvoke": (INT, [POINTER], lambda i: objects[i].invoke()),
    "TfLiteInterpreterGetInputTensor": (POINTER, [POINTER, INT], lambda i, n: keep(Tensor(objects[i], objects[i].get_input_details()[n]))),
    "TfLiteInterpreterGetOutputTensor": (POINTER, [POINTER, INT], lambda i, n: keep(Tensor(objects[i], objects[i].get_output_details()[n]))),
    "TfLiteTensorByteSize": (SIZE, [POINTER], lambda tensor: objects[tensor].array().nbytes),
    "TfLiteTensorCopyFromBuffer": (INT, [POINTER, POINTER, SIZE], copy_from),
    "TfLiteTensorCopyToBuffer": (INT, [POINTER, POINTER, SIZE], copy_to),
}


def in_c(result, action):
    """`action` as C sees it: an exception is a null pointer or a status that is not 0."""
    def call(*arguments):
        try:
            value = action(*arguments)
        except Exception:
            traceback.print_exc()
            return 1 if result is INT else 0
        return 0 if result is INT else value
    return call


def main(path: str, *arguments: str) -> int:
    library = ctypes.CDLL(path)
    callbacks = {name: ctypes.CFUNCTYPE(result, *parameters)(in_c(result, action)) for name, (result, parameters, action) in FUNCTIONS.items()}
    for name, callback in callbacks.items():
        POINTER.in_dll(library, f"python_{name}").value = ctypes.cast(callback, POINTER).value
    words = [path.encode(), *(argument.encode() for argument in arguments)]
    status = library.main(len(words), (TEXT * (len(words) + 1))(*words, None))
    print("left over:", sorted(type(thing).__name__ for thing in objects.values()))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
