"""Which checkpoints of a run stay."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Keep:
    """Which checkpoints stay: the newest few, the one with the highest score, and one every so many steps.

    Orbax asks it after each save, as one of its preservation policies. Our own and not Orbax's `BestN`, for which a NaN
    is the best score there is, a checkpoint without one is never deleted, and scores are forgotten when the program
    ends.
    """

    newest: int
    best: bool
    every: int = 0
    """Those whose step is a multiple of this; 0 = none."""
    scores: dict[int, float] = field(default_factory=dict)
    """Of the checkpoints that have one; finite."""

    def best_of(self, steps: Sequence[int]) -> int | None:
        """The later of equals."""
        scored = [s for s in steps if s in self.scores]
        return max(scored, key=lambda s: (self.scores[s], s)) if scored else None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [int(c.step) for c in checkpoints]  # ascending
        kept = {*steps[-self.newest :], self.best_of(steps) if self.best else None}
        return [s in kept or (self.every > 0 and s % self.every == 0) for s in steps]
