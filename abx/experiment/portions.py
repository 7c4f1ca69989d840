"""How many rows at a time: batches of a training, and chunks that a trained probe answers."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from abx import parallel

STANDARD = 2_048
"""Training pictures, at most, by whose tokens the tokens are standardised: with 196 tokens of 384 numbers 0.3 GB."""
SHARED = 16
"""Batches are multiples of it, so that two rows or more fall to each of up to eight devices, which then all give the
same result. Fine-tuning mixes pictures in pairs."""
ANSWERED = 256
"""Pictures, or questions, that a trained probe answers at a time."""


def batch_size(wanted: int, rows: int) -> int:
    """Rows of a batch: no more than there are, and a multiple of `SHARED` and of twice the devices, but at least one of
    these."""
    unit = math.lcm(SHARED, 2 * parallel.mesh().size)
    return max(min(wanted, rows) // unit, 1) * unit


def steps_for(epochs: int, rows: int, batch: int) -> int:
    return -(-epochs * rows // batch)


def sample(count: int, seed: int) -> Int[np.ndarray, " n"]:
    """Up to `STANDARD` numbers below `count`, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:STANDARD])


def answered() -> int:
    """`ANSWERED`, or the next multiple of the devices."""
    devices = parallel.mesh().size
    return -(-ANSWERED // devices) * devices


def chunks(rows: Int[np.ndarray, " n"]) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """The rows, always as many, and how many of them are meant: the last are filled up with the first row."""
    size = answered()
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.concatenate([part, np.full(size - len(part), rows[0])]), len(part)


def spread(rows: np.ndarray) -> Any:
    """Over the devices."""
    return parallel.place(rows, parallel.batched(parallel.mesh()))
