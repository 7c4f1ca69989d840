"""The random numbers of a scene.

They come from Philox's raw words, whose stream numpy guarantees: the same on every machine.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from abx.data.scenery.textures import Table

Colour: TypeAlias = Float32[np.ndarray, "3 1 1"]

LENGTH = {"train": 100_000, "test": 10_000}
"""Scenes in each split."""


class Dice:
    """Uniform random numbers of one scene, a pure function of (seed, split, index)."""

    def __init__(self, seed: int, split: str, index: int) -> None:
        stream = list(LENGTH).index(split) << 56 | index
        self._bits = np.random.Philox(key=np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, stream], np.uint64))
        self._numbers = self._draw()

    def _draw(self) -> Iterator[float]:
        while True:
            yield from self.table().tolist()

    def table(self) -> Table:
        return (self._bits.random_raw(256) >> np.uint64(11)) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._numbers)

    def below(self, n: int) -> int:
        return int(n * next(self._numbers))

    def colours(self, hue: float | None = None) -> tuple[Colour, Colour]:
        """A dark and a light colour in random order: any two hues, or about `hue` and its opposite in random order."""
        if hue is None:
            dark, light = (
                self._colour(self.uniform(0.0, 6.0), 0.15, 0.5),
                self._colour(self.uniform(0.0, 6.0), 0.62, 1.0),
            )
        else:
            hue += 3 * self.below(2) + self.uniform(-0.25, 0.25)
            dark, light = self._colour(hue % 6, 0.2, 0.55), self._colour((hue + 3) % 6, 0.62, 1.0)
        return (dark, light) if self.below(2) else (light, dark)

    def _colour(self, hue: float, low: float, high: float) -> Colour:
        saturation, value = self.uniform(0.2, 0.8), 255 * self.uniform(low, high)
        ramps = (abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4))
        parts = [value * (1 - saturation * (1 - min(max(ramp, 0.0), 1.0))) for ramp in ramps]
        return np.array(parts, np.float32).reshape(3, 1, 1)
