"""Assembled tables as text for people, as Markdown, and as JSON."""

from collections.abc import Sequence
from typing import Any

from abx.analysis.cells import Cell
from abx.analysis.tables import Line, Table

NOTHING = "-"
"""Where we have no figure. Where the paper has none the place is empty."""
LEGEND = (
    "paper, ours: per cent. vs: what is gained over that base; the paper's gains are as printed, before rounding. "
    f"{NOTHING}: we have no figure. (x): highest minus lowest of several seeds."
)


def text(table: Table) -> str:
    """Aligned columns under two lines of headings, then what is to be known, and what is missing."""
    rows = [cells for line in table.lines for cells in _rows(line)]
    first = max(len(cells[0]) for cells in rows)
    pairs = [
        tuple(
            max(len(word), *(len(cells[2 * i + 1 + j]) for cells in rows)) for j, word in enumerate(("paper", "ours"))
        )
        for i in range(len(table.block.columns))
    ]
    widths = [
        (paper + max(0, len(column.name) - paper - ours - 1), ours)
        for column, (paper, ours) in zip(table.block.columns, pairs, strict=True)
    ]
    names = [column.name.rjust(sum(width) + 1) for column, width in zip(table.block.columns, widths, strict=True)]
    flat = [width for pair in widths for width in pair]
    said = ["   ".join([" " * first, *names]), _aligned(["", *("paper", "ours") * len(widths)], first, flat)]
    said += [_aligned(cells, first, flat) for cells in rows]
    return "\n".join([*_title(table), "", *(line.rstrip() for line in said), *_remarks(table, "  ")])


def markdown(table: Table) -> str:
    """A table of GitHub's kind under a heading."""
    title, *about = _title(table)
    names = [f"{column.name}, {whose}" for column in table.block.columns for whose in ("paper", "ours")]
    rows = [["", *names], ["---", *["---:"] * len(names)], *(cells for line in table.lines for cells in _rows(line))]
    grid = ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |" for cells in rows]
    remarks = [remark.strip().replace("|", "\\|") for remark in _remarks(table, "- ")]
    return "\n".join([f"## {title}", "", *about, *([""] if about else []), *grid, "", *remarks]).rstrip()


def as_json(table: Table) -> dict[str, Any]:
    """Everything, by system and column; null where there is no figure."""
    rows = []
    for line in table.lines:
        for i, column in enumerate(table.block.columns):
            ours = line.ours[i]
            rows.append(
                {
                    "system": line.system,
                    "column": column.name,
                    "paper": line.paper[i],
                    "ours": ours and ours.percent,
                    "spread": ours and ours.spread,
                    "seeds": ours.seeds if ours else 0,
                    "views": ours and ours.views,
                    "base": line.base or None,
                    "paper_gain": line.paper_gains[i],
                    "our_gain": line.our_gains[i],
                }
            )
    return {
        "table": table.block.table,
        "title": table.block.title,
        "data": table.data or None,
        "stands_in": table.stands_in,
        "backbone": table.backbone or None,
        "rows": rows,
        "runs": list(table.runs),
        "notes": list(table.notes),
        "missing": list(table.missing),
    }


def _title(table: Table) -> list[str]:
    title = [f"Table {table.block.table}: {table.block.title}"]
    if table.data:
        stand_in = f", which stands in for {table.block.title}" if table.stands_in else ""
        title.append(f"ours: pre-trained on {table.data}{stand_in}; {table.backbone}")
    elif table.backbone:
        title.append(f"ours: untrained; {table.backbone}")
    return title


def _rows(line: Line) -> list[list[str]]:
    """The row itself, and one of gains where there are any."""
    figures = [cell for pair in zip(map(_figure, line.paper), map(_cell, line.ours), strict=True) for cell in pair]
    rows = [[line.system, *figures]]
    if line.base:
        gains = zip(map(_gain, line.paper_gains), (_gain(gain) or NOTHING for gain in line.our_gains), strict=True)
        rows.append([f"  vs {line.base}", *(cell for pair in gains for cell in pair)])
    return rows


def _figure(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f}"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return NOTHING
    return _figure(cell.percent) + ("" if cell.spread is None else f" ({cell.spread:.1f})")


def _gain(points: float | None) -> str:
    # Added to 0, so that what rounds to nothing does not read -0.0.
    return "" if points is None else f"{round(points, 1) + 0.0:+.1f}"


def _aligned(cells: Sequence[str], first: int, widths: Sequence[int]) -> str:
    said = cells[0].ljust(first)
    for i, (cell, width) in enumerate(zip(cells[1:], widths, strict=True)):
        said += (" " if i % 2 else "   ") + cell.rjust(width)
    return said


def _remarks(table: Table, bullet: str) -> list[str]:
    missing = [f"missing: {'; '.join(table.missing)}"] if table.missing else []
    return [bullet + remark for remark in (*table.notes, *missing)]
