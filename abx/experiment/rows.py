"""What probes found, as rows: added to results.jsonl (read back by `abx.experiment.results`), and shown as a table."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FILE = "results.jsonl"
SHOWN = (
    *("top1", "top5", "mean_per_class", "ap", "ap50", "iou", "f1", "verb_top1", "noun_top1", "action_top1"),
    *("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"),
)
"""Figures of a table, in its order; shares from 0 to 1."""


def append(path: Path, rows: Sequence[Row]) -> None:
    """Each row on a line of its own, at the end of the file, from which what a kill cut off is removed.

    Raises: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        there = file.read()
        file.truncate(there.rfind(b"\n") + 1)
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        file.flush()
        os.fsync(file.fileno())


def line(row: Row) -> str:
    """decoder: top1 71.3  top5 93.0  (2,000 to train, 1,000 to test; 31 s)"""
    shown = "  ".join(f"{name} {_percent(row[name])}" for name in SHOWN if name in row)
    trained = f"{row['n_train']:,} to train, " if row["n_train"] else ""
    return f"{row['probe']}: {shown}  ({trained}{row['n_test']:,} to test; {row['seconds']:.0f} s)"


def table(rows: Sequence[Row], paper: Sequence[str]) -> str:
    """Percentages, a probe a line.

    Args:
        paper: what the paper says, for each row.
    """
    figures = [name for name in SHOWN if any(name in row for row in rows)]
    heads = [
        "probe",
        "task",
        *figures,
        "n_train",
        "n_test",
        *(["paper, on its own data (table)"] if any(paper) else []),
    ]
    lines = [heads]
    for row, said in zip(rows, paper, strict=True):
        shown = [_percent(row[name]) if name in row else "" for name in figures]
        counts = [f"{row[name]:,}" for name in ("n_train", "n_test")]
        lines.append([str(row["probe"]), str(row["task"]), *shown, *counts, *([said] if any(paper) else [])])
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    # Words to the left, numbers to the right.
    left = {0, 1, len(heads) - 1 if any(paper) else 0}
    pad = lambda k, word: word.ljust(widths[k]) if k in left else word.rjust(widths[k])
    return "\n".join("  ".join(pad(k, word) for k, word in enumerate(line)).rstrip() for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
