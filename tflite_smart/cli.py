"""The command `tflite_smart`: what it accepts. What each verb does is in verbs.py.

Exit codes: 0 good; 1 the answer is no (verify); 2 bad use or bad input, told in one line on standard error.
"""

import argparse
import math
import os
import re
import signal
import sys

from tflite_smart import __version__
from tflite_smart.converter.errors import TFLiteSmartError
from tflite_smart.delegates.cross_build import TARGETS

MAX_THREADS = 256  # of the delegate's pool


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; every verb sets `run`, a function of the parsed arguments that returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="tflite_smart", description="Makes Keras and TFLite models several times smaller, in the file and in RAM while they run.",
        epilog="tflite_smart VERB --help says more about each verb.")
    parser.add_argument("--version", action="version", version=f"tflite_smart {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (_convert, _inspect, _analyze, _verify, _evaluate, _run, _benchmark, _expand, _report, _delegate):
        add(verbs)
    return parser


def _verb(verbs, name: str, help_text: str, description: str = "", json_flag: bool = True) -> argparse.ArgumentParser:
    """Adds a verb whose work is the function of that name in verbs.py, imported only when it is asked for."""
    def run(arguments: argparse.Namespace) -> int:
        from tflite_smart import verbs as work
        return getattr(work, name)(arguments)

    verb = verbs.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}. {description}".strip())
    verb.set_defaults(run=run)
    if json_flag:
        verb.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return verb


def _convert(verbs) -> None:
    verb = _verb(verbs, "convert", "compress a model", "The weights stay compressed in memory while the model runs with the delegate.")
    verb.add_argument("model", metavar="MODEL", help=".keras, .h5, a SavedModel folder or .tflite")
    verb.add_argument("-o", "--output", metavar="OUT", help="default: MODEL's name with the ending .smart.tflite")
    verb.add_argument("--recipe", metavar="NAME|FILE.json", default="lossless_accuracy", help="what to do with which tensor (default: %(default)s)")
    verb.add_argument("--calibration-data", metavar="X.npz", help="sample inputs, one array per input, first axis = samples")
    verb.add_argument("--objective", choices=["size", "balanced", "latency"], help="how much decoding time counts when codecs are chosen. Without it: "
                      "size, but layers of full-integer models that would save little stay as they are")
    verb.add_argument("--compute", choices=["f32", "int8"], help="arithmetic of convolutions and dense layers at run time: f32 is exact (the default), int8 quantizes "
                      "their inputs on the fly, as LiteRT's dynamic-range models do, and is faster. The fidelity that is reported is that of the arithmetic chosen")
    target = verb.add_mutually_exclusive_group()
    target.add_argument("--target-snr-db", type=_finite, metavar="DB", help="signal-to-noise ratio of the outputs, instead of the recipe's (default recipe: 28)")
    target.add_argument("--target-size", type=_size, dest="target_size_bytes", metavar="SIZE", help="of the whole file: 2MB, 800kB, 1.5MiB, or bytes")
    target.add_argument("--target-bits", type=_finite, dest="target_bits_per_weight", metavar="BITS", help="per packed weight, headers and scales counted: 3.5")
    target.add_argument("--max-drop", type=_finite, dest="target_max_drop", metavar="POINTS", help="of top-1 (percent) on --data: 0.5")
    verb.add_argument("--data", metavar="XY.npz", help="labelled samples for --max-drop, keys x and y")
    verb.add_argument("--work-folder", metavar="DIR", help="keep there what is measured until the conversion is done: one that was interrupted goes on from it")
    _overwrite(verb)


def _analyze(verbs) -> None:
    verb = _verb(verbs, "analyze", "measure how sensitive every layer is, and size against error of the whole model",
                 "Nothing is written. Without calibration data the inputs are made up.")
    verb.add_argument("model", metavar="MODEL", help=".keras, .h5, a SavedModel folder or .tflite")
    verb.add_argument("--recipe", metavar="NAME|FILE.json", default="lossless_accuracy", help="which tensors count (default: %(default)s)")
    verb.add_argument("--calibration-data", metavar="X.npz", help="sample inputs, one array per input, first axis = samples")


def _inspect(verbs) -> None:
    verb = _verb(verbs, "inspect", "list the constant tensors of a .tflite: op, codec, bits per weight, bytes")
    _tflite(verb)


def _verify(verbs) -> None:
    verb = _verb(verbs, "verify", "compare the outputs of two models on the same inputs",
                 "Exit code 1 where an output differs by more than the tolerance.")
    verb.add_argument("a", metavar="A", help="the model to trust, .tflite")
    verb.add_argument("b", metavar="B", help="the model to check, .tflite")
    verb.add_argument("--inputs", metavar="X.npz", help="one array per input, first axis = samples (default: random ones)")
    verb.add_argument("--num-samples", type=_positive, default=16, metavar="N", help="random samples (default: %(default)s)")
    verb.add_argument("--seed", type=_not_negative, default=0, help="of the random samples (default: %(default)s)")
    verb.add_argument("--input-range", type=_finite, nargs=2, metavar=("LOW", "HIGH"), help="of the random samples (default: standard normal for floats)")
    verb.add_argument("--tolerance", type=_tolerance, default=0.1, metavar="T",
                      help="rms difference allowed, as a part of A's rms output; 0 asks for equal values (default: %(default)s, 20 dB)")
    verb.add_argument("--no-xnnpack", action="store_true", help="run the ops that are not ours with LiteRT's own kernels in both models: "
                      "XNNPACK's integer kernels round differently")
    _threads(verb)


def _evaluate(verbs) -> None:
    verb = _verb(verbs, "evaluate", "measure the top-1 and top-5 accuracy of a classifier")
    _tflite(verb)
    verb.add_argument("--data", required=True, metavar="X.npz", help="samples under the key x, labels under the key y")
    _threads(verb)


def _run(verbs) -> None:
    verb = _verb(verbs, "run", "run a model on arrays")
    _tflite(verb)
    verb.add_argument("--input", required=True, metavar="X.npy", help=".npy, or .npz with one array per input; shapes as the model takes them")
    verb.add_argument("--output", required=True, metavar="Y.npy", help=".npy, or .npz for a model with several outputs")
    _overwrite(verb)
    _threads(verb)


def _benchmark(verbs) -> None:
    verb = _verb(verbs, "benchmark", "measure cold start, latency, peak memory and file size",
                 "Each model runs in its own process, in turn with those it is compared against.")
    _tflite(verb)
    verb.add_argument("--against", nargs="+", default=[], metavar="B", help="models to compare with; ratios are MODEL / B")
    verb.add_argument("--num-runs", type=_positive, default=50, metavar="N", help="timed runs per process (default: %(default)s)")
    verb.add_argument("--warmup-runs", type=_not_negative, default=5, metavar="N", help="runs before them (default: %(default)s)")
    verb.add_argument("--rounds", type=_positive, default=3, metavar="N", help="processes per model (default: %(default)s)")
    _threads(verb)


def _expand(verbs) -> None:
    verb = _verb(verbs, "expand", "turn a smart model back into one without custom ops", "For a device that can't load the delegate.")
    _tflite(verb)
    verb.add_argument("-o", "--output", required=True, metavar="OUT", help="path of the plain .tflite")
    _overwrite(verb)


def _report(verbs) -> None:
    verb = _verb(verbs, "report", "write one HTML page: sizes, a map of the layers, the distribution of the weights", "It needs no other file and no network.")
    _tflite(verb)
    verb.add_argument("-o", "--output", metavar="REPORT.html", help="default: MODEL's name with the ending .html")
    verb.add_argument("--against", metavar="ORIGINAL", help="the model it was made from: its size and its outputs are put beside")
    verb.add_argument("--inputs", metavar="X.npz", help="for --against: one array per input, first axis = samples (default: random ones)")
    verb.add_argument("--num-samples", type=_positive, default=16, metavar="N", help="random samples (default: %(default)s)")
    _overwrite(verb)


def _delegate(verbs) -> None:
    verb = _verb(verbs, "delegate", "print the path of the delegate library", "For --external_delegate_path and load_delegate(). "
                 "With --target it is built for that machine first, with the compiler in the PyPI package ziglang: a Raspberry Pi needs none. "
                 "For Android the NDK that ANDROID_NDK_HOME names is used, where it is set.")
    verb.add_argument("--target", choices=list(TARGETS), help="the machine to build for (default: this one, where the library is installed)")
    verb.add_argument("-o", "--output", metavar="DIR", help="folder for the built library (default: a folder named after the target)")


def _tflite(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="a .tflite file")


def _overwrite(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--overwrite", action="store_true", help="replace an existing output")


def _threads(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--num-threads", type=_thread_count, default=1, metavar="N", help=f"1 to {MAX_THREADS} (default: %(default)s)")


def _thread_count(text: str) -> int:
    value = _positive(text)
    if value > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_THREADS}. Received: {text}")
    return value


def _number(text: str, kind, lowest, expected: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not value >= lowest:
        raise argparse.ArgumentTypeError(f"must be {expected}. Received: {text}")
    return value


def _positive(text: str) -> int:
    return _number(text, int, 1, "a whole number, at least 1")


def _not_negative(text: str) -> int:
    return _number(text, int, 0, "a whole number, at least 0")


def _tolerance(text: str) -> float:
    return _number(text, float, 0, "a number, at least 0")


def _size(text: str) -> int:
    """Bytes of `2MB` (powers of ten), `1.5MiB` (powers of two) or `2000000`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([kKMG]?)(i?)B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"must be a size such as 2MB, 800kB, 1.5MiB or 2000000. Received: {text!r}")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** "BKMG".index(prefix.upper() or "B"))


def _finite(text: str) -> float:
    value = _number(text, float, -math.inf, "a finite number")
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number. Received: {text}")
    return value


def _stop(*_) -> None:
    """SIGTERM ends the program like an error does: temporary files are removed."""
    raise SystemExit(128 + signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except TFLiteSmartError as error:
        # One line, whatever the message was made of.
        print("tflite_smart:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder without permission
        print(f"tflite_smart: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("tflite_smart: memory must hold the largest tensor a few times. Received: none left. Close something, or convert on a larger machine.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
