"""A run's folder, read back: the recipe, the newest state, and the verdict on its figures."""

import json
from pathlib import Path
from typing import Any

import jax

from abx import parallel, train
from abx.analysis.report import report
from abx.checkpoint import Checkpoints
from abx.data.sources import SpecError
from abx.data.streams import views_per_step
from abx.experiment.config import Recipe, from_json
from abx.experiment.plan import blank_batch
from abx.log import read_metrics
from abx.train import TrainState


def recipe_of(run: Path) -> Recipe:
    """The recipe that `config.json` holds."""
    found = from_json(json.loads((run / "config.json").read_text()))
    assert isinstance(found, Recipe)
    return found


def load(run: Path) -> tuple[Recipe, TrainState]:
    """The recipe and its newest state, on this machine's devices.

    Raises: SpecError when the folder holds no complete checkpoint.
    """
    recipe = recipe_of(run)
    checkpoints = Checkpoints(run / "checkpoints")
    newest = checkpoints.latest()
    if newest is None:
        raise SpecError(f"{run} holds no complete checkpoint yet")
    tx = recipe.optim.build(recipe.steps)
    like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, blank_batch(recipe)))
    state, _ = checkpoints.restore(newest, like, parallel.replicated(parallel.mesh()))
    checkpoints.close()
    return recipe, TrainState(*state)


def facts(run: Path) -> dict[str, Any]:
    """What the report must know beside the metrics."""
    recipe, rows = recipe_of(run), read_metrics(run / "metrics.jsonl")
    return {
        "method": type(recipe.method).__name__,
        "width": getattr(recipe.method, "base", recipe.method).width,
        "annotations": next(iter(recipe.data.batch_sizes().values())),
        "views_total": recipe.steps * views_per_step(recipe.data),
        "labelled": any("eval/knn_top1" in row for row in rows),
        "steps": recipe.steps,
        "step": max((int(row["step"]) for row in rows), default=0),
    }


def verdict(run: Path) -> str:
    """The text of `report.txt`."""
    return report(read_metrics(run / "metrics.jsonl"), facts(run))
