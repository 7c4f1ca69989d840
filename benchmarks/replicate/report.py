"""Our figures and differences beside the paper's, as JSON; `told` has them as Markdown."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abx.analysis.cells import Cell, Found, Run
from abx.analysis.paper import Column
from abx.analysis.paper import Row as Printed
from abx.experiment.results import NoResults, read_runs
from benchmarks.replicate.plan import asked
from benchmarks.replicate.row import Comparison, Place, Row
from benchmarks.replicate.rows import BY_NAME, ROWS, comparisons

IMAGENET = Place(1, "ImageNet, no labels")
_PROBES = {column.name: column for column in IMAGENET.block.columns}
OF_CONTROLS = (_PROBES["linear"], _PROBES["decoder"])
OF_VARIANTS = (_PROBES["linear"], _PROBES["attentive"], _PROBES["decoder"])
Runs = Mapping[str, Sequence[Run]]
"""By row, those of each seed that has results."""


class Gain(NamedTuple):
    """What one row has more than another in a column, in points."""

    comparison: Comparison
    table: int
    """0: of none of the paper's."""
    column: str
    ours: float | None
    """Mean over seeds that both have."""
    spread: float | None
    """Highest minus lowest of the seeds; None of one."""
    seeds: int
    views: tuple[int, int]
    """That both have seen."""
    paper: float | None
    alike: bool = False
    """Whether all seeds have the same sign."""
    lacks: str = "missing"
    """Why there is no difference, where there is none."""
    noise: float = 0.0
    """Two standard errors, in points, of so many test pictures of one seed; 0 of what is no share of pictures."""

    @property
    def sign(self) -> str:
        """Whether ours points where the paper's does, and how sure that is; or what is missing for it."""
        if self.ours is None or self.paper is None:
            return self.lacks if self.ours is None else "no figure of the paper's"
        if abs(self.ours) < 0.05:  # printed as 0.0
            return "no difference"
        if self.seeds < 2 and abs(self.ours) < self.noise:
            return "within the noise of one seed"
        said = "agrees" if self.ours * self.paper > 0 else "disagrees"
        if self.seeds < 2:
            return f"{said}, but of one seed"
        return said if self.alike else f"{said}, and seeds differ in it"


class Figure(NamedTuple):
    """A row in a column of a table."""

    row: str
    place: Place
    column: str
    paper: float | None
    ours: Cell | None


def collect(out: Path) -> dict[str, list[Run]]:
    """Whatever was measured, of any row."""
    found: dict[str, list[Run]] = {}
    for row in ROWS:
        for folder in sorted((out / row.name).glob("seed-*")):
            try:
                # Untrained networks and such are no runs of the row.
                found.setdefault(row.name, []).extend(run for run in read_runs([folder]) if run.reward)
            except NoResults:
                continue
    return found


def figures(runs: Runs) -> list[Figure]:
    """All places in the paper's tables, filled or not."""
    found = []
    for row in ROWS:
        for place in row.places:
            for i, column in enumerate(place.block.columns):
                found.append(
                    Figure(
                        row.name,
                        place,
                        column.name,
                        _printed(row, place).figures[i],
                        cell(column, runs.get(row.name, ())),
                    )
                )
    return found  # fmt: skip


def cell(column: Column, runs: Sequence[Run]) -> Cell | None:
    return Found.of(column, runs, "").cell(runs)


def gains(runs: Runs) -> list[Gain]:
    """Every comparison, in every column of its tables; controls in those that their rows are measured in."""
    found = []
    for each in comparisons():
        of, over = BY_NAME[each.of], BY_NAME[each.over]
        columns = [(place, column) for place in of.places for column in place.block.columns if asked(column)]
        if each.like[0]:
            if not runs.get(each.of):  # nobody asked for it
                continue
            mine, his = BY_NAME[each.like[0]], BY_NAME[each.like[1]]
            found += [_gain(each, None, c, runs, _paper(mine, his, IMAGENET, c)) for c in OF_VARIANTS]
            continue
        if not (of.places and over.places):  # a control
            columns = [(None, column) for column in OF_CONTROLS]
        found += [_gain(each, place, column, runs, _paper(of, over, place, column)) for place, column in columns]
    return found


def _gain(each: Comparison, place: Place | None, column: Column, runs: Runs, paper: float | None) -> Gain:
    mine, his = runs.get(each.of, ()), runs.get(each.over, ())
    both = Found.of(column, [*mine, *his], "")
    seeds = lambda whose: {run.seed: said for run in whose if (said := both.of_run(run)) is not None}
    ours, theirs = seeds(mine), seeds(his)
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    table = place.table if place else 0
    if not pairs:
        apart = cell(column, mine) is not None and cell(column, his) is not None
        lacks = "missing: no seed of both, or not measured alike" if apart else "missing"
        return Gain(each, table, column.name, None, None, 0, (0, 0), paper, lacks=lacks)
    deltas = [a[0] - b[0] for a, b in pairs]
    spread = max(deltas) - min(deltas) if len(deltas) > 1 else None
    views = max(a[1] for a, _ in pairs), max(b[1] for _, b in pairs)
    alike = all(delta > 0 for delta in deltas) or all(delta < 0 for delta in deltas)
    noise = _noise([run for run in (*mine, *his) if run.seed in ours.keys() & theirs.keys()], both)
    mean = sum(deltas) / len(deltas)
    return Gain(each, table, column.name, mean, spread, len(deltas), views, paper, alike, noise=noise)


def _noise(runs: Sequence[Run], column: Found) -> float:
    """Two standard errors of the difference of two runs: each figure is a share of so many pictures."""
    variance = 0.0
    for run in runs:
        for part, metric in zip(column.parts, column.metrics, strict=True):
            if not metric.endswith("top1"):
                return 0.0
            share = part[run.folder].metrics[metric]
            variance += share * (1 - share) / part[run.folder].n_test / len(column.parts) ** 2
    return 200 * math.sqrt(variance)


def _paper(of: Row, over: Row, place: Place | None, column: Column) -> float | None:
    """The difference as printed; else of the printed figures, where both stand in the same table."""
    if place is None:
        return None
    mine, i = _printed(of, place), place.block.columns.index(column)
    if mine.base == over.system and place in over.places:
        return mine.differences[i]
    for other in over.places:
        if other.table == place.table and column in other.block.columns:
            a, b = mine.figures[i], _printed(over, other).figures[other.block.columns.index(column)]
            return None if a is None or b is None else round(a - b, 1)
    return None


def _printed(row: Row, place: Place) -> Printed:
    return next(each for each in place.block.rows if each.system == row.system)


def as_json(runs: Runs, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, null where there is nothing; what is missing is listed as well. Percentages and points."""
    told = [
        {"row": f.row, "system": BY_NAME[f.row].system, "table": f.place.table, "title": f.place.title}
        | {"column": f.column, "paper": f.paper, "ours": f.ours and f.ours.percent}
        | {"spread": f.ours and f.ours.spread, "views": f.ours and f.ours.views, "seeds": f.ours.seeds if f.ours else 0}
        for f in figures(runs)
    ]  # fmt: skip
    gained = [
        {"of": g.comparison.of, "over": g.comparison.over, "says": g.comparison.says, "table": g.table or None}
        | {"column": g.column, "ours": g.ours, "spread": g.spread, "seeds": g.seeds, "views": list(g.views)}
        | {"paper": g.paper, "sign": g.sign}
        for g in gains(runs)
    ]
    return {"about": dict(about), "figures": told, "gains": gained, "missing": missing(runs)}


def missing(runs: Runs) -> list[str]:
    """Rows without any result, of those that `--rows '*'` runs."""
    return [row.name for row in ROWS if not row.named and not runs.get(row.name)]
