"""A process with a Java virtual machine in it: SmartDelegate, made in Java, serves LiteRT's interpreter in the same process.

`python jvm_child.py CLASSES LIBRARIES MODEL.tflite INPUT.npy OUTPUT.npy` prints what Java said as JSON. Java's own interpreter is not to be had outside of
Android, and does the same with a delegate: it asks for its handle and hands that to ModifyGraphWithDelegate().
"""

import json
import sys

import jpype
import numpy as np
from ai_edge_litert.interpreter import Interpreter


class JavaDelegate:
    """A Java delegate as LiteRT's Python interpreter wants to see it."""

    def __init__(self, java):
        self._java = java

    def _get_native_delegate_pointer(self) -> int:
        return self._java.getNativeHandle()


def thrown(action) -> str:
    """The class and the message of the Java exception that `action` ends with."""
    try:
        action()
    except jpype.JException as error:
        return f"{type(error).__name__}: {error.getMessage()}"
    return ""


def main(classes: str, libraries: str, model: str, source: str, result: str) -> None:
    jpype.startJVM("-Xcheck:jni", f"-Djava.library.path={libraries}", classpath=[classes], convertStrings=True)
    smart = jpype.JClass("org.tflitesmart.SmartDelegate")
    delegate = smart(smart.Options().setNumThreads(2))
    outputs = []
    for _ in range(2):  # one delegate may serve several interpreters
        interpreter = Interpreter(model, experimental_delegates=[JavaDelegate(delegate)])
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(source))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        del interpreter
    np.save(result, np.stack(outputs))
    said = {"version": smart.version(), "is_delegate": isinstance(delegate, jpype.JClass("org.tensorflow.lite.Delegate"))}
    delegate.close()
    delegate.close()
    said["closed"] = thrown(delegate.getNativeHandle)
    said["range"] = thrown(lambda: smart(smart.Options().setNumThreads(0)))
    said["unknown"] = thrown(lambda: smart(smart.Options().set("größe", "1")))
    said["long"] = thrown(lambda: smart(smart.Options().set("x" * 64, "1")))
    said["null"] = thrown(lambda: smart(smart.Options().set("isa", None)))
    said["many"] = thrown(lambda: smart(many(smart.Options())))
    print(json.dumps(said))


def many(options):
    for i in range(17):
        options.set(f"key{i}", "1")
    return options


if __name__ == "__main__":
    main(*sys.argv[1:])
