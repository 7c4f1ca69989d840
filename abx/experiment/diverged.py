"""What is kept of a step that was refused, because its loss or gradient was not finite or its loss a spike."""

import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from abx import hosts
from abx.checkpoint import Checkpoints
from abx.experiment.saved import to_json
from abx.fit import Diverged

FOLDER = "diverged"


class Kept(NamedTuple):
    """Beside it, in `checkpoints`, the state before the step."""

    folder: Path
    step: int
    """Of the batch and the key: `train.step_key(seed, step)`."""
    batch: Any
    metrics: dict[str, float | None]
    """Of the step; None = not finite."""
    limit: float
    """Above which its loss was refused."""


def keep(out: Path, wrong: Diverged, recipe: Any) -> Path:
    """Into `out`/diverged-STEP, in place of what is there. Of several processes each keeps its rows of the batch."""
    step = wrong.step - 1
    folder = out / f"{FOLDER}-{step}"
    if hosts.first():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    hosts.barrier("diverged")
    rows = [_own_rows(x) for x in jax.tree.leaves(wrong.batch)]
    np.savez(folder / f"batch-{jax.process_index():05d}.npz", *rows)
    with Checkpoints(folder / "checkpoints", 1, False) as checkpoints:
        checkpoints.save(step, wrong.state, {"config": to_json(recipe)})
    if hosts.first():
        finite = {k: v if np.isfinite(v) else None for k, v in wrong.metrics.items()}
        key = [int(x) for x in np.ravel(jax.random.key_data(jax.random.fold_in(jax.random.key(recipe.seed), step)))]
        limit = wrong.limit if np.isfinite(wrong.limit) else None
        about = {"step": step, "why": str(wrong), "seed": recipe.seed, "key": key, "limit": limit, "metrics": finite}
        (folder / "step.json").write_text(json.dumps(about, indent=1) + "\n")
    hosts.barrier("kept")
    return folder


def _own_rows(x: Any) -> np.ndarray:
    """This process's rows of a batch, in their order."""
    parts = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def newest(out: Path) -> Path | None:
    """The folder of the last step of a run that was refused, if there is one that is whole."""
    whole = [folder for folder in out.glob(f"{FOLDER}-*") if (folder / "step.json").exists()]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def read(folder: Path, blank: Any) -> Kept:
    """Args:
    blank: a batch of the same structure (`Data.blank`).
    """
    about = json.loads((folder / "step.json").read_text())
    files = [np.load(path) for path in sorted(folder.glob("batch-*.npz"))]
    leaves = [np.concatenate([file[name] for file in files]) for name in files[0].files]
    return Kept(
        folder,
        about["step"],
        jax.tree.unflatten(jax.tree.structure(blank), leaves),
        about["metrics"],
        about["limit"] or math.inf,
    )
