"""What a tokenizer is."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


class BadTokenizer(ValueError):
    """A tokenizer cannot be had; the message is one sentence that says which and why."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to numbers and back. Safe to use from many threads."""

    size: int
    """How many tokens it knows; they are numbered from 0."""
    start: tuple[int, ...]
    """What stands before every text: one token, or none."""
    end: int
    """The token after every text."""

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those of its start and end; [] where nothing of it is left."""

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens say, without those of start and end."""

    def piece(self, token: int) -> str:
        """How a token is written, for people to look at."""
