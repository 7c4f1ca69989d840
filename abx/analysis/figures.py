"""What a report is made from: the metrics of a run by name, what must be known beside them, and what is found."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from abx.log import Row

Mark = Literal["good", "watch", "bad"]

EARLY = 200
"""Up to this step a figure that shows nothing is early rather than bad."""


class Facts(NamedTuple):
    """What must be known beside the metrics."""

    method: str
    step: int
    steps: int
    width: int
    """Width of the backbone's features."""
    off: tuple[str, ...] = ()
    """What the run does without by choice: "value", "reward" (no loss of its own), "ssl", "actions"."""
    flags: tuple[str, ...] = ()
    """The flags of its recipe, for hints to name none that it lacks; () = unknown: they name none but everyone's."""

    def flag(self, name: str, words: str) -> str:
        """The recipe's flag of this name, wherever it stands; where none is known, words for it."""
        return next((flag for flag in self.flags if flag.rpartition(".")[2] == name), words)


class Finding(NamedTuple):
    mark: Mark
    text: str
    hint: str = ""
    """What to look at, where something is amiss."""
    learns: bool = False
    """Whether it shows that something has been learnt, rather than that nothing is amiss."""


class Figures:
    """The metrics of a run, by name: the first value, the last, and the mean of late ones."""

    def __init__(self, rows: Sequence[Row]):
        self.rows = rows
        self.names = {name: None for row in rows for name in row if name != "step"}

    def all(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]

    def first(self, name: str) -> float:
        return next(iter(self.all(name)), math.nan)

    def last(self, name: str) -> float:
        return (self.all(name) or [math.nan])[-1]

    def late(self, name: str) -> float:
        """Mean of the last tenth of the values, as single batches are noisy."""
        found = self.all(name)
        tail = found[-max(1, len(found) // 10) :]
        return sum(tail) / len(tail) if tail else math.nan

    def usable(self, *names: str) -> bool:
        """Whether all of these were measured and are numbers."""
        return all(math.isfinite(self.last(name)) and math.isfinite(self.late(name)) for name in names)
