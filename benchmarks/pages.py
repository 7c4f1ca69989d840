"""`python -m benchmarks.pages`: writes measured figures into the Markdown pages, from the files in benchmarks/results.

A page says by comments, which readers do not see, where they go; what is between them is made:

  <!-- results views --> ... <!-- end -->            the table of benchmarks/results/views.json
  <!-- results views.n8 -->4.4 %<!-- end -->         one of its "values"
  <!-- results tiny.brief --> ... <!-- end -->       a table of a report of benchmarks.replicate

A file has `columns` (key, title and, of numbers, a format), `rows`, which are objects with those keys, and may have
`how` it was measured, for where the page does not say it. A report.json of `benchmarks.replicate` has three
tables, `brief`, `full` and `had`. Nothing is measured here, and no device is touched.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tyro

from benchmarks.replicate.told import brief, full, had

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
PLACE = re.compile(r"(<!-- results ([\w-]+)(?:\.([\w-]+))? -->)(.*?)(<!-- end -->)", re.S)


@dataclass(frozen=True)
class Pages:
    """Write the figures of benchmarks/results into README.md and the pages of docs and benchmarks.

    Usage: python -m benchmarks.pages [--check]
    """

    check: bool = False
    """Write nothing; name the pages that would change, and end with 1 if there are any."""

    def __call__(self) -> None:
        stale = [page for page in pages() if filled(text := page.read_text()) != text]
        for page in stale:
            if not self.check:
                page.write_text(filled(page.read_text()))
            print(f"{'out of date' if self.check else 'written'}: {page.relative_to(ROOT)}")
        if not stale:
            print("all pages are up to date")
        if stale and self.check:
            raise SystemExit(1)


def pages() -> list[Path]:
    """Those that may have figures in them."""
    return [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """The page with all its figures as the files have them.

    Raises: KeyError for a name that no file has.
    """

    def made(place: re.Match[str]) -> str:
        begin, name, part, _, end = place.groups()
        return begin + (_part(name, part) if part else f"\n{table(name)}\n") + end

    return PLACE.sub(made, text)


def _part(name: str, part: str) -> str:
    """A table that is more than columns and rows on lines of its own, a value in the line."""
    if part in MADE:
        return f"\n{MADE[part](read(name))}\n"
    return str(read(name)["values"][part])


MADE: dict[str, Callable[[dict[str, Any]], str]] = {"brief": brief, "full": full, "had": had}


def table(name: str) -> str:
    """Columns and rows as Markdown, and below how they were measured."""
    found = read(name)
    lines = [[column["title"] for column in found["columns"]], ["---"] * len(found["columns"])]
    lines += [[_cell(row.get(column["key"]), column) for column in found["columns"]] for row in found["rows"]]
    how = found.get("how")
    # An empty cell is one space, not two.
    rows = ("|" + "|".join(f" {said} " if said else " " for said in cells) + "|" for cells in lines)
    return "\n".join(rows) + (f"\n\n{how}" if how else "")


def _cell(said: Any, column: dict[str, str]) -> str:
    if said is None:
        return ""
    if isinstance(said, str):
        return said
    return format(said, column.get("format", ""))


@cache
def read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise KeyError(f"no {path.relative_to(ROOT)}, which a page asks for")
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    tyro.cli(Pages, args=sys.argv[1:], prog="python -m benchmarks.pages")()
