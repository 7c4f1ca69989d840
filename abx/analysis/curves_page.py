"""Learning curves of several runs in one picture, a chart for each metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from abx.analysis import vector
from abx.analysis.charts import Curve, chart, colour, keys
from abx.analysis.learning import Learning, smoothed
from abx.analysis.page import beside, page, text, under

GREY = (120, 120, 120)
SIZE = (320, 200)
"""Pixels, of the area of a chart's curves."""


class Chart(NamedTuple):
    metric: str
    curves: list[Curve]


def charts_of(found: Sequence[Learning], runs: Sequence[str], smooth: float) -> list[Chart]:
    """One for each metric, in order; a run has one colour in all of them. What guessing gives is dashed: grey where all
    runs agree on it, else in each run's own colour."""
    charts = []
    for metric in dict.fromkeys(each.metric for each in found):
        there = [each for each in found if each.metric == metric]
        curves = [Curve(each.run, each.x, smoothed(each.y, smooth), colour(runs.index(each.run))) for each in there]
        known = [each for each in there if each.chance is not None]
        agreed = known and max(e.chance or 0 for e in known) - min(e.chance or 0 for e in known) < 1e-6
        if agreed:
            curves.append(_level("chance", known[0].chance, [x for each in there for x in each.x], GREY))
        else:
            curves += [_level(f"chance of {e.run}", e.chance, e.x, colour(runs.index(e.run))) for e in known]
        charts.append(Chart(metric, curves))
    return charts


def _level(label: str, height: float | None, x: Sequence[float], ink: tuple[int, int, int]) -> Curve:
    ends = [min(x), max(x)]
    return Curve(label, ends, [height or 0.0] * 2, ink, dashed=True)


def draw(path: Path, charts: Sequence[Chart], x_name: str, footer: str) -> None:
    """A picture of all charts: PNG, or SVG where the path says so. Raises: OSError."""
    across = min(3, len(charts))
    told = {curve.label: curve for each in charts for curve in each.curves}
    if path.suffix == ".svg":
        drawn = [vector.chart(each.metric, each.curves, x_name, size=SIZE) for each in charts]
        path.write_text(vector.sheet("Learning curves", drawn, vector.keys(list(told.values())), footer, across))
        return
    blocks = [chart(each.metric, each.curves, x_name, "", size=SIZE, key=False) for each in charts]
    rows = [beside(blocks[i : i + across], 20) for i in range(0, len(blocks), across)]
    width = max([700, *(row.width for row in rows)])
    below = keys(list(told.values()), width)
    picture = page([text("Learning curves", 20), under(rows, 18), below, text(footer, 12, width)])
    picture.save(path, format="PNG")
