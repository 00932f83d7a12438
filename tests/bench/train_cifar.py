"""Every training method on CIFAR-10: trains, converts, and measures the .tflite through the delegate.

    python tests/bench/train_cifar.py FOLDER [--networks resnet56 vgg16 resnet20 resnet8] [--rows PATTERN] [--steps-scale 1.0] [--validation]

For each network first the float training that all rows start from: a ResNet56 that knows the original images is fine-tuned on the JPEG images of TFLITE_SMART_DATA, a quarter-width VGG16, a
ResNet20 and a ResNet8 begin at random. Then each row wraps that network, trains it for equally many steps on the same batches, with labels softened by the float network's answers, and converts it. The row
`float, as long` trains without any compression: the baseline that the others are to be compared with, and `float, 4 times as long` for the rows that say so. Accuracy is top-1 on the 5,000 test
images, run through the delegate; `smaller` is the file against that of the float network as plain .tflite; peak memory against it as well.

FOLDER keeps checkpoints and results: what was cut off goes on where it stopped, and rows that are done are only printed. The steps of `NETWORKS` are few, half an epoch to four, minutes each on
two cores; `--steps-scale 10` is nearer to what one would train for good, in a day.

Whoever changes a setting chooses it with `--validation`, which measures on training images that are left out, and never looks at the test images for it. (The ResNet56 as it comes saw those, too: it
compares settings, but its own accuracy there is too high.)
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import keras  # noqa: E402

import tflite_smart as ts  # noqa: E402
from tests import cifar  # noqa: E402
from tests.bench.cifar_networks import NETWORKS, Network, for_training  # noqa: E402
from tests.bench.cifar_training import Batches, compile_for, train  # noqa: E402
from tflite_smart import schedules, tables  # noqa: E402
from tflite_smart.benchmark import BenchmarkSettings, benchmark  # noqa: E402
from tflite_smart.converter import from_keras  # noqa: E402
from tflite_smart.evaluate import evaluate  # noqa: E402
from tflite_smart.methods import EntropyQuantize, Prune, Quantize, SmartDeal, Ternarize  # noqa: E402
from tflite_smart.runner import Runner  # noqa: E402

PRUNING_SHARE, PRUNING_FREQUENCY = 0.5, 10  # the sparsity rises over this share of the steps
CALIBRATION_IMAGES = 512
FINE_ERROR = 0.05
FIT_STEPS, CYCLE_STEPS = 75, 25  # of SmartDeal: the last steps of a training go to a basis that stays; W is free for so many steps, then decomposed
VALIDATION_IMAGES = 2500
LONG = 4  # times as many steps for what moves ids that were found already
AS_TRAINED = ts.SmartConfig("as trained", min_weight_elements=256)  # all weights lie on grids or are Ce B: nothing is left to search


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        recipe: function of the network that gives the recipe of `smart_wrap`; None trains as it is.
        convert: recipe of `ts.convert`, or function of the network that gives it, or None: plain .tflite.
        rate: times `Network.row_rate`.
        length: times `Network.row_steps`.
        trains: False only converts.
        temperature: of `Distillation`.
        projected: training begins with what `ts.project` makes of the float network, `Network.smaller` times smaller.
    """

    recipe: Callable[[Network], ts.WrapConfig] | None = None
    convert: str | ts.SmartConfig | Callable[[Network], ts.SmartConfig] | None = "lossless_accuracy"
    rate: float = 1.0
    length: int = 1
    trains: bool = True
    temperature: float = 1.0
    projected: bool = False


def pruned(network: Network, which: int, *then) -> ts.WrapConfig:
    """Each pattern of the network with its sparsity, and methods that follow."""
    end = int(network.row_steps * PRUNING_SHARE)
    methods = {
        pattern: [Prune(schedules.PolynomialDecay(sparsities[which] / 2, sparsities[which], 0, end, frequency=PRUNING_FREQUENCY)), *then] for pattern, sparsities in network.sparsity.items()
    }
    return ts.WrapConfig(then or None, op_name_configs=methods, min_weight_elements=256)


def wide_steps(network: Network) -> ts.WrapConfig:
    return ts.WrapConfig(op_name_configs={pattern: EntropyQuantize(step) for pattern, step in network.wide_steps.items()}, min_weight_elements=256)


def found_steps(network: Network) -> ts.WrapConfig:
    return ts.WrapConfig(EntropyQuantize(keep_grid=True), min_weight_elements=256)


def first_in_8_bits(method) -> Callable[[Network], ts.WrapConfig]:
    """The method everywhere but in the first convolution and the last layer, which are small and see pixels and scores."""
    ends = {"^(conv1|size32_conv0|first)/": Quantize(8), "^(linear|scores)/": Quantize(8)}
    return lambda network: ts.WrapConfig(method, op_name_configs=ends, min_weight_elements=256)


def smartdeal_alone(network: Network) -> ts.SmartConfig:
    """The few weights of the first layers and the last would take nearly as many bits as coefficients and bases, at three times the error."""
    fine = {network.fine: ts.WeightConfig(buckets="dependent", relative_error=FINE_ERROR)}
    return ts.SmartConfig("smartdeal", min_weight_elements=256, global_config=ts.WeightConfig(buckets="smartdeal", relative_error=network.smartdeal_error), op_name_configs=fine)


def smartdeal_in_training(fit_steps: int, project_steps: int = 0) -> Callable[[Network], ts.WrapConfig]:
    """What `smartdeal_alone` leaves fine is here fine, too."""
    fine = EntropyQuantize(FINE_ERROR * 12**0.5, 0.5)
    return lambda network: ts.WrapConfig(SmartDeal(network.smartdeal_threshold, fit_steps=fit_steps, project_steps=project_steps), op_name_configs={network.fine: fine}, min_weight_elements=256)


def integer(bits: int) -> Callable[[Network], ts.WrapConfig]:
    return lambda network: ts.WrapConfig(Quantize(bits), min_weight_elements=1, activation_bits=8)


ROWS = {
    "float": Row(convert=None, trains=False),
    "float, as long": Row(convert=None),
    "float, 4 times as long": Row(convert=None, length=LONG),
    "float, compressed": Row(trains=False),
    "pruned to 90 %": Row(lambda network: pruned(network, 0)),
    "pruned, 4 bits": Row(lambda network: pruned(network, 1, Quantize(4))),
    "wide steps": Row(wide_steps, temperature=4.0),
    "compressed, then trained": Row(found_steps, convert=AS_TRAINED, temperature=4.0, projected=True),
    "compressed, then trained 4 times as long": Row(found_steps, convert=AS_TRAINED, length=LONG, temperature=4.0, projected=True),
    "W4A8, integers alone": Row(integer(4), rate=0.5),
    "W8A8, integers alone": Row(integer(8), rate=0.25),
    "ternary": Row(first_in_8_bits(Ternarize())),
    "SmartDeal, no retraining": Row(convert=smartdeal_alone, trains=False),
    "SmartDeal, trained": Row(smartdeal_in_training(FIT_STEPS), convert=AS_TRAINED, temperature=4.0),
    "SmartDeal, cycles": Row(smartdeal_in_training(CYCLE_STEPS, CYCLE_STEPS), convert=AS_TRAINED, temperature=4.0),
}


class Table:
    """All rows of one network, measured or still to be."""

    def __init__(self, name: str, folder: Path, scale: float, validation: bool):
        network = NETWORKS[name]
        self.name, self.folder, self.network = name, folder / (f"{name}_validation" if validation else name), network
        self.scale, self.float_steps = scale, max(int(network.float_steps * scale), 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = cifar.data_folder()
        self.batches = Batches(folder, self.data, VALIDATION_IMAGES if validation else 0)
        self.test = self.batches.held_out if validation else cifar.load_test_images(self.data)

    def start(self):
        """The float network that all rows begin with, in training form."""
        path = self.folder / "start.keras"
        model = keras.saving.load_model(path) if path.exists() else for_training(self.network.build(self.data), "mixed_bfloat16")
        if not path.exists():
            compile_for(model, self.network.float_rate, self.float_steps)
        print(f"{self.name}: float training", flush=True)
        train(model, self.batches, None, self.float_steps, path)
        return model

    def run(self, row_name: str) -> dict:
        """The figures of a row, from its file where it is done."""
        path = self.folder / f"{re.sub('[^a-z0-9]+', '_', row_name.lower())}.json"
        if path.exists():
            return json.loads(path.read_text())
        print(f"{self.name}: {row_name}", flush=True)
        row, start = ROWS[row_name], self.start()
        target, plain = path.with_suffix(".tflite"), self._plain(start, "float.tflite")
        model = self._trained(row, start, path.with_suffix(".keras")) if row.trains else start
        if row.convert is None:
            target = self._plain(model, target.name)
        else:
            ts.convert(model, row.convert(self.network) if callable(row.convert) else row.convert, output=target, overwrite=True)
        result = {"network": self.name, "row": row_name, **self._measured(target, plain)}
        path.write_text(json.dumps(result, indent=2))
        print(f"  {result}", flush=True)
        return result

    def _trained(self, row: Row, start, checkpoint: Path):
        steps = max(int(self.network.row_steps * row.length * self.scale), 1)
        if checkpoint.exists():
            model = ts.load_model(checkpoint)
        else:
            first = self._projected(start) if row.projected else start
            model = ts.smart_wrap(first, row.recipe(self.network)) if row.recipe else start
            if row.projected:
                ts.loosen(model, start)
            compile_for(model, self.network.projected_rate if row.projected else self.network.row_rate * row.rate, steps, row.temperature)
        train(model, self.batches, self.batches.answers(start, steps, self.folder / "answers.npy"), steps, checkpoint)
        return model

    def _projected(self, model):
        """The network that conversion makes `Network.smaller` times smaller, every channel on one grid."""
        size = int(self._plain(model, "float.tflite").stat().st_size / self.network.smaller)
        recipe = ts.SmartConfig("to train on", target_size_bytes=size, min_weight_elements=256, global_config=ts.WeightConfig(buckets="uniform"))
        return ts.project(model, recipe, cifar.normalized(self.batches.images[:CALIBRATION_IMAGES]))

    def _plain(self, model, name: str) -> Path:
        """A model as .tflite without any compression."""
        path = self.folder / name
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                shutil.copy(from_keras.to_tflite(model, folder).path, path)
        return path

    def _measured(self, path: Path, plain: Path) -> dict:
        images, labels = self.test
        after, before = benchmark([str(path), str(plain)], BenchmarkSettings(rounds=1))
        accuracy = evaluate(Runner(str(path), num_threads=1), cifar.normalized(images), labels).top1
        return {"top1": accuracy, "file_bytes": after.file_bytes, "smaller": before.file_bytes / after.file_bytes, "peak_memory": after.peak_memory_bytes / before.peak_memory_bytes}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rows", default="", metavar="PATTERN", help="regular expression of the rows to run (default: all)")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="times all steps, for a try (default 1)")
    parser.add_argument("--validation", action="store_true", help=f"leave {VALIDATION_IMAGES} training images out and measure on them: settings are chosen there")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        keras.utils.set_random_seed(7)
        table = Table(name, options.folder, options.steps_scale, options.validation)
        results = [table.run(row) for row in ROWS if re.search(options.rows, row)]
        cells = [[r["row"], f"{r['top1']:.2%}", f"{r['file_bytes']:,}", f"{r['smaller']:.1f}x", tables.ratio(r["peak_memory"])] for r in results]
        tables.print_table(f"{name}, CIFAR-10", ["method", "top-1", "file bytes", "smaller", "peak memory"], cells)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
