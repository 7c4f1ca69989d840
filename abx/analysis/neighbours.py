"""Nearest neighbours by the cosine of features: which pictures a network takes for alike."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ROWS = 8_192
"""Features at a time in float64; bounds the memory and nothing else."""


class Neighbours(NamedTuple):
    """Of each query the k features most like it, the most like first."""

    rows: Int[np.ndarray, "q k"]
    similarity: Float[np.ndarray, "q k"]
    """Cosines, in float32."""


def neighbours(
    queries: Float[np.ndarray, "q d"],
    features: Float[np.ndarray, "m d"],
    k: int,
    itself: Int[np.ndarray, " q"] | None = None,
) -> Neighbours:
    """Exact: every query with every feature. Of features that are equally like, to float32, the first comes first.

    Args:
        k: cut to the number of features that there are.
        itself: rows of the features that are the queries themselves, and so are no neighbours of theirs.

    Raises: ValueError where a feature is not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(features).all()):
        raise ValueError("some features are not finite numbers")
    q, m = len(queries), len(features)
    k = min(k, m - (itself is not None))
    sought, every = _directions(queries), np.arange(q)
    rows, best = np.zeros((q, 0), np.int64), np.zeros((q, 0), np.float32)
    for start in range(0, m, ROWS):
        # Rounded from float64: features that are the same are equally like, wherever in a matrix they stand.
        found = (sought @ _directions(features[start : start + ROWS]).T).astype(np.float32)
        if itself is not None:
            inside = (itself >= start) & (itself < start + ROWS)
            found[every[inside], itself[inside] - start] = -np.inf
        rows = np.concatenate([rows, np.tile(np.arange(start, start + found.shape[1]), (q, 1))], 1)
        best = np.concatenate([best, found], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        rows, best = np.take_along_axis(rows, order, 1), np.take_along_axis(best, order, 1)
    return Neighbours(rows, best)


class Agreement(NamedTuple):
    """How often neighbours are of the query's own class."""

    same: Float[np.ndarray, " q"]
    """Share of a query's neighbours, in [0, 1]; NaN for a query without a class."""
    chance: Float[np.ndarray, " q"]
    """Share of all features that could be its neighbours."""


def agreement(
    found: Neighbours, own: Int[np.ndarray, " q"], classes: Int[np.ndarray, " m"], without_itself: bool
) -> Agreement:
    """A feature without a class is of another one.

    Args:
        own: classes of the queries; -1 = none.
        classes: those of the features.
        without_itself: whether each query is one of the features.
    """
    known = own >= 0
    counts = np.bincount(classes[classes >= 0], minlength=max(int(own.max(initial=-1)), 0) + 1)
    others = len(classes) - without_itself
    chance = (counts[np.where(known, own, 0)] - without_itself) / max(others, 1)
    same = (classes[found.rows] == own[:, None]).mean(1) if found.rows.shape[1] else np.full(len(own), np.nan)
    return Agreement(np.where(known, same, np.nan), np.where(known, chance, np.nan))


def _directions(x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Of length 1, in float64; 0 stays 0."""
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)
