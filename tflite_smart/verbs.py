"""What each verb of the command line does: call the library, print one table or JSON, return the exit code."""

from argparse import Namespace
import collections
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import dataclasses
import json
import os
from pathlib import Path
import sys
import time

import numpy as np

from tflite_smart import arrays, files, tables
from tflite_smart.converter.errors import MissingDependencyError, OutputExistsError
from tflite_smart.converter.model_writer import check_output


def _print_json(value) -> None:
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    print()


@contextmanager
def _messages_aside():
    """Sends what native libraries write to standard output to standard error, so that `--json | jq` works."""
    sys.stdout.flush()
    keep = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(keep, 1)
        os.close(keep)


def convert(arguments: Namespace) -> int:
    from tflite_smart.converter.convert import convert as compress
    from tflite_smart.converter.recipe import TARGETS, WeightConfig, resolve

    output = arguments.output or _smart_name(arguments.model)
    check_output(output, arguments.overwrite)
    recipe = resolve(arguments.recipe)
    target = {name: getattr(arguments, name) for name in TARGETS if getattr(arguments, name) is not None}
    if target:
        recipe = recipe.aiming_at(**target)
    if arguments.objective or arguments.compute:
        asked = WeightConfig(objective=arguments.objective, compute=arguments.compute)
        recipe = dataclasses.replace(recipe, global_config=(recipe.global_config or WeightConfig()).merged(asked))
    data = arrays.load_arrays(arguments.calibration_data) if arguments.calibration_data else None
    labelled = arrays.load_arrays(arguments.data) if arguments.data else None
    if (arguments.target_max_drop is None) != (labelled is None):
        raise arrays.InputError("--max-drop and --data: must come together. Received: one of them. --data is a .npz with the keys x and y.")
    start = time.perf_counter()
    with _messages_aside(), tables.progress_bars() as progress, ThreadPoolExecutor(1) as aside:
        # Deflating a large model takes seconds, and zlib leaves Python free meanwhile.
        before = aside.submit(files.zipped_bytes, arguments.model) if arguments.model.endswith(".tflite") else None
        report = compress(arguments.model, recipe=recipe, calibration_data=data, output=output,
                          overwrite=arguments.overwrite, progress=progress, evaluation_data=labelled, work_folder=arguments.work_folder)
    seconds = time.perf_counter() - start
    zipped = [before.result() if before else None, files.zipped_bytes(output)]
    if arguments.json:
        _print_json({**report.to_dict(), "zipped_bytes_before": zipped[0], "zipped_bytes_after": zipped[1], "total_seconds": seconds})
    else:
        _print_conversion(report, zipped, seconds)
    return 0


def _print_conversion(report, zipped: list, seconds: float) -> None:
    weights = [sum(getattr(row, field) for row in report.rows) for field in ("bytes_before", "bytes_after")]
    rows = [["file", *map(tables.size, (report.file_bytes_before, report.file_bytes_after)), tables.times_smaller(report.file_bytes_before, report.file_bytes_after)],
            ["  of it weights", *map(tables.size, weights), tables.times_smaller(*weights)],
            ["zipped download", tables.size(zipped[0]) if zipped[0] else "", tables.size(zipped[1]), tables.times_smaller(*zipped)],
            ["fidelity of outputs", "", tables.decibel(report.output_snr_db), f"on {report.measured_on}"] if report.output_snr_db is not None else None,
            ["tensors compressed", "", str(len(report.packed)), ""],
            ["tensors left alone", "", str(len(report.skipped)), ""],
            ["time", "", f"{seconds:.1f} s", ""]]
    if report.targets:
        _print_trials(report)
    reasons = collections.defaultdict(list)
    for row in report.skipped:
        reasons[row.skipped.split(":")[0]].append(tables.short_name(row.layer, 40))
    notes = [f"left alone: {len(names)}, {reason}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" for reason, names in reasons.items()]
    tables.print_table(f"{report.output} ({report.recipe})", ["", "before", "after", ""], [row for row in rows if row],
                       [*notes, *report.notes, "Per tensor: --json. It runs with tflite_smart.Interpreter, or any LiteRT that loads `tflite_smart delegate`."])


def _print_trials(report) -> None:
    """The whole search, from coarse to fine; without a target that was searched for there is nothing to print."""
    trials = sorted(report.trials, key=lambda trial: -trial.error_budget)
    if not trials:
        return
    cells = [["chosen" if trial.error_budget == report.error_budget else "", f"{trial.error_budget:.3g}", tables.size(trial.file_bytes), f"{trial.bits_per_weight:.2f}",
              "-" if trial.output_snr_db is None else tables.decibel(trial.output_snr_db), tables.percent(trial.top1)] for trial in trials]
    target = ", ".join(f"{name}={value:g}" for name, value in report.targets.items())
    before = [f"top-1 of the original on these data: {tables.percent(report.float_top1)}"] if report.float_top1 is not None else []
    tables.print_table(f"search for {target}", ["", "error budget", "file", "bits/weight", "SNR", "top-1"], cells, before)


def analyze(arguments: Namespace) -> int:
    from tflite_smart.converter.analyze import analyze as look_into

    data = arrays.load_arrays(arguments.calibration_data) if arguments.calibration_data else None
    with _messages_aside(), tables.progress_bars() as progress:
        result = look_into(arguments.model, arguments.recipe, data, progress)
    if arguments.json:
        _print_json(result.to_dict())
        return 0
    weights = sum(layer.num_weights for layer in result.layers)
    cells = [[tables.short_name(layer.name, 40), layer.op_type, f"{layer.num_weights:,}", tables.percent(layer.num_weights / weights), f"{layer.sensitivity_db:.1f} dB",
              tables.decibel(layer.snr_if_coarse_db), f"{layer.bits_per_weight:.2f}"] for layer in result.layers]
    tables.print_table(f"{arguments.model}: layers, the most sensitive first, on {result.measured_on}",
                       ["layer", "op", "weights", "share", "sensitivity", f"SNR if it alone had {result.coarse_bits:g} bits", f"bits at {result.at_snr_db:g} dB"], cells,
                       ["Sensitivity: noise of the outputs over noise of the weights; 0 dB passes it on as it is. The last column is the layer's share where the whole model has that SNR."])
    curve = [[tables.size(trial.file_bytes), tables.times_smaller(result.file_bytes, trial.file_bytes), f"{trial.bits_per_weight:.2f}",
              "-" if trial.output_snr_db is None else tables.decibel(trial.output_snr_db)] for trial in result.curve]
    tables.print_table("size and error of the whole model", ["file", "smaller", "bits/weight", "SNR"], curve, result.notes)
    return 0


def _smart_name(model: str) -> str:
    path = Path(model).resolve() if Path(model).name in ("", "..") else Path(model)
    return str(path.with_name((path.name if path.is_dir() else path.stem) + ".smart.tflite"))


def inspect(arguments: Namespace) -> int:
    from tflite_smart.inspect_model import inspect_model

    rows = inspect_model(arguments.model)
    if arguments.json:
        _print_json({"model": arguments.model, "file_bytes": os.path.getsize(arguments.model), "tensors": [r.to_dict() for r in rows]})
        return 0
    before, after = sum(r.plain_bytes for r in rows), sum(r.stored_bytes for r in rows)
    cells = [[tables.short_name(r.tensor), r.op, "x".join(map(str, r.shape)), _stored_as(r), f"{r.bits_per_weight:.2f}", tables.size(r.plain_bytes),
              tables.size(r.stored_bytes), r.note] for r in rows]
    tables.print_table(arguments.model, ["tensor", "op", "shape", "codec", "bits/weight", "plain", "stored", "note"], cells,
                       [f"constants: {tables.size(before)} plain, {tables.size(after)} stored: {tables.times_smaller(before, after)}", _energy(rows)])
    return 0


def _stored_as(row) -> str:
    """The codec, and what its ids mean where that is no plain number."""
    return row.codec if row.value_kind in ("uniform", "integer") else f"{row.codec}, {row.value_kind}" if row.codec else "-"


def _energy(rows: list) -> str:
    before, after = sum(row.plain_energy_uj for row in rows), sum(row.stored_energy_uj for row in rows)
    return f"reading them once from memory, estimated from published constants: {before:.0f} uJ plain, {after:.0f} uJ stored and decoded"


def verify(arguments: Namespace) -> int:
    from tflite_smart.runner import Runner

    with _messages_aside():
        a, b = (Runner(path, arguments.num_threads, xnnpack=not arguments.no_xnnpack) for path in (arguments.a, arguments.b))
        if arguments.inputs:
            data = a.named(arrays.load_arrays(arguments.inputs))
        else:
            data = arrays.random_inputs(a.inputs, arguments.num_samples, arguments.seed, arguments.input_range)
        results = _side_by_side(a, b, data)
    good = all(r.within(arguments.tolerance) for r in results)
    if arguments.json:
        _print_json({"a": arguments.a, "b": arguments.b, "tolerance": arguments.tolerance, "within_tolerance": good,
                     "outputs": [r.to_dict() for r in results]})
    else:
        cells = [[tables.short_name(r.name), f"{r.max_abs:.3g}", f"{r.relative:.3g}", tables.decibel(r.snr_db), f"{r.cosine:.6f}", tables.percent(r.top1),
                  "yes" if r.within(arguments.tolerance) else "NO"] for r in results]
        names = tables.model_names([arguments.a, arguments.b])
        tables.print_table(f"{names[1]} against {names[0]}",
                           ["output", "max abs", "relative rms", "SNR", "cosine", "top-1 agreement", f"within {arguments.tolerance:g}"], cells)
    return 0 if good else 1


def _side_by_side(a, b, data: dict[str, np.ndarray]) -> list:
    """The outputs of two Runners on the same samples, compared."""
    from tflite_smart.converter.verify import compare_runs

    return compare_runs(a.real, lambda feed: b.real(b.from_other(a, feed)), a.batches(data))


def evaluate(arguments: Namespace) -> int:
    from tflite_smart.evaluate import evaluate as accuracy_of
    from tflite_smart.runner import Runner

    data = arrays.load_arrays(arguments.data)
    if not {"x", "y"} <= set(data):
        raise arrays.InputError(f"{arguments.data}: must hold the keys x (samples) and y (labels). Received: {sorted(data)}. "
                                "Save them with numpy.savez(file, x=..., y=...).")
    with _messages_aside():
        accuracy = accuracy_of(Runner(arguments.model, arguments.num_threads), data["x"], data["y"])
    if arguments.json:
        _print_json({"model": arguments.model, **accuracy.to_dict()})
    else:
        tables.print_table(f"{accuracy.num_samples} samples of {arguments.data}", ["model", "top-1", "top-5"],
                           [[arguments.model, tables.percent(accuracy.top1), tables.percent(accuracy.top5)]])
    return 0


def run(arguments: Namespace) -> int:
    from tflite_smart.runner import Runner

    check_output(arguments.output, arguments.overwrite)
    with _messages_aside():
        runner = Runner(arguments.model, arguments.num_threads)
        outputs = runner(runner.named(arrays.load_arrays(arguments.input)))
    several = arguments.output.endswith(".npz")
    if len(outputs) > 1 and not several:
        raise OutputExistsError(f"{arguments.output}: must end in .npz for a model with {len(outputs)} outputs.")
    with files.whole_file(arguments.output) as file:
        np.savez(file, **outputs) if several else np.save(file, next(iter(outputs.values())))
    rows = [{"output": name, "shape": list(a.shape), "dtype": str(a.dtype)} for name, a in outputs.items()]
    if arguments.json:
        _print_json({"model": arguments.model, "file": arguments.output, "outputs": rows})
    else:
        tables.print_table(arguments.output, ["output", "shape", "type"], [[r["output"], str(r["shape"]), r["dtype"]] for r in rows])
    return 0


def benchmark(arguments: Namespace) -> int:
    from tflite_smart.benchmark import BenchmarkSettings, benchmark as measure

    settings = BenchmarkSettings(arguments.num_threads, arguments.num_runs, arguments.warmup_runs, arguments.rounds)
    with tables.progress_bars() as progress:
        results = measure([arguments.model, *arguments.against], settings, lambda done, total: progress("measure", done, total))
    ratios = [results[0].ratios(other) for other in results[1:]]
    if arguments.json:
        _print_json({"settings": dataclasses.asdict(settings), "models": [r.to_dict() for r in results],
                     "ratios": [{"against": m, **r} for m, r in zip(arguments.against, ratios)]})
        return 0
    columns = {"file_bytes": "file", "zipped_bytes": "zipped", "peak_memory_bytes": "peak memory", "own_memory_bytes": "without code",
               "cold_start_ms": "cold start", "latency_ms": "latency"}
    names = tables.model_names([r.model for r in results])
    cells = [[name, *[_figure(key, getattr(r, key)) for key in columns]] for name, r in zip(names, results)]
    cells += [[f"{names[0]} / {name}", *[tables.ratio(r.get(key)) for key in columns]] for name, r in zip(names[1:], ratios)]
    tables.print_table(f"{settings.num_threads} thread(s), medians of {settings.rounds} processes of {settings.num_runs} runs",
                       ["model", *columns.values()], cells, _benchmark_notes(results))
    return 0


def _figure(key: str, value: float) -> str:
    return tables.milliseconds(value) if key.endswith("_ms") else tables.size(value)


def _benchmark_notes(results) -> list[str]:
    notes = ["Peak memory: what opening and running added. Without code: less the pages of library code, a fixed cost."]
    if not all(r.peak_was_reset for r in results):
        notes.append("This system does not let a process reset its peak (/proc/self/clear_refs): the memory figures are lower bounds.")
    if not all(r.pinned for r in results):
        notes.append("The processes could not be pinned to CPUs.")
    return notes


def expand(arguments: Namespace) -> int:
    from tflite_smart.converter.expand import expand as restore

    check_output(arguments.output, arguments.overwrite)
    restore(arguments.model, arguments.output, overwrite=arguments.overwrite)
    before, after = os.path.getsize(arguments.model), os.path.getsize(arguments.output)
    if arguments.json:
        _print_json({"model": arguments.model, "output": arguments.output, "smart_bytes": before, "file_bytes": after})
    else:
        tables.print_table("", ["file", "size"], [[arguments.model, tables.size(before)], [arguments.output, tables.size(after)]])
    return 0


def report(arguments: Namespace) -> int:
    from tflite_smart.report import make_report, render

    output = arguments.output or str(Path(arguments.model).with_suffix(".html"))
    check_output(output, arguments.overwrite)
    if arguments.inputs and not arguments.against:
        raise arrays.InputError("--inputs: it must come with --against. Received: no other model. Name the original model.")
    page = render(make_report(arguments.model, _comparison(arguments) if arguments.against else None))
    with files.whole_file(output) as file:
        file.write(page.encode())
    _print_json({"model": arguments.model, "report": output}) if arguments.json else print(output)
    return 0


def _comparison(arguments: Namespace):
    from tflite_smart.report import Comparison
    from tflite_smart.runner import Runner

    with _messages_aside():
        a, b = Runner(arguments.against), Runner(arguments.model)
        data = a.named(arrays.load_arrays(arguments.inputs)) if arguments.inputs else arrays.random_inputs(a.inputs, arguments.num_samples)
        outputs = _side_by_side(a, b, data)
    samples = os.path.basename(arguments.inputs) if arguments.inputs else f"{arguments.num_samples} random samples"
    return Comparison(os.path.basename(arguments.against), os.path.getsize(arguments.against), outputs, samples)


def delegate(arguments: Namespace) -> int:
    from tflite_smart.interpreter import delegate_path

    if arguments.output and not arguments.target:
        raise arrays.InputError("--output: it must come with --target. Received: no target. This machine's library is already built.")
    path = _cross_built(arguments.target, arguments.output or arguments.target) if arguments.target else delegate_path()
    _print_json({"library": path}) if arguments.json else print(path)
    return 0


def _cross_built(target: str, folder: str) -> str:
    from tflite_smart.delegates import cross_build

    try:
        return str(cross_build.build_library(Path(folder), cross_build.TARGETS[target]))
    except cross_build.BuildError as error:
        raise MissingDependencyError(str(error)) from None
