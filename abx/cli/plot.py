"""The verb `abx plot`: learning curves of several runs in one picture."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from abx.cli.errors import fail, fail_each
from abx.cli.labels import labels
from abx.nearest import not_there


@dataclass(frozen=True)
class Plot:
    """Draw learning curves of several runs in one picture, from their metrics.jsonl; also while they train. Needs no
    device."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN ...")]
    """Folders of runs, e.g. runs/simclr-smoke runs/ab_simclr-smoke."""
    metrics: tuple[str, ...] = ()
    """Which metrics, a chart for each: names as in metrics.jsonl, also with * and ?, as 'value/*'. None given: the
    losses, and the accuracies of the k-NN and attentive probes."""
    x: Literal["step", "views", "seconds"] = "step"
    """What is to the right. views: all that were seen, of every stream. seconds: what the steps took, without
    compiling, evaluating and saving."""
    smooth: float = 0.0
    """Weight of the past, from 0 to below 1, in an exponential moving average over the points; 0 = as they are. The
    picture says it."""
    out: Path = Path("curves.png")
    """Picture to write: .png or .svg."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "curves.png", "x": "step", "smooth": 0.0, "curves":
    [{"run": "simclr", "metric": "loss", "x": [10, ...], "y": [2.7, ...], "chance": null}, ...]}; y is not smoothed,
    null = not finite."""

    def __call__(self) -> None:
        plot(self)


def plot(verb: Plot) -> None:
    if not verb.runs:
        fail("RUN is missing: give one folder of a run or more")
    if not 0 <= verb.smooth < 1:
        fail(f"--smooth must be from 0 to below 1, not {verb.smooth:g}")
    if verb.out.suffix not in (".png", ".svg"):
        fail(f"--out {verb.out} must end in .png or .svg")

    from abx.analysis.curves_page import charts_of, draw
    from abx.analysis.learning import AXES, choose, learning, names
    from abx.log import read_metrics

    rows = {}
    for label, run in zip(labels(verb.runs), verb.runs, strict=True):
        rows[label] = read_metrics(_metrics_of(run))
        if not rows[label]:
            fail(f"{run} has no figures yet: its metrics.jsonl is empty")
    metrics, problems = choose(verb.metrics, list(dict.fromkeys(n for each in rows.values() for n in names(each))))
    if problems:
        fail_each([f"--metrics: {problem}" for problem in problems])
    if not metrics:
        fail("--metrics: no run has a loss or an accuracy yet; name others")
    try:
        found = [x for m in metrics for run, each in rows.items() if (x := learning(run, each, m, verb.x))]
    except ValueError as wrong:
        fail(str(wrong))
    about = f"exponential moving average, weight of the past {verb.smooth:g}" if verb.smooth else "as logged"
    try:
        draw(verb.out, charts_of(found, list(rows), verb.smooth), AXES[verb.x], f"{about}; dashed: what guessing gives")
    except OSError as wrong:
        fail(f"--out {verb.out} cannot be written: {wrong.strerror or wrong}")
    print(f"written: {verb.out}")
    if verb.json:
        curves = [each._asdict() | {"y": [y if math.isfinite(y) else None for y in each.y]} for each in found]
        node: dict[str, Any] = {"out": str(verb.out), "x": verb.x, "smooth": verb.smooth, "curves": curves}
        print(json.dumps(node))


def _metrics_of(run: Path) -> Path:
    if not run.is_dir():
        fail(f"{run} is a file, not a run folder" if run.exists() else not_there(run))
    if not (run / "metrics.jsonl").is_file():
        fail(f"{run} is not the folder of a run that has begun: it has no metrics.jsonl")
    return run / "metrics.jsonl"
