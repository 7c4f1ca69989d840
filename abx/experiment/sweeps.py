"""Figures 5 and 4 middle: what several finished runs came to, by the one setting in which they differ."""

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from abx.data.sources import SpecError
from abx.data.views import mean_iou
from abx.experiment.analysing import Say, called, run_name
from abx.experiment.heldout import Held
from abx.experiment.results import NoResults, read_results
from abx.experiment.rows import FILE
from abx.experiment.saved import HARMLESS, differences, to_json
from abx.log import read_metrics
from abx.methods.ab import AB
from abx.train import TrainState

USUAL = ("eval/attentive_top1", "eval/knn_top1")
"""What is drawn unless something is asked for: the first of these that every run has."""
LOSS = "held-out reward loss"
REPEATED = ("seed", "eval", "mesh")
"""Settings in which runs that are averaged may differ, besides those that a resumed run may change."""


class Run(NamedTuple):
    """One point of a sweep."""

    name: str
    method: str
    x: float
    figures: dict[str, float]


def overlap_of(held: Held) -> float:
    """Mean IoU of the crops that are predicted from one another: of AB those of value images."""
    return mean_iou(list(held.recipe.data.streams().values())[-1].crops)


def gamma_of(held: Held) -> float:
    """Raises: SpecError for what has none."""
    if not isinstance(held.recipe.method, AB):
        raise SpecError(
            f"{held.run} is a run of {called(held.recipe.method)}, which has no gamma; figure 5 is of AB runs"
        )
    return held.recipe.method.gamma


def sweep(helds: Sequence[Held], setting: Callable[[Held], float], metric: str, batches: int, say: Say) -> list[Run]:
    """The setting of each run, its figure of merit at its end, and its reward loss on held-out batches.

    Args:
        metric: a name in metrics.jsonl, whose last value counts; or PROBE/TASK/FIGURE of what `abx probe` wrote,
            as decoder/classification/top1; "" = the first of `USUAL` that all runs have.
        batches: over which the loss is the mean; 0 = without it.

    Raises: SpecError.
    """
    tables = [_figures(held.run) for held in helds]
    if not metric:
        shared = [name for name in USUAL if all(name in table for table in tables)]
        if not shared:
            lacking = next(h.run for h, t in zip(helds, tables, strict=True) if USUAL[-1] not in t)
            raise SpecError(
                f"{lacking} has no {' nor '.join(USUAL)}; --metric names another, as knn/classification/top1"
            )
        metric = shared[0]
    found = []
    for held, table in zip(helds, tables, strict=True):
        if metric not in table:
            near = get_close_matches(metric, table, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SpecError(f"--metric: {held.run} has no {metric}{hint}")
        figures = {metric: table[metric]}
        if batches:
            figures[LOSS] = _held_out_loss(held, batches)
        found.append(Run(run_name(held), called(held.recipe.method), setting(held), figures))
        say(f"{held.run}: {metric} {table[metric]:.4g}")
    return found


def unlike(helds: Sequence[Held], swept: Sequence[str]) -> list[str]:
    """Settings besides the swept ones in which runs of one method differ, so that a curve through them is of more than
    one setting; each as "run and other run: --optim.lr: 0.001 -> 0.002"."""
    said, firsts = [], dict[str, Held]()
    for held in helds:
        first = firsts.setdefault(called(held.recipe.method), held)
        changed = differences(to_json(first.recipe), to_json(held.recipe), (*HARMLESS, *REPEATED, *swept))
        if changed:
            said.append(f"{run_name(first)} and {run_name(held)}: {', '.join(changed)}")
    return said


def panels(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """For each figure of merit and each method, mean and deviation of the runs of equal setting (to three digits)."""
    found: dict[str, dict[str, Any]] = {}
    for name in runs[0].figures:
        for method in dict.fromkeys(run.method for run in runs):
            own = [(round(run.x, 3), run.figures[name]) for run in runs if run.method == method]
            xs = sorted({x for x, _ in own})
            groups = [[y for at, y in own if at == x] for x in xs]
            found.setdefault(name, {})[method] = {
                "x": xs,
                "mean": [float(np.mean(group)) for group in groups],
                "std": [float(np.std(group)) for group in groups],
                "runs": [len(group) for group in groups],
            }
    return found


def _figures(run: Path) -> dict[str, float]:
    """The last value of everything that was measured of a run."""
    found: dict[str, float] = {}
    for row in read_metrics(run / "metrics.jsonl"):
        found |= {name: float(value) for name, value in row.items() if name != "step" and math.isfinite(value)}
    try:
        results = read_results(run / FILE)
    except NoResults:
        return found
    for result in results:  # the last of each counts
        task = str(result["task"]).partition(":")[0]
        for name, v in result.items():
            if isinstance(v, float):
                found[f"{result['probe']}/{task}/{name}"] = v
    return found


def _held_out_loss(held: Held, batches: int) -> float:
    """reward/loss of the newest checkpoint, with the augmentation of training."""
    method, state = held.recipe.method, next(held.states(newest=True))

    @jax.jit
    def loss(state: TrainState, batch: Any, key: Any) -> Any:
        return method.loss(state.model, state.target, state.carry, batch, key)[1].metrics["reward/loss"]

    keys = jax.random.split(jax.random.key(0), batches)
    looked = zip(held.batches(batches), keys, strict=True)
    return float(np.mean([loss(state, each.batch, key) for each, key in looked]))
