"""How far preparing is: a bar on a terminal, a plain line now and then elsewhere."""

import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0
"""Seconds between plain lines."""


class Bar:
    """Counts pictures and shards; called from one thread."""

    def __init__(self, pictures: int | None, shards: int) -> None:
        """Expected are so many pictures, None where that is not known; then the bar follows the shards."""
        self._pictures, self._shards = pictures, shards
        self._began = time.monotonic()
        self._said = -math.inf
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(soft_wrap=True))
            self._task = self._bar.add_task("", total=pictures or shards)

    def __enter__(self) -> "Bar":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, pictures: int, shards: int) -> None:
        now = time.monotonic()
        if now - self._said < (0.1 if self._bar else EVERY) and shards < self._shards:
            return
        self._said = now
        of = f" of {self._pictures:,}" if self._pictures else ""
        text = f"{pictures:,}{of} pictures, {shards:,} of {self._shards:,} shards"
        if pictures:
            text += f", {pictures / max(now - self._began, 1e-3):,.0f} a second"
        if self._bar:
            self._bar.update(self._task, completed=pictures if self._pictures else shards, description=text)
        else:
            print(text, flush=True)
