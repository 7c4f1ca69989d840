"""A figure of ours for a place in the paper's tables: which results of which runs it is, and what to know of that."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from abx.analysis.paper import Column, Measure, Texts


class Result(NamedTuple):
    """A line of `results.jsonl`: what one probe said of one network."""

    probe: str
    task: str
    network: str
    step: int
    train: str
    test: str
    n_train: int
    n_test: int
    date: datetime
    metrics: dict[str, float]
    """Shares, from 0 to 1."""


class Run(NamedTuple):
    """What was trained, and what probes said of it."""

    folder: str
    system: str
    """As the paper calls it; of an ablation with its name (`paper.ablated`)."""
    base: str
    """The system whose reward AB bootstraps; "" of others."""
    reward: str
    """One of the paper's data sets, or the data string of other data."""
    value: str
    texts: Texts
    backbone: str
    setting: str
    """The same for runs that differ in their seed alone."""
    seed: int
    views: int
    """In a step."""
    network: str
    """Of which the paper's figures are, as far as one can tell (A-26)."""
    results: tuple[Result, ...]


class Cell(NamedTuple):
    """Our figure."""

    percent: float
    """The mean over seeds."""
    spread: float | None
    """Highest minus lowest, as the paper has it; None of one seed."""
    seeds: int
    views: int
    """Seen in training by then."""


class Note(NamedTuple):
    """What is to be known of figures."""

    about: str
    """A column, a system, or both."""
    says: str


class Found(NamedTuple):
    """A column's results: for each run one of each measure, all on the same data."""

    parts: tuple[dict[str, Result], ...]
    """By measure, then by the folder of the run."""
    metrics: tuple[str, ...]
    notes: tuple[Note, ...]

    @classmethod
    def of(cls, column: Column, runs: Sequence[Run], network: str) -> "Found":
        notes, parts = ([Note(column.name, column.remark)] if column.remark else []), []
        for measure in column.measures:
            part, more = _measured(column.name, measure, runs, network)
            parts.append(part)
            notes += more
        return cls(tuple(parts), tuple(measure.metric for measure in column.measures), tuple(notes))

    def of_run(self, run: Run) -> tuple[float, int] | None:
        """Its figure in per cent, and the views seen; None if any part is missing."""
        results = [part.get(run.folder) for part in self.parts]
        if any(result is None for result in results):
            return None
        whole = [result for result in results if result is not None]
        shares = [result.metrics[metric] for result, metric in zip(whole, self.metrics, strict=True)]
        return 100 * sum(shares) / len(shares), max(result.step for result in whole) * run.views

    def cell(self, runs: Sequence[Run]) -> Cell | None:
        """Runs of one system and setting that differ in their seed."""
        found = [figure for run in runs if (figure := self.of_run(run)) is not None]
        if not found:
            return None
        figures = [percent for percent, _ in found]
        spread = max(figures) - min(figures) if len(figures) > 1 else None
        return Cell(sum(figures) / len(figures), spread, len(figures), max(views for _, views in found))


def _measured(name: str, measure: Measure, runs: Sequence[Run], network: str) -> tuple[dict[str, Result], list[Note]]:
    """For each run its result, and what is to be said of that. Of several kinds of data the paper's own is taken, else
    that on which most systems were measured, else the newest: figures of one column can be compared."""
    found = [(run, result) for run in runs for result in run.results if _is(measure, result)]
    if not found:
        return {}, []
    places = dict.fromkeys(_place(measure, result) for _, result in found)

    def rank(place: tuple[str, ...]) -> tuple[bool, int, datetime]:
        here = [(run, result) for run, result in found if _place(measure, result) == place]
        return place[0] == measure.task, len({run.system for run, _ in here}), max(result.date for _, result in here)

    place = max(places, key=rank)
    notes = _of_place(name, measure, place, len(places))
    chosen: dict[str, Result] = {}
    for run in runs:
        here = [result for other, result in found if other is run and _place(measure, result) == place]
        if not here:
            continue
        about, wanted = f"{run.system} {name}", network or run.network
        asked = [result for result in here if result.network == wanted]
        if not asked:
            notes.append(Note(about, f"of the {here[0].network} network, as there is none of the {wanted} one"))
        asked = asked or here
        meant = next(probe for probe in measure.probes if any(result.probe == probe for result in asked))
        if meant != measure.probes[0]:
            notes.append(Note(about, f"of the probe {meant}, as there is none of {measure.probes[0]}"))
        asked = [result for result in asked if result.probe == meant]
        # Of equal dates the later line of the file: max would take the first.
        chosen[run.folder] = max(reversed(asked), key=lambda result: (result.step, result.date))
        if len(asked) > 1:
            newest = chosen[run.folder]
            which = f"the newest of step {newest.step}, of {newest.date:%Y-%m-%d}"
            notes.append(Note(about, f"{len(asked)} results in {run.folder}; shown is {which}"))
    return chosen, notes


def _is(measure: Measure, result: Result) -> bool:
    task = result.task.removeprefix("scenes-")
    return result.probe in measure.probes and task in (measure.task, measure.kind) and measure.metric in result.metrics


def _place(measure: Measure, result: Result) -> tuple[str, ...]:
    """What was measured on. The paper's data is the same wherever it lies."""
    where = (result.task,) if result.task == measure.task else ("", result.train, result.test)
    return *where, f"{result.n_train:,}", f"{result.n_test:,}"


def _of_place(name: str, measure: Measure, place: tuple[str, ...], places: int) -> list[Note]:
    *where, n_train, n_test = place
    if where[0] == measure.task:
        says = f"{measure.task}; {n_train} pictures to train the probe, {n_test} to test it"
    else:
        says = (
            f"NOT the paper's data; probe trained on {n_train} pictures of {where[1]}, tested on {n_test} of {where[2]}"
        )
    others = "one other way, which is" if places == 2 else f"{places - 1} other ways, which are"
    return [Note(name, says), *([Note(name, f"also measured in {others} not shown")] if places > 1 else [])]


def seeds(system: str, runs: Iterable[Run], columns: Sequence[Found]) -> tuple[list[Run], list[Note]]:
    """Runs of a system that differ in their seed alone: of the setting, and of each seed, that was measured last. Then
    what is to be said of that."""
    notes: list[Note] = []

    def last(run: Run) -> datetime | None:
        dates = [part[run.folder].date for column in columns for part in column.parts if run.folder in part]
        return max(dates, default=None)

    dated = [(date, run) for run in runs if run.system == system and (date := last(run)) is not None]
    if not dated:
        return [], notes
    newest = max(dated, key=lambda pair: pair[0])[1]
    alike = [(date, run) for date, run in dated if run.setting == newest.setting]
    by_seed: dict[int, tuple[datetime, Run]] = {}
    for date, run in alike:
        if run.seed not in by_seed or date > by_seed[run.seed][0]:
            by_seed[run.seed] = date, run
    kept = [run for _, run in by_seed.values()]
    others = [run.folder for _, run in dated if run not in kept]
    if others:
        shown = ", ".join(run.folder for run in kept)
        notes.append(Note(system, f"shown is what was measured last, {shown}; not {', '.join(others)}"))
    if len(kept) > 1:
        notes.append(Note(system, f"mean of {len(kept)} seeds"))
    return kept, notes
