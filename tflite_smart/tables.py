"""Tables, sizes and progress bars for people; `--json` bypasses all of it."""

from contextlib import contextmanager
import math
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# Nothing is cut or wrapped where nobody watches: a log file or a pipe has no width.
_PIPE_WIDTH = 240


def console() -> Console:
    """Returns a console on standard output."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def print_table(title: str, columns: list[str], rows: list[list[str]], notes: list[str] = ()) -> None:
    """Prints one table; the first column is text, the others are aligned as figures."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out = console()
    out.print(table)
    for note in notes:
        out.print(note, markup=False)


def size(num_bytes: float) -> str:
    """Returns a size as people write it: `812 B`, `41.3 kB`, `4.07 MB` (powers of ten, as download sizes are given)."""
    for unit in ["B", "kB", "MB"]:
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def short_name(name: str, limit: int = 56) -> str:
    """Returns the first of the names that TensorFlow joined with `;`, cut in the middle where it is still too long."""
    first = name.split(";")[0]
    half = limit // 2 - 1
    return first if len(first) <= limit else f"{first[:half]}..{first[-half:]}"


def model_names(paths: list[str]) -> list[str]:
    """Returns file names where they tell the models apart, else the paths."""
    names = [os.path.basename(p) for p in paths]
    return names if len(set(names)) == len(names) else paths


def milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def times_smaller(before: float, after: float) -> str:
    """Returns `6.2 times smaller`, or `1.1 times larger` where it grew."""
    if not before or not after:
        return "-"
    return f"{before / after:.2f} times smaller" if after <= before else f"{after / before:.2f} times larger"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def decibel(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f} dB"


class _Phases:
    """One bar per phase: `report("encode", 3, 20)`."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._tasks = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)


@contextmanager
def progress_bars():
    """Yields a function (phase, done, total) that draws bars on standard error, or nothing where that is no terminal."""
    error = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=error, disable=not error.is_terminal) as progress:
        yield _Phases(progress)
