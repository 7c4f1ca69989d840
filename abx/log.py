"""What a run says: `metrics.jsonl` for machines, a progress line for people."""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from abx.boards import Boards

Row = dict[str, float | int]
"""One line of `metrics.jsonl`; the step is an int."""


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, always with `step`. What is not finite is written as null."""

    def __init__(self, path: Path, step: int = 0, *, writes: bool = True, boards: Boards | None = None):
        """Opens for appending. Lines after `step`, and one that a kill cut off, are dropped: they will come again.

        Args:
            writes: of several processes only one does.
            boards: are told what is written; the caller closes them.
        """
        before = kept(path, step)
        if writes:
            write_lines(path, before)
        self.last = {name for row in before if row["step"] == step for name in row}
        """Names of the figures of `step` that were there."""
        self.losses = [row["loss"] for row in before if row.get("loss") is not None]
        """Those that were there, in order."""
        self.boards = boards
        self.file = (path if writes else Path(os.devnull)).open("a")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self.file.write(json.dumps(_nulls({"step": step, **metrics})) + "\n")
        self.file.flush()
        if self.boards is not None:
            self.boards.scalars(step, metrics)

    def sync(self) -> None:
        """Until what was written is on disk: before a checkpoint, that would otherwise outlive its metrics."""
        if self.file.name != os.devnull:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[Row]:
    """The lines of a `metrics.jsonl`, in order; null becomes NaN, what is not a whole line with a step is left out."""
    return [numbers(row) for row in read_lines(path) if "step" in row]


def numbers(line: Mapping[str, Any]) -> Row:
    """A line with NaN for null."""
    return {k: math.nan if v is None else v for k, v in line.items()}


def kept(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` that stay when its run goes on at `step`; none when it begins."""
    return [row for row in read_lines(path) if row.get("step", math.inf) <= step] if step else []


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; empty when there is no file. Lines that are not whole are left out."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines. Written beside and moved, so that a kill in between leaves the old file or the new one."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text("".join(json.dumps(row) + "\n" for row in rows))
    beside.replace(path)


def _nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if math.isfinite(v) else None for k, v in row.items()}


class ProgressLine:
    """One line that renews itself on a terminal; plain lines elsewhere."""

    def __init__(self, steps: int, start: int):
        self.steps, self.first, self.began = steps, start, time.monotonic()
        self.bar: Progress | None = None
        if sys.stdout.isatty():
            columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=Console(soft_wrap=True))
            self.task = self.bar.add_task("compiling the step", total=steps, completed=start)
            self.bar.start()

    def compiled(self, step: int) -> None:
        """The step was compiled and made; the time that is left is told by those after it."""
        self.first, self.began = step, time.monotonic()

    def update(self, step: int, row: Mapping[str, float]) -> None:
        """Show a step's figures."""
        text = describe(step, self.steps, row, self._eta(step))
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        else:
            print(text, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()

    def _eta(self, step: int) -> float:
        done = step - self.first
        return (time.monotonic() - self.began) / done * (self.steps - step) if done else math.nan


def describe(step: int, steps: int, row: Mapping[str, float], eta: float) -> str:
    """step 120/400  loss 5.21  reward 2.4  value 4.9  views/s 410  wait 2%  ETA 1:20"""
    parts = [f"step {step}/{steps}"]
    names = {"loss": "loss", "reward/loss": "reward", "value/loss": "value"}
    parts += [f"{short} {row[name]:.3f}" for name, short in names.items() if name in row]
    if "speed/views_per_second" in row:
        parts.append(f"views/s {row['speed/views_per_second']:,.0f}")
        parts.append(f"wait {100 * row['speed/data_wait_fraction']:.0f}%")
    if math.isfinite(eta):
        parts.append(f"ETA {hms(eta)}")
    return "  ".join(parts)


def hms(seconds: float) -> str:
    """75 -> 1:15, 3700 -> 1:01:40"""
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02d}:{s:02d}" if h else f"{m}:{s:02d}"
