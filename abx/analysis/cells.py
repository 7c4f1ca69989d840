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
    size: int
    """Side of the views in pixels; 0 where it is not known, as of features from elsewhere."""
    view: str
    settings: str
    """Stands for how the probe was made and trained; "" of results that do not say."""
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


class Place(NamedTuple):
    """One measurement: results that differ in any of this cannot be compared."""

    task: str
    """The paper's data, which is the same wherever it lies; "" of other data."""
    train: str
    test: str
    n_train: int
    n_test: int
    size: int
    view: str
    probe: str
    settings: str

    @classmethod
    def of(cls, measure: Measure, result: Result) -> "Place":
        own = result.task == measure.task
        task, train, test = (measure.task, "", "") if own else ("", result.train, result.test)
        n_train, n_test, size, view = result.n_train, result.n_test, result.size, result.view
        return cls(task, train, test, n_train, n_test, size, view, result.probe, result.settings)


class Found(NamedTuple):
    """A column's results: for each run one of each measure, all of the same measurement."""

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
    """For each run its result, and what is to be said of that. Of several measurements that on the paper's own data is
    taken, else that of most systems, else by the probe that is meant, else the newest: figures of one column can be
    compared."""
    found = [(run, result) for run in runs for result in run.results if _is(measure, result)]
    if not found:
        return {}, []
    places = dict.fromkeys(Place.of(measure, result) for _, result in found)

    def rank(place: Place) -> tuple[bool, int, int, datetime]:
        here = [(run, result) for run, result in found if Place.of(measure, result) == place]
        systems, newest = len({run.system for run, _ in here}), max(result.date for _, result in here)
        return bool(place.task), systems, -measure.probes.index(place.probe), newest

    place = max(places, key=rank)
    of = lambda other: {run.folder for run, result in found if Place.of(measure, result) == other}
    # A probe that would only stand in for the one that is shown, of the same runs, is nothing to be told of.
    others = [other for other in places if other != place and (other.probe == place.probe or of(other) - of(place))]
    notes = _of_place(name, measure, place, len(others))
    chosen: dict[str, Result] = {}
    for run in runs:
        here = [result for other, result in found if other is run and Place.of(measure, result) == place]
        if not here:
            continue
        about, wanted = f"{run.system} {name}", network or run.network
        asked = [result for result in here if result.network == wanted]
        if not asked:
            notes.append(Note(about, f"of the {here[0].network} network, as there is none of the {wanted} one"))
        asked = asked or here
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


def _of_place(name: str, measure: Measure, place: Place, others: int) -> list[Note]:
    n_train, n_test = f"{place.n_train:,}", f"{place.n_test:,}"
    if place.task:
        says = f"{measure.task}; {n_train} pictures to train the probe, {n_test} to test it"
    else:
        of = f"{n_train} pictures of {place.train}, tested on {n_test} of {place.test}"
        says = f"NOT the paper's data; probe trained on {of}"
    notes = [Note(name, says)]
    if place.probe != measure.probes[0]:
        notes.append(Note(name, f"of the probe {place.probe}, in place of {measure.probes[0]}"))
    if others:
        ways = "one other way, which is" if others == 1 else f"{others} other ways, which are"
        view = [f"views of {place.size} px"] * bool(place.size) + [place.view] * bool(place.view)
        shown = ", ".join(view + [f"settings of the probe {place.settings}"] * bool(place.settings))
        notes.append(Note(name, f"also measured in {ways} not shown{f'; shown is {shown}' if shown else ''}"))
    return notes


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
