"""One HTML page about a model, whole in itself: sizes, a map of the layers, the distribution of every weight, outputs beside those of the original.

Plain text and SVG: no script, no font, no picture from elsewhere, so that it can be mailed and opened in ten years. The same model gives the same page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
import os

import numpy as np

from tflite_smart import files, tables
from tflite_smart.converter.verify import OutputComparison
from tflite_smart.inspect_model import TensorRow, inspect_values

NUM_BINS = 48
# Beyond it the page grows and the eye does not: the largest weights are shown.
MAX_HISTOGRAMS = 120
_MAP_WIDTH, _MAP_LABEL, _MAP_ROW = 900, 300, 16
_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT = 220, 70

_STYLE = """
:root { color-scheme: light dark; --plain: #b9c4cc; --stored: #1f77b4; --alone: #d9a441; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .1rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; font-size: 13px; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td:last-child:not(:nth-child(-n+4)) { white-space: normal; }
svg { max-width: 100%; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.plain { fill: var(--plain); } .stored { fill: var(--stored); } .alone { fill: var(--alone); }
.histograms { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 220px; } figcaption { font-size: 11px; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Histogram:
    """How often values of `NUM_BINS` equal parts of `low` .. `high` occur, and how many of all values are 0."""

    counts: tuple[int, ...]
    low: float
    high: float
    zeros: float


@dataclass(frozen=True)
class Comparison:
    """The model's outputs beside another's."""

    name: str
    file_bytes: int
    outputs: list[OutputComparison]
    samples: str


@dataclass(frozen=True)
class Report:
    """What the page says."""

    name: str
    file_bytes: int
    zipped_bytes: int
    rows: list[tuple[TensorRow, Histogram | None]]
    comparison: Comparison | None = None


def make_report(path: str, comparison: Comparison | None = None) -> Report:
    """Reads a .tflite, one tensor at a time. Raises: ModelFormatError, PackedWeightError."""
    rows = [(row, histogram(values())) for row, values in inspect_values(path)]
    return Report(os.path.basename(path), os.path.getsize(path), files.zipped_bytes(path), rows, comparison)


def histogram(values: np.ndarray | None) -> Histogram | None:
    """None for a tensor without a finite number."""
    finite = np.empty(0) if values is None else values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return None
    counts, edges = np.histogram(finite, NUM_BINS)
    return Histogram(tuple(int(n) for n in counts), float(edges[0]), float(edges[-1]), float(np.mean(finite == 0)))


def render(report: Report) -> str:
    """The page."""
    title, rows = escape(report.name), [row for row, _ in report.rows]
    parts = [f"<h1>{title}</h1>", _summary(report)]
    if report.comparison:
        parts += ["<h2>Outputs</h2>", _outputs(report.comparison)]
    if rows:
        parts += ["<h2>Layers</h2>", "<p>Every constant in the order of the operators: light what it takes expanded, dark what is stored, yellow what is not "
                  "compressed.</p>",
                  _layer_map(rows), _tensors(rows), "<h2>Weights</h2>", _histograms(report.rows)]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are text, and escaped here."""
    def line(tag, cells):
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>\n" + "\n".join([line("th", columns), *(line("td", row) for row in rows)]) + "\n</table>"


def _summary(report: Report) -> str:
    rows = [row for row, _ in report.rows]
    plain, stored = sum(row.plain_bytes for row in rows), sum(row.stored_bytes for row in rows)
    packed = [row for row in rows if row.codec]
    weights = [sum(row.plain_bytes for row in packed), sum(row.stored_bytes for row in packed)]
    cells = [["file", tables.size(report.file_bytes), ""], ["zipped download", tables.size(report.zipped_bytes), ""],
             ["constants", tables.size(stored), f"{tables.size(plain)} expanded, {tables.times_smaller(plain, stored)}"],
             ["of them compressed", f"{len(packed)} of {len(rows)}", tables.times_smaller(*weights) if packed else ""]]
    if report.comparison:
        other = report.comparison
        cells.insert(1, [f"beside {other.name}", tables.size(other.file_bytes), tables.times_smaller(other.file_bytes, report.file_bytes)])
    return _table(["", "", ""], cells)


def _outputs(comparison: Comparison) -> str:
    cells = [[r.name, f"{r.max_abs:.3g}", f"{r.relative:.3g}", tables.decibel(r.snr_db), f"{r.cosine:.6f}", tables.percent(r.top1)] for r in comparison.outputs]
    note = f"<p>Against {escape(comparison.name)}, on {escape(comparison.samples)}.</p>"
    return note + _table(["output", "max abs", "relative rms", "SNR", "cosine", "top-1 agreement"], cells)


def _tensors(rows: list[TensorRow]) -> str:
    return _table(["tensor", "op", "shape", "codec", "bits/weight", "expanded", "stored", ""],
                  [[tables.short_name(row.tensor), row.op, "x".join(map(str, row.shape)), row.codec or "-", f"{row.bits_per_weight:.2f}",
                    tables.size(row.plain_bytes), tables.size(row.stored_bytes), row.note] for row in rows])


def _layer_map(rows: list[TensorRow]) -> str:
    scale = (_MAP_WIDTH - _MAP_LABEL) / max(max(row.plain_bytes for row in rows), 1)
    bars = []
    for i, row in enumerate(rows):
        y = i * _MAP_ROW
        name = f"{row.tensor}: {tables.size(row.plain_bytes)} expanded, {tables.size(row.stored_bytes)} stored"
        bars.append(f'<g><title>{escape(name)}</title><text x="{_MAP_LABEL - 8}" y="{y + 11}" text-anchor="end">{escape(tables.short_name(row.tensor, 44))}</text>'
                    + _bar("plain", y, scale * row.plain_bytes) + _bar("stored" if row.codec else "alone", y, scale * row.stored_bytes) + "</g>")
    return f'<svg viewBox="0 0 {_MAP_WIDTH} {_MAP_ROW * len(rows)}" role="img" aria-label="map of the layers">\n' + "\n".join(bars) + "\n</svg>"


def _bar(kind: str, y: int, width: float) -> str:
    return f'<rect class="{kind}" x="{_MAP_LABEL}" y="{y + 2}" width="{max(width, 0.5):.1f}" height="{_MAP_ROW - 4}"/>'


def _histograms(rows: list[tuple[TensorRow, Histogram | None]]) -> str:
    shown = [(row, bars) for row, bars in rows if bars is not None]
    largest = sorted(shown, key=lambda pair: -pair[0].plain_bytes)[:MAX_HISTOGRAMS]
    kept = [pair for pair in shown if pair in largest]
    note = f"<p>The {len(kept)} largest of {len(shown)}.</p>" if len(kept) < len(shown) else ""
    return note + '<div class="histograms">\n' + "\n".join(_figure(row, bars) for row, bars in kept) + "\n</div>"


def _figure(row: TensorRow, bars: Histogram) -> str:
    step, highest = _HISTOGRAM_WIDTH / NUM_BINS, max(bars.counts)
    rects = "".join(f'<rect class="stored" x="{i * step:.2f}" y="{_HISTOGRAM_HEIGHT * (1 - n / highest):.2f}" width="{0.9 * step:.2f}" '
                    f'height="{_HISTOGRAM_HEIGHT * n / highest:.2f}"/>' for i, n in enumerate(bars.counts) if n)
    caption = f"{escape(tables.short_name(row.tensor))}<br>{bars.low:.3g} to {bars.high:.3g}, {tables.percent(bars.zeros)} zeros, {row.bits_per_weight:.2f} bits"
    return f'<figure><svg viewBox="0 0 {_HISTOGRAM_WIDTH} {_HISTOGRAM_HEIGHT}" role="img">{rects}</svg><figcaption>{caption}</figcaption></figure>'
