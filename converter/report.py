"""What a conversion did, as data. The command line and the reports format it."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """One constant tensor.

    Attributes:
        name: of the tensor; layer: readable path of the Keras layer, or the tensor's name; op_type: the operator that reads it.
        shape, dtype: of the original.
        codec, value_kind, bits_per_weight: of the packed weight; empty and 0 where it was left alone.
        bytes_before, bytes_after: in the file.
        max_error: largest |w - w'|; relative_error: rms error over rms weight.
        skipped: why it was left alone; empty where it was packed.
        runs_as: the operator of ours that reads it, or empty.
    """

    name: str
    layer: str
    op_type: str
    shape: tuple[int, ...]
    dtype: str
    bytes_before: int
    bytes_after: int
    codec: str = ""
    value_kind: str = ""
    bits_per_weight: float = 0.0
    max_error: float = 0.0
    relative_error: float = 0.0
    skipped: str = ""
    runs_as: str = ""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One budget that was tried: what the file would weigh, and what was measured of it, where it was."""

    error_budget: float
    file_bytes: int
    bits_per_weight: float
    output_snr_db: float | None = None
    top1: float | None = None


@dataclasses.dataclass
class ConversionReport:
    """Result of `convert`.

    Attributes:
        source, output: paths; `output` is None where nothing was to be kept.
        recipe: its name.
        rows: one per constant tensor.
        file_bytes_before: of the .tflite that was compressed; file_bytes_after: of the result.
        seconds: per phase.
        error_budget: noise-to-signal power ratio that was dealt out to the weights.
        output_snr_db: signal-to-noise ratio of the written model's outputs; None where it was not measured or the outputs are equal.
        measured_on: the inputs of that measurement: `calibration data`, or the range of made-up ones. Above 32 MB the reference is the model at 8 bits per weight.
        notes: what else the user should know.
        targets: field of the recipe -> what was aimed at.
        trials: every budget that was tried: bytes, bits, SNR, top-1.
        float_top1: of the original on the labelled data, where they were needed.
    """

    source: str
    output: str | None
    recipe: str
    rows: list[TensorRow]
    file_bytes_before: int
    file_bytes_after: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    error_budget: float = 0.0
    output_snr_db: float | None = None
    measured_on: str = ""
    targets: dict[str, float] = dataclasses.field(default_factory=dict)
    trials: list[Trial] = dataclasses.field(default_factory=list)
    float_top1: float | None = None

    @property
    def packed(self) -> list[TensorRow]:
        return [row for row in self.rows if not row.skipped]

    @property
    def skipped(self) -> list[TensorRow]:
        return [row for row in self.rows if row.skipped]

    @property
    def ratio(self) -> float:
        """How many times smaller the file became."""
        return self.file_bytes_before / self.file_bytes_after if self.file_bytes_after else 0.0

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        values = dataclasses.asdict(self)
        values["rows"] = [{**row, "shape": list(row["shape"])} for row in values["rows"]]
        values["totals"] = {
            "num_packed": len(self.packed),
            "num_skipped": len(self.skipped),
            "weight_bytes_before": sum(row.bytes_before for row in self.packed),
            "weight_bytes_after": sum(row.bytes_after for row in self.packed),
            "ratio": self.ratio,
            "seconds": sum(self.seconds.values()),
        }
        return values

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
