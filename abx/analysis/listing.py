"""Which runs there are below a folder, and how far each has come: what their files tell. No checkpoint is opened, and
neither JAX nor a device is asked for, so that a hundred runs are listed in a moment."""

import fcntl
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

State = Literal["running", "finished", "stopped", "refused", "diverged", "new", "broken"]
INSIDE = re.compile(r"checkpoints|tensorboard|wandb|profile|diverged-\d+|\..*")
"""Folders of a run that hold no other runs."""
SIGNS = ("config.json", "metrics.jsonl", "checkpoints")
"""What shows that a folder is a run's; the first alone may be of something else."""


class Listed(NamedTuple):
    """A run."""

    path: Path
    recipe: str = ""
    """As it was started, e.g. "ab_simclr smoke"; where that is not known, the class of its method."""
    state: State = "broken"
    """running: a process holds its lock. finished: it has made all its steps. stopped: it was interrupted, or killed.
    refused: too much of its data could not be read. diverged: a step was refused. new: no step was made yet.
    broken: its files cannot be read."""
    step: int = 0
    """The last that was logged."""
    steps: int = 0
    loss: float | None = None
    """None = there is none; NaN = it was not finite."""
    knn: float | None = None
    """k-NN accuracy, eval/knn_top1."""
    seconds: float = 0.0
    """Since something was last written."""
    checkpoint: int | None = None
    """Step of the newest."""
    resume: str = ""
    """The command that goes on with it, from the folder that it was started in; "" = it needs none, or it is not
    known."""
    problem: str = ""
    """One sentence, where something is wrong."""


def runs_below(folder: Path) -> Iterator[Listed]:
    """Every run in a folder, itself included, in the order of their paths. What cannot be read is listed as broken."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not INSIDE.fullmatch(name))
        if any((name in files) if "." in name else (Path(here) / name).is_dir() for name in SIGNS):
            found = look(Path(here))
            if found is not None:
                yield found


def look(run: Path) -> Listed | None:
    """One run; None for the folder of something else that has a config.json."""
    try:
        return _look(run)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:  # whatever a file says
        why = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong) or type(wrong).__name__
        return Listed(run, problem=f"it cannot be read: {' '.join(why.split())[:160]}")


def _look(run: Path) -> Listed | None:
    if not (run / "config.json").exists():
        return Listed(run, problem="there is no config.json")
    try:
        config = json.loads((run / "config.json").read_text())
    except ValueError:
        return Listed(run, problem="config.json is not whole: it was cut off, or changed by hand")
    if not isinstance(config, dict) or config.get("class") != "abx.experiment.config.Recipe":
        ours = any((run / name).exists() for name in SIGNS[1:])
        return Listed(run, problem="config.json is not that of a run") if ours else None
    metrics = run / "metrics.jsonl"
    data = metrics.read_bytes() if metrics.exists() else b""
    last, loss, knn = (newest(data, name) for name in ("step", "loss", "eval/knn_top1"))
    command = command_of(run)
    checkpoint = max((int(p.name) for p in run.glob("checkpoints/*") if p.name.isdigit()), default=None)
    written = [p.stat().st_mtime for p in run.iterdir() if p.name not in (".lock", "config.json") and p.is_file()]
    steps = int(config["steps"])
    state, problem = _state(run, steps, metrics.stat().st_mtime if data else 0.0)
    if state == "stopped" and last is None and checkpoint is None:
        state = "new"
    started = [Path(word).stem for word in command[:1]] + [word for word in command[1:2] if word[:1] != "-"]
    return Listed(
        run,
        " ".join(started) or str(config["method"]["class"]).rpartition(".")[2],
        state,
        int(last["step"]) if last else checkpoint or 0,
        steps,
        _number(loss, "loss"),
        _number(knn, "eval/knn_top1"),
        max(time.time() - max(written, default=(run / "config.json").stat().st_mtime), 0.0),
        checkpoint,
        _resume(run, config, command) if state in ("stopped", "refused", "diverged", "new") else "",
        problem,
    )


def _state(run: Path, steps: int, logged: float) -> tuple[State, str]:
    """`logged`: when metrics.jsonl was last written. Whoever goes on with a run writes it anew, so that what is older
    is said of an earlier start."""
    if held(run):
        return "running", ""
    final = run / "final.json"
    if final.exists() and json.loads(final.read_text())["step"] >= steps:
        return "finished", ""
    kept = [p for p in run.glob("diverged-*/step.json") if p.stat().st_mtime >= logged]
    if kept:
        step = max(int(p.parent.name.rpartition("-")[2]) for p in kept)
        return "diverged", f"step {step + 1} was refused; abx replay {run} says where it comes from"
    report = run / "report.txt"
    if report.exists() and report.stat().st_mtime >= logged:
        first = report.read_text(errors="replace").partition("\n")[0]
        if not re.match(r"\w+, step [\d,]+ of [\d,]+: ", first):
            return "refused", first
    return "stopped", ""


def held(run: Path) -> bool:
    """Whether a process is writing to this run. On a file system without locks that cannot be told."""
    try:
        with (run / ".lock").open() as file:
            # For an instant; who begins a run just then tries again (see `folder.locked`).
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def newest(data: bytes, name: str) -> dict[str, Any] | None:
    """The last whole line of a metrics.jsonl that has a figure of this name."""
    key, end = json.dumps(name).encode() + b":", len(data)
    while (at := data.rfind(key, 0, end)) >= 0:
        end = data.rfind(b"\n", 0, at) + 1
        stop = data.find(b"\n", at)
        try:
            row = json.loads(data[end : stop if stop >= 0 else len(data)])
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and name in row:
            return row
    return None


def _number(row: dict[str, Any] | None, name: str) -> float | None:
    return None if row is None else float("nan" if row[name] is None else row[name])


def command_of(run: Path) -> list[str]:
    """How it was last started; [] where that is not known."""
    try:
        words = json.loads((run / "environment.json").read_text())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    known = isinstance(words, list) and bool(words) and all(isinstance(word, str) for word in words)
    return words if known and words[0].endswith(".py") else []


def _resume(run: Path, config: dict[str, Any], command: list[str]) -> str:
    """The command without what would delete the run; with --out where the folder was moved."""
    if not command:
        return ""
    words = ["python", *(word for word in command if word.replace("_", "-") != "--no-resume")]
    out = Path(config["out"])
    moved = out.resolve() != run.resolve() if out.is_absolute() else run.resolve().parts[-len(out.parts) :] != out.parts
    if moved:
        given = [i for i, word in enumerate(words) if word == "--out"]
        words = [word for i, word in enumerate(words) if not {i, i - 1} & set(given) and not word.startswith("--out=")]
        words += ["--out", str(run)]
    return shlex.join(words)
