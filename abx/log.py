"""What a run says: `metrics.jsonl` for machines, a progress line for people."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

Row = dict[str, float]


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, always with `step`. What is not finite is written as null."""

    def __init__(self, path: Path, step: int = 0):
        """Opens for appending; lines after `step`, and a line that a kill cut off, are dropped: they will come again."""
        self.path = path
        kept = [row for row in read_metrics(path) if row["step"] <= step] if step else []
        text = "".join(_line(row) for row in kept)
        # Written beside and moved, so that a kill in between leaves the old file or the new one.
        beside = path.with_suffix(".tmp")
        beside.write_text(text)
        beside.replace(path)
        self.file = path.open("a")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self.file.write(_line({"step": step, **metrics}))
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[Row]:
    """The lines of a `metrics.jsonl`, in order; null becomes NaN, an incomplete line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows.append({k: math.nan if v is None else v for k, v in row.items()})
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n"


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
