"""Learning curves out of `metrics.jsonl`: which metrics, along what, smoothed how, and beside what guessing gives."""

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import numpy as np

from abx.log import Row

Along = Literal["step", "views", "seconds"]
AXES: dict[Along, str] = {"step": "training step", "views": "views seen", "seconds": "seconds of training"}
USUAL = ("loss", "*/loss", "eval/*_top1")
"""What is drawn where nothing is asked for, as far as it is there."""


class Learning(NamedTuple):
    """One metric of one run; all of one length."""

    run: str
    metric: str
    x: list[float]
    y: list[float]
    """NaN where it was not finite."""
    chance: float | None
    """What guessing gives, as far as the run has logged it: the last."""


def names(rows: Sequence[Row]) -> list[str]:
    """Of the metrics, in the order in which they first came."""
    return list({name: None for row in rows for name in row if name != "step"})


def choose(asked: Sequence[str], there: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics that are asked for, by name or with * and ?, in the order of the asking; and a sentence for each that
    there is not. `there`: names of all that there are."""
    found: dict[str, None] = {}
    problems = []
    for word in asked or USUAL:
        matched = [name for name in there if fnmatchcase(name, word)]
        found |= dict.fromkeys(matched)
        if asked and not matched:
            near = get_close_matches(word, there, n=1, cutoff=0.5) or [
                name for name in there if word in (name.rpartition("/")[2], name.partition("/")[0])
            ]
            said = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(there))}"
            problems.append(f"no run has a metric {word}; {said}")
    return list(found), problems


def learning(run: str, rows: Sequence[Row], metric: str, along: Along) -> Learning | None:
    """None where the run has none of this metric.

    Raises: ValueError, a sentence, where it has not logged what the axis needs.
    """
    points = [(row["step"], row[metric]) for row in rows if metric in row]
    if not points:
        return None
    place = _place(run, rows, along)
    guess = chance_of(metric)
    chances = [row[guess] for row in rows if guess in row and math.isfinite(row[guess])]
    along_x = [place(step) for step, _ in points]
    return Learning(run, metric, along_x, [float(y) for _, y in points], chances[-1] if chances else None)


def chance_of(metric: str) -> str:
    """The metric that says what guessing gives for this one, whether or not there is such a thing."""
    kind, _, what = metric.rpartition("/")
    if kind == "value":  # value/chance is a share, of what is told apart
        return "value/chance" if "accuracy" in what else ""
    if kind == "eval":
        return "eval/chance" if what.endswith("_top1") else ""
    return f"{kind}/chance" if what == "loss" and kind else ""


def _place(run: str, rows: Sequence[Row], along: Along) -> Callable[[float | int], float]:
    """From steps to the axis, in between by straight lines."""
    if along == "step":
        return float
    steps, places = [0.0], [0.0]
    for row in rows:
        views = [value for name, value in row.items() if name.startswith("data/") and name.endswith("/views")]
        speed = row.get("speed/ms_per_step", math.nan)
        if along == "views" and views:
            steps.append(row["step"])
            places.append(sum(views))
        elif along == "seconds" and math.isfinite(speed):
            # Of the steps alone: what compiling, evaluating and saving took is in no metric.
            places.append(places[-1] + (row["step"] - steps[-1]) * speed / 1e3)
            steps.append(row["step"])
    if len(steps) < 2:
        missing = "data/*/views" if along == "views" else "speed/ms_per_step"
        raise ValueError(f"--x {along}: {run} has no {missing} in its metrics.jsonl yet")
    slope = (places[-1] - places[-2]) / max(steps[-1] - steps[-2], 1)

    def place(step: float | int) -> float:
        beyond = max(step - steps[-1], 0)
        return float(np.interp(step, steps, places)) + beyond * slope

    return place


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """The exponential moving average of points in their order, without the pull of a start at 0: of points that are all
    alike it is that point. `weight`: of what came before, in [0, 1). What is not finite stays so and counts for
    nothing."""
    mean, total, found = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
            value = mean / total
        found.append(value)
    return found
