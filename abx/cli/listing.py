"""The verb `abx runs`: which runs there are, and how each goes on."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from abx.cli.errors import fail
from abx.nearest import not_there

if TYPE_CHECKING:
    from abx.analysis.listing import Listed


@dataclass(frozen=True)
class Runs:
    """Which runs there are: state, step, newest figures, and the command that goes on with each that is not over.
    Needs no device."""

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[FOLDER ...]")] = (Path("runs"),)
    """Folders of runs, or runs themselves, e.g. runs experiments/*; what lies deeper is found, too."""
    sort: Literal["age", "name", "state", "step", "loss", "knn"] = "age"
    """What the order goes by. age: what was written to last comes first; name, state: by the alphabet; step and knn:
    the highest first; loss: the lowest first."""
    state: tuple[Literal["running", "finished", "stopped", "refused", "diverged", "new", "broken"], ...] = ()
    """Only runs in these states; none given = all. running: a process holds its lock. stopped: interrupted or killed.
    refused: too much of its data could not be read. diverged: a step was refused. new: no step was made yet. broken:
    its files cannot be read."""
    json: bool = False
    """Also print one JSON object, on the last line: {"runs": [{"path": "runs/a", "state": "stopped", "step": 40,
    "steps": 400, "loss": 2.1, "knn": null, "seconds": 75.0, "resume": "python ...", ...}]}. Losses that are not finite
    are "nan"."""

    def __call__(self) -> None:
        runs(self)


def runs(verb: Runs) -> None:
    from abx.analysis.listing import runs_below

    for folder in verb.folders:
        if not folder.is_dir():
            fail(f"{folder} is a file, not a folder" if folder.exists() else not_there(folder))
    found = {run.path.resolve(): run for folder in verb.folders for run in runs_below(folder)}
    shown = [run for run in found.values() if not verb.state or run.state in verb.state]
    shown.sort(key=lambda run: _place(run, verb.sort))
    if not shown:
        which = f" that is {' or '.join(verb.state)}" if verb.state else ""
        print(f"there is no run{which} in {' '.join(map(str, verb.folders))}")
    else:
        _print(shown)
    if verb.json:
        print(json.dumps({"runs": [_node(run) for run in shown]}))


def _place(run: "Listed", by: str) -> Any:
    """Of a run among the others; what has no such figure comes last."""
    if by in ("name", "state"):
        return (getattr(run, by), str(run.path)) if by == "state" else str(run.path)
    value = {"age": run.seconds, "step": -run.step, "loss": run.loss, "knn": run.knn and -run.knn}[by]
    return (value is None or math.isnan(value), value or 0.0, str(run.path))


def _print(shown: list["Listed"]) -> None:
    rows = [("RUN", "RECIPE", "STATE", "STEP", "LOSS", "K-NN", "AGE", "CHECKPOINT")]
    for run in shown:
        whole = run.state != "broken"
        rows.append(
            (
                str(run.path),
                run.recipe,
                run.state,
                f"{run.step}/{run.steps}" if whole else "",
                "" if run.loss is None else f"{run.loss:.3f}",
                "" if run.knn is None else f"{run.knn:.1%}",
                age(run.seconds) if whole else "",
                "" if run.checkpoint is None else str(run.checkpoint),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for i, row in enumerate(rows):
        said = [cell.rjust(w) if k >= 3 else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(said).rstrip())
        if i and (run := shown[i - 1]).problem:
            print(f"  {run.problem}")
        if i and (run := shown[i - 1]).resume:
            print(f"  go on: {run.resume}")


def age(seconds: float) -> str:
    """75 -> 1 min, 7000 -> 2 h"""
    for unit, size, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if round(seconds / size) < most:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86400)} d"


def _node(run: "Listed") -> dict[str, Any]:
    node = run._asdict() | {"path": str(run.path), "seconds": round(run.seconds, 1)}
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in node.items()}
