"""Rows of the paper's tables from results of runs: ours beside the paper's, and what each gains over its base."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import NamedTuple

from abx.analysis.cells import Cell, Found, Note, Run, seeds
from abx.analysis.paper import BLOCKS, Block

UNTRAINED = "untrained"
FEATURES = "features of "
"""How systems are called whose features are files from elsewhere; the file's name follows."""
DATASETS = ("imagenet", "cc12m", "coco", "epic_kitchens")
"""What the paper pre-trains on. Other data stands in for any of them."""
SAME_VIEWS = 0.02
"""By how much the views that two networks have seen may differ for their figures to count as at equal views."""


class Line(NamedTuple):
    """A row of an assembled table."""

    system: str
    paper: tuple[float | None, ...]
    ours: tuple[Cell | None, ...]
    base: str
    """"" where nothing is compared."""
    paper_gains: tuple[float | None, ...]
    """Over the base, as printed."""
    our_gains: tuple[float | None, ...]


class Table(NamedTuple):
    block: Block
    data: str
    """What ours was pre-trained on."""
    stands_in: bool
    """Whether that is other data than the paper's."""
    backbone: str
    lines: tuple[Line, ...]
    runs: tuple[str, ...]
    """Folders of those that figures are from."""
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    """What the paper has and we have not."""

    def said(self, but: Collection[str]) -> set[Hashable]:
        """The figures of ours, but for some systems'. What stands in for two of the paper's columns is one figure."""
        return {
            (line.system, cell, *((measure.kind or measure.task, measure.metric) for measure in column.measures))
            for line in self.lines
            for column, cell in zip(self.block.columns, line.ours, strict=True)
            if cell and line.system not in but
        }


def assemble(runs: Sequence[Run], tables: Collection[int] = (), network: str = "") -> list[Table]:
    """The tables that runs have rows in, in the paper's order; one for each kind of data and each backbone of ours.

    Data that is not the paper's stands in for any of it. A table is left out if all figures of ours in it stand in one
    before it, of the same runs, unless it is asked for. Untrained networks stand beside runs of the same backbone, and
    alone where there are no runs; features from elsewhere beside all.

    Args:
        tables: by number; () for all with a figure of ours.
        network: online or target; "" for the one that each method is known by.
    """
    others = [run for run in runs if run.system == UNTRAINED or run.system.startswith(FEATURES)]
    trained = [run for run in runs if run not in others]
    found: dict[Block, list[Table]] = {block: [] for block in BLOCKS}
    alike = lambda run: (run.reward, run.value, run.texts, run.backbone)
    groups = dict.fromkeys(map(alike, trained or [run for run in others if run.backbone] or others))
    beside = [[run for run in others if run.backbone in ("", group[-1])] for group in groups]
    for group, those in zip(groups, beside, strict=True):
        mine = [run for run in trained if alike(run) == group]
        shown: set[Hashable] = set()
        for block in BLOCKS:
            fitting = [run for run in mine if _fits(block, run)]
            if (not fitting and (mine or block.texts)) or (tables and block.table not in tables):
                continue
            table = _table(block, fitting, those, network)
            said = table.said(but={run.system for run in those} if mine else ())
            if tables or not said <= shown:
                found[block].append(table)
            shown |= said
    for block in BLOCKS:
        if block.table in tables and not found[block]:
            found[block].append(_table(block, [], beside[0] if beside else [], network))
    return [table for block in BLOCKS for table in found[block]]


def _fits(block: Block, run: Run) -> bool:
    """Whether a run belongs among these rows, by its own data or by data that stands in."""
    known = run.system in {row.system for row in block.rows}
    # Of systems that the paper has not, such as SigLIP, the rows go where their likes are.
    kin = block.table != 5 and all(run.system not in {row.system for row in other.rows} for other in BLOCKS)
    apart = run.reward != run.value
    return (
        (known or kin)
        and run.texts == block.texts
        and apart == (block.reward != block.value)
        and all(
            ours == his or ours not in DATASETS for ours, his in ((run.reward, block.reward), (run.value, block.value))
        )
    )


def _table(block: Block, runs: Sequence[Run], beside: Sequence[Run], network: str) -> Table:
    everyone = [*runs, *beside]
    columns = [Found.of(column, everyone, network) for column in block.columns]
    notes = [note for column in columns for note in column.notes]
    systems = dict.fromkeys([row.system for row in block.rows] + [run.system for run in everyone])
    ours: dict[str, tuple[Cell | None, ...]] = {}
    folders: list[str] = []
    for system in systems:
        kept, more = seeds(system, everyone, columns)
        ours[system] = tuple(column.cell(kept) for column in columns)
        folders += [run.folder for run in kept]
        notes += more
    none = (None,) * len(columns)
    lines = []
    for system in systems:
        row = next((row for row in block.rows if row.system == system), None)
        base = row.base if row else next(run.base for run in everyone if run.system == system)
        gains, more = _gains(system, base, ours) if base in ours else (none, [])
        notes += more
        figures, differences = (row.figures, row.differences or none) if row else (none, none)
        lines.append(Line(system, figures, ours[system], base, differences, gains))
    first = next(iter(runs), None)
    stands_in = first is not None and (first.reward, first.value) != (block.reward, block.value)
    return Table(
        block,
        _said(first) if first else "",
        stands_in,
        next((run.backbone for run in everyone if run.backbone), ""),
        tuple(lines),
        tuple(folders),
        tuple(_merged(notes)),
        tuple(_missing(block, lines)),
    )


def _gains(
    system: str, base: str, ours: dict[str, tuple[Cell | None, ...]]
) -> tuple[tuple[float | None, ...], list[Note]]:
    """By column, what a system has more than its base; and what is to be said of that."""
    found, notes = list[float | None](), list[Note]()
    for mine, his in zip(ours[system], ours[base], strict=True):
        found.append(mine.percent - his.percent if mine and his else None)
        if mine and his and abs(mine.views - his.views) > SAME_VIEWS * max(mine.views, his.views):
            said = f"have not seen equally many views: {mine.views:,} and {his.views:,}"
            notes.append(Note(f"{system} and {base}", said))
    return tuple(found), notes


def _merged(notes: Iterable[Note]) -> Iterable[str]:
    """As sentences: what is to be said of several is said once."""
    abouts: dict[str, dict[str, None]] = {}
    for note in notes:
        abouts.setdefault(note.says, {})[note.about] = None
    return (f"{', '.join(about)}: {says}" for says, about in abouts.items())


def _missing(block: Block, lines: Iterable[Line]) -> Iterable[str]:
    """Systems without a figure of ours, and of others the columns."""
    for line in lines:
        if line.system not in {row.system for row in block.rows}:
            continue
        if not any(line.ours):
            yield line.system
            continue
        lacking = [column.name for column, cell in zip(block.columns, line.ours, strict=True) if cell is None]
        if lacking:
            yield f"{line.system} ({', '.join(lacking)})"


def _said(run: Run) -> str:
    """The data of a run, in words."""
    return run.value if run.reward == run.value else f"{run.value}, rewards from {run.reward}"
