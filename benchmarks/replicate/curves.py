"""Learning curves of all rows, and the figures that several rows make, on one page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from abx.analysis.charts import Curve, chart, colour
from abx.analysis.learning import learning
from abx.analysis.page import beside, page, text
from abx.analysis.paper import Column
from abx.log import read_metrics
from benchmarks.replicate.report import Runs, cell
from benchmarks.replicate.row import Place, Row, Sweep
from benchmarks.replicate.rows import ROWS, sweeps

SHOWN = {
    "eval/attentive_top1": ("attentive probe, pictures for ImageNet", 100.0, "per cent"),
    "eval/knn_top1": ("k-NN, pictures for ImageNet", 100.0, "per cent"),
    "value/explained": ("value loss, share explained", 100.0, "per cent"),
}
"""Figures of metrics.jsonl."""
SIZE = (260, 170)
COLUMNS = {
    "ImageNet": Place(2, "CC12M, no captions").block.columns[0],
    "COCO detect AP50": Place(3, "COCO").block.columns[1],
    "EK action": Place(3, "Epic-Kitchens").block.columns[1],
}
"""Of sweeps, by name."""
assert all(column.name == name for name, column in COLUMNS.items())


def draw(out: Path, runs: Runs, footer: str) -> Image.Image:
    """A line of charts for each group of rows that has any metrics, then the figures.

    A curve is the mean over seeds, its band from the lowest to the highest.
    """
    groups: dict[str, list[Row]] = {}
    for row in ROWS:
        if any((out / row.name).glob("seed-*/metrics.jsonl")):
            groups.setdefault(row.name.split("/")[0], []).append(row)
    blocks = []
    for name, rows in groups.items():
        charts = [drawn for metric in SHOWN if (drawn := _learning(out, rows, metric))]
        blocks += [text(name, 17), beside(charts, 20)]
    found = [_sweep(sweep, runs) for sweep in sweeps()]
    if drawn := [each for each in found if each is not None]:
        blocks += [text("Figures", 17), *(beside(drawn[i : i + 3], 20) for i in range(0, len(drawn), 3))]
    return page([text("Learning curves", 20), *(blocks or [text("nothing was run yet", 15)]), text(footer, 12, 900)])


def _learning(out: Path, rows: Sequence[Row], metric: str) -> Image.Image | None:
    """None, where no row has such a metric."""
    title, scale, unit = SHOWN[metric]
    curves = []
    for number, row in enumerate(rows):
        seeds = []
        for folder in sorted((out / row.name).glob("seed-*")):
            if curve := learning(row.name, read_metrics(folder / "metrics.jsonl"), metric, "views"):
                seeds.append(dict(zip(curve.x, [scale * y for y in curve.y], strict=True)))
        views = sorted({at for seed in seeds for at in seed})
        found = [[seed[at] for seed in seeds if at in seed] for at in views]
        means = [float(np.mean(each)) for each in found]
        # The half height of a band about its middle; of one seed none.
        half = [(max(each) - min(each)) / 2 for each in found]
        if views:
            curves.append(Curve(row.name.split("/")[1], views, means, colour(number), half))
    return chart(title, curves, "views seen", unit, size=SIZE) if curves else None


def _sweep(sweep: Sweep, runs: Runs) -> Image.Image | None:
    """None, where less than two points of it are there."""
    curves, points = [], 0
    for number, (label, places) in enumerate(sweep.lines):
        there = [(_across(at, name, runs), _of(COLUMNS[sweep.y], name, runs)) for at, name in places]
        known = [(x, y) for x, y in there if x is not None and y is not None]
        points += len(known)
        if known:
            seeds = {len({run.seed for run in runs[name]}) for _, name in places if name in runs}
            label += f" (seeds: {' to '.join(map(str, sorted({min(seeds), max(seeds)})))})"
            curves.append(Curve(label, [x for x, _ in known], [y for _, y in known], colour(number)))
    return chart(sweep.title, curves, sweep.x, f"{sweep.y}, per cent", size=SIZE) if points > 1 else None


def _across(at: float | None, name: str, runs: Runs) -> float | None:
    return at if at is not None else _of(COLUMNS["ImageNet"], name, runs)


def _of(column: Column, name: str, runs: Runs) -> float | None:
    found = cell(column, runs.get(name, ()))
    return found and found.percent
