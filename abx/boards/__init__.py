"""Where a run's figures and pictures are shown beside `metrics.jsonl`: a board. No run depends on one."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8


@runtime_checkable
class Board(Protocol):
    """A service, or a folder that a program reads, for looking at figures while a run trains."""

    fresh: bool
    """Whether it knows nothing yet of the steps that are over, so that they are to be told again."""

    def scalars(self, step: int, row: Mapping[str, float]) -> None:
        """The figures of a step. Some of one step may come after the others."""

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None: ...

    def close(self) -> None: ...


class Boards:
    """Several boards, or none, as one. What goes wrong with one is said once, on stderr, and ends no run: that board
    gets no more, and `metrics.jsonl` has all that it would have had."""

    def __init__(self) -> None:
        self.open: dict[str, Board] = {}
        """By the name that a person knows the board by."""

    def add(self, name: str, make: Callable[[], Board]) -> None:
        """One more, as `make` makes it; where it cannot, that is said."""
        with self._lenient(name):
            self.open[name] = make()

    def scalars(self, step: int, row: Mapping[str, float], *, again: bool = False) -> None:
        """`again`: figures of before, which only a fresh board lacks."""
        self._each(lambda board: board.scalars(step, row), again)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"], *, again: bool = False) -> None:
        self._each(lambda board: board.picture(step, name, image), again)

    def close(self) -> None:
        self._each(lambda board: board.close())
        self.open.clear()

    def __enter__(self) -> "Boards":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _each(self, tell: Callable[[Board], None], again: bool = False) -> None:
        for name, board in list(self.open.items()):
            if board.fresh or not again:
                with self._lenient(name):
                    tell(board)

    @contextmanager
    def _lenient(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as wrong:  # a full disk, a service that has crashed, a library that has changed: all the same
            self.open.pop(name, None)
            said = " ".join(str(wrong).split())[:200] or type(wrong).__name__
            print(f"note: {name} has failed and gets no more of this run, which goes on: {said}", file=sys.stderr,
                  flush=True)  # fmt: skip
