"""Principal components of tokens, and the colours that they give: the same in every picture, run after run.

One analysis is made of all tokens together, its signs are fixed, and one scale is laid over all pictures, so that a
colour means the same wherever it is seen.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

ROWS = 16_384
"""Tokens at a time in float64; bounds the memory and nothing else."""
ALIKE = 1e-6
"""Loadings that differ by no more than this share are of one size; a component whose range is no more than this share
of the widest one's is the same everywhere, up to rounding."""
LOWEST, HIGHEST = 1.0, 99.0
"""Percentiles that a colour runs between: a few tokens of huge norm would leave all others grey."""


class Components(NamedTuple):
    """The directions in which tokens differ most."""

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "k d"]
    """Unit vectors, the one along which tokens vary most first. Of each the largest loading by size, the first of them
    where several are of one size, is positive."""
    share: Float[np.ndarray, " k"]
    """Of all variance, in [0, 1]; 0 where tokens do not differ at all."""

    def of(self, tokens: Float[np.ndarray, "*s d"]) -> Float[np.ndarray, "*s k"]:
        """How far tokens lie along each axis, from their mean."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        parts = [(_wide(flat, start) - self.mean) @ self.axes.T for start in range(0, len(flat), ROWS)]
        return np.concatenate(parts).reshape(*tokens.shape[:-1], len(self.axes))


def components(tokens: Float[np.ndarray, "*s d"], count: int) -> Components:
    """The first `count` principal components of all these tokens together, in float64.

    Which order tokens come in changes nothing but the last digits. Where two components have the same variance, no
    rule tells them apart.

    Raises: ValueError where a token is not finite, or there are fewer than `count` numbers in one.
    """
    d = tokens.shape[-1]
    if not 1 <= count <= d:
        raise ValueError(f"tokens of {d} numbers have no {count} components")
    flat = tokens.reshape(-1, d)
    starts = range(0, len(flat), ROWS)
    mean = np.sum([_wide(flat, start).sum(0) for start in starts], axis=0) / len(flat)
    if not np.isfinite(mean).all():
        raise ValueError("some tokens are not finite numbers")
    covariance = np.zeros((d, d))
    for start in starts:
        x = _wide(flat, start) - mean
        covariance += x.T @ x / len(flat)
    variances, vectors = np.linalg.eigh(covariance)
    axes, size = vectors.T[::-1][:count], np.abs(vectors.T[::-1][:count])
    largest = (size >= (1 - ALIKE) * size.max(1, keepdims=True)).argmax(1)
    axes = axes * np.sign(np.take_along_axis(axes, largest[:, None], 1))
    variances, total = variances[::-1][:count].clip(0), float(np.trace(covariance))
    return Components(mean, axes, variances / total if total > 0 else np.zeros(count))


def colours(places: Float[np.ndarray, "*s 3"]) -> UInt8[np.ndarray, "*s 3"]:
    """Places along three axes as red, green and blue, each from the 1st percentile of all of them to the 99th.

    Where there is nothing to see along an axis, beside the others, its colour is half way everywhere.
    """
    low, high = np.percentile(places.reshape(-1, 3), (LOWEST, HIGHEST), axis=0)
    reach = high - low
    flat = reach <= ALIKE * max(float(reach.max()), np.finfo(np.float64).tiny)
    share = np.where(flat, 0.5, (places - low) / np.where(flat, 1.0, reach))
    return np.rint(255 * share.clip(0, 1)).astype(np.uint8)


def _wide(flat: Float[np.ndarray, "m d"], start: int) -> Float[np.ndarray, "_ d"]:
    return flat[start : start + ROWS].astype(np.float64)
