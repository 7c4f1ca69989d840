"""An array that is not read yet: names and shapes can be judged, and changed, before anything is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Unfit(ValueError):
    """Weights that are no ViT's of ours; the message names the array and the reason."""


class Stored(NamedTuple):
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    """In float32."""

    def change(self, how: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None) -> Stored:
        """The same after some arithmetic, done when it is read; `shape`: where it becomes another."""
        return Stored(self.shape if shape is None else shape, lambda: how(self.read()))


Arrays = Mapping[str, Stored]


class Named(NamedTuple):
    """What a family's file holds, said as timm does."""

    family: str
    """Whose names they were."""
    arrays: dict[str, Stored]
    """The backbone, under timm's names and in timm's layouts."""
    others: dict[str, Stored]
    """Towers and heads beside it, by our own names: text.table."""
    skipped: list[str]
    """What was left out, by its name in the file."""
    heads: int = 0
    """Attention heads; 0 = the file does not tell."""


def filled(shape: tuple[int, ...]) -> Stored:
    """Zeros."""
    return Stored(shape, lambda: np.zeros(shape, np.float32))


def joined(parts: list[Stored], how: Callable[[list[np.ndarray]], np.ndarray], shape: tuple[int, ...]) -> Stored:
    """One array of several."""
    return Stored(shape, lambda: how([part.read() for part in parts]))
