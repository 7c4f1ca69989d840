"""A run's folder, read back: the recipe, the newest state, and the verdict on its figures."""

import fcntl
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import jax

from abx import parallel, train
from abx.analysis.report import Facts, report
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data.sources import SpecError
from abx.experiment.cli import flags
from abx.experiment.config import Recipe
from abx.experiment.saved import from_json
from abx.log import read_metrics
from abx.methods.ab import AB
from abx.methods.base import Method
from abx.train import TrainState


def recipe_of(run: Path) -> Recipe:
    """The recipe that `config.json` holds.

    Raises: OSError, ValueError, RecursionError where it holds none.
    """
    found = from_json(json.loads((run / "config.json").read_text()))
    if not isinstance(found, Recipe):
        raise ValueError("it is the configuration of no run")
    return found


def load(run: Path) -> tuple[Recipe, TrainState]:
    """The recipe and its newest state, on this machine's devices.

    Raises: SpecError when the folder holds no complete checkpoint.
    """
    recipe = recipe_of(run)
    if not (run / "checkpoints").is_dir():
        raise SpecError(f"{run} holds no checkpoint yet")
    tx = recipe.optim.build(recipe.steps)
    like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, recipe.data.blank()))
    try:
        with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
            found = checkpoints.restore_newest(like, parallel.replicated(parallel.mesh()))
    except CheckpointError as wrong:
        raise SpecError(str(wrong)) from wrong
    if found is None:
        raise SpecError(f"{run} holds no complete checkpoint yet")
    return recipe, TrainState(*found[0])


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """While inside, no other process writes to this run. The lock is the system's, so that it ends with the process.

    Raises: SpecError when another process has it, or when nothing can be written there.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("w")
    except OSError as wrong:
        raise SpecError(f"--out {run} cannot be written: {wrong.strerror}") from wrong
    with lock as file:
        try:
            _lock(file)
        except BlockingIOError:
            raise SpecError(f"{run} is being written by another process; give another --out, or wait") from None
        except OSError:
            print(f"note: {run} is on a file system without locks: that no other process writes there, you must see to",
                  file=sys.stderr, flush=True)  # fmt: skip
        yield


def _lock(file: IO[str]) -> None:
    """Raises: BlockingIOError where another process has it for longer than `abx runs` does, for a look."""
    for pause in (0.02, 0.2):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def facts(run: Path) -> Facts:
    """What the report must know beside the metrics."""
    recipe, rows = recipe_of(run), read_metrics(run / "metrics.jsonl")
    # One that was stopped has come further than its last figures.
    saved = [int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdecimal()]
    step = max([*saved, *(int(row["step"]) for row in rows)], default=0)
    width = recipe.backbone.width if recipe.backbone else 0
    return Facts(type(recipe.method).__name__, step, recipe.steps, width, _off(recipe.method), tuple(flags(recipe)))


def _off(method: Method) -> tuple[str, ...]:
    """What an ablation does without."""
    if not isinstance(method, AB):
        return () if getattr(method, "ssl_weight", 1) else ("ssl",)
    parts = {"reward": method.reward_weight, "value": method.value_weight, "actions": method.actions}
    return tuple(name for name, on in parts.items() if not on)


def verdict(run: Path) -> str:
    """The text of `report.txt`."""
    return report(read_metrics(run / "metrics.jsonl"), facts(run))
