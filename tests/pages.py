"""What the pages in docs/ say, in a form that can be compared with what the code does."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
CODE = re.compile(r"```python\n(.*?)```", re.S)


def rows(page: str, first: str) -> list[list[str]]:
    """Of all tables of a page whose first heading is this."""
    found, inside = list[list[str]](), False
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == first)
        if inside and cells[0] != first and set(cells[0]) != {"-"}:
            found.append(cells)
    return found


def code(page: str, part: str = "") -> list[str]:
    """The Python of a page, or of what stands under one of its headings."""
    text = (DOCS / page).read_text()
    return CODE.findall(re.split(rf"^## {part}$", text, flags=re.M)[1].split("\n## ")[0] if part else text)


@cache
def documented() -> tuple[str, ...]:
    """Metrics that docs/output.md explains; STREAM and K stand for names and numbers."""
    return tuple(name for first, *_ in rows("output.md", "name") for name in re.findall(r"`([^`]+)`", first))


def unexplained(names: Iterable[str]) -> list[str]:
    """Those of some metrics that docs/output.md does not explain."""
    known = re.compile("|".join(name.replace("STREAM", "[a-z]+").replace("_K", r"_\d+") for name in documented()))
    return sorted(name for name in names if not known.fullmatch(name))
