"""`abx neighbours`: pictures with those that a network takes for most like them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from abx.analysis.neighbours import Agreement, Neighbours, agreement, neighbours
from abx.analysis.neighbours_page import Row, Thumbnail, Written, neighbours_page
from abx.data.sources import Source
from abx.probes.features import Features, Look, pictures

THUMBNAIL = 112
"""Pixels: side of a picture on the page."""


class Side(NamedTuple):
    """Pictures with their features."""

    source: Source
    records: Int[np.ndarray, " m"]
    """Those that `found` has, in its order."""
    found: Features

    @property
    def class_names(self) -> list[str]:
        """Of each picture; "" = none."""
        classes, labels = self.source.classes, [fact.label for fact in self.found.facts]
        return ["" if i < 0 else classes[i] if i < len(classes) else str(i) for i in labels]


class Likened(NamedTuple):
    """Queries and their neighbours."""

    queries: Side
    pictures: Side
    rows: Int[np.ndarray, " q"]
    """Of the queries' own features."""
    found: Neighbours
    agreement: Agreement

    @property
    def k(self) -> int:
        """Neighbours of each."""
        return self.found.rows.shape[1]

    @property
    def same_class(self) -> tuple[float, float] | None:
        """Share of neighbours of the query's own class, and what chance would give: means over the queries that have
        one. None where none has, or no picture to compare with."""
        known = ~np.isnan(self.agreement.same)
        if not known.any():
            return None
        return float(self.agreement.same[known].mean()), float(self.agreement.chance[known].mean())

    def names(self) -> list[dict[str, str | list[str] | list[float]]]:
        """Of each query its name, the names of its neighbours, and their similarities."""
        similarities: Float[np.ndarray, "q k"] = self.found.similarity
        return [
            {
                "query": self.queries.found.names[i],
                "neighbours": [self.pictures.found.names[j] for j in near],
                "similarity": [round(x, 6) for x in alike],
            }
            for i, near, alike in zip(self.rows.tolist(), self.found.rows.tolist(), similarities.tolist(), strict=True)
        ]


def liken(side: Side, queries: Side | int, k: int, seed: int = 0) -> Likened:
    """Each query with the k pictures most like it.

    Args:
        queries: other pictures; or how many of these, a fixed random choice, which are no neighbours of themselves.

    Raises: ValueError where features are not finite.
    """
    m = len(side.found.names)
    if isinstance(queries, int):
        rows = np.sort(np.random.default_rng(seed).permutation(m)[:queries])
        asked, itself = side, rows
    else:
        rows, asked, itself = np.arange(len(queries.found.names)), queries, None
    found = neighbours(asked.found.pooled[rows], side.found.pooled, k, itself)
    theirs, own = side.class_names, asked.class_names
    # Classes go by name: other pictures may number them in another way.
    numbers = {name: i for i, name in enumerate(sorted({*theirs, *own} - {""}))}
    own_classes, classes = (np.array([numbers.get(name, -1) for name in names], np.int64) for names in (own, theirs))
    same = agreement(found, own_classes[rows], classes, itself is not None)
    return Likened(asked, side, rows, found, same)


def page_of(likened: Likened, look: Look, threads: int, title: str, of: str) -> Written:
    """The HTML file, with thumbnails of what the network was shown.

    Args:
        of: one sentence about the data.
    """
    queries = _thumbnails(likened.queries, likened.rows, look, threads)
    near = _thumbnails(likened.pictures, np.unique(likened.found.rows), look, threads)
    rows = [
        Row(queries[i], [(near[j], x) for j, x in zip(js, xs, strict=True)])
        for i, js, xs in zip(
            likened.rows.tolist(), likened.found.rows.tolist(), likened.found.similarity.tolist(), strict=True
        )
    ]
    facts = [
        ("pictures", f"{len(likened.pictures.found.names):,}"),
        ("queries", f"{len(rows):,}, each with its {likened.k} nearest"),
    ]
    about = [of, "In each row a query, then the pictures most like it, with the cosine of their pooled features."]
    if (shares := likened.same_class) is not None:
        about.append("Blue frames: of the query's class. Orange frames: of another one, or of none.")
        facts.append(("neighbours of the query's class", f"{shares[0]:.2%}; by chance {shares[1]:.2%}"))
    return neighbours_page(title, about, facts, rows)


def _thumbnails(side: Side, rows: Int[np.ndarray, " n"], look: Look, threads: int) -> dict[int, Thumbnail]:
    """By row of the features. A picture that has gone since is black."""
    small, names = Look(THUMBNAIL, look.shows), side.class_names
    black = np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8)
    found = {int(row): Thumbnail(black, side.found.names[row], names[row]) for row in rows}
    for batch in pictures(side.source, side.records[rows], small, 64, [], threads):
        for row, image in zip(rows[batch.places].tolist(), batch.images, strict=False):
            found[row] = found[row]._replace(image=image)
    return found
