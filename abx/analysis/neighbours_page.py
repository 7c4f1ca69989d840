"""The page of `abx neighbours`: pictures, each with those that a network takes for most like it.

One HTML file that needs nothing but itself. Names come from anybody, so all text is escaped, and the page forbids
itself scripts and requests.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from abx.analysis.document import document, said
from abx.analysis.drawing import ending, photograph, short

BYTES = 5_000_000
"""Of the page at most: rows are left out before it grows beyond."""
QUALITY = 80
"""Of the thumbnails, as JPEG counts it."""


class Thumbnail(NamedTuple):
    """A picture as the page shows it."""

    image: UInt8[np.ndarray, "s s 3"]
    name: str
    class_name: str
    """"" = none."""


class Row(NamedTuple):
    """A query with its neighbours, the most like first."""

    query: Thumbnail
    neighbours: Sequence[tuple[Thumbnail, float]]
    """Each with its similarity, a cosine."""


class Written(NamedTuple):
    html: str
    rows: int
    """How many are on the page."""


def neighbours_page(title: str, about: Sequence[str], facts: Sequence[tuple[str, str]], rows: Sequence[Row]) -> Written:
    """The whole HTML file, with as many rows, from the first, as `BYTES` allow.

    Args:
        about: what it is of, one sentence each.
        facts: headings and figures, a table.
    """
    cells = "".join(f"<tr><th>{said(name)}</th><td>{said(value)}</td></tr>" for name, value in facts)
    body = [f"<h1>{said(title)}</h1>", *(f"<p>{said(line)}</p>" for line in about), f"<table>{cells}</table>"]
    left, shown = BYTES - len(_STYLE.encode()) - sum(len(part.encode()) for part in body) - 2_000, list[str]()
    for code in map(_row, rows):
        left -= len(code.encode()) + 1
        if left < 0:
            break
        shown.append(code)
    if len(shown) < len(rows):
        body.append(
            f'<p class="warning">The first {len(shown)} of {len(rows)} queries are shown: with more the page would be '
            f"larger than {BYTES / 1e6:g} MB.</p>"
        )
    return Written(document(title, _STYLE, body + shown), len(shown))


_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #191919; background: #fff; margin: 24px; }
h1 { font-size: 20px; overflow-wrap: anywhere; } p { max-width: 900px; overflow-wrap: anywhere; }
th { text-align: left; } td, th { padding: 2px 12px 2px 0; font-variant-numeric: tabular-nums; }
.warning { border-left: 4px solid #d55e00; padding: 4px 10px; margin: 6px 0; background: #fdf1e7; }
.row { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; padding: 10px 0; }
section { border-top: 1px solid #ccc; }
figure { margin: 0; width: 120px; } .query { margin-right: 14px; }
figcaption { font-size: 12px; color: #555; overflow-wrap: anywhere; } b { color: #191919; }
img { width: 112px; height: 112px; display: block; border: 4px solid #ddd; }
.query img { border-color: #191919; } .same img { border-color: #0072b2; } .other img { border-color: #e69f00; }
"""


def _row(row: Row) -> str:
    query, parts = row.query, list(_figures(row))
    known = [each.class_name for each, _ in row.neighbours]
    count = f"{known.count(query.class_name)} of {len(known)} of its class" if query.class_name else ""
    return f'<section class="row">{_figure(query, "query", "query", count)}{"".join(parts)}</section>'


def _figures(row: Row) -> Iterator[str]:
    for each, similarity in row.neighbours:
        kind = "same" if each.class_name == row.query.class_name else "other"
        yield _figure(each, kind if row.query.class_name else "plain", f"{similarity:.3f}", "")


def _figure(shown: Thumbnail, kind: str, head: str, more: str) -> str:
    lines = [f"<b>{said(head)}</b>", *(said(line) for line in (shown.class_name, more) if line)]
    lines.append(said(ending(shown.name, 40)))
    title = escape(short(shown.name, 500))
    return (
        f'<figure class="{kind}" title="{title}"><img alt="{title}" src="{photograph(shown.image, QUALITY)}">'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )
