"""What a reader of a published data set says: what it holds, and the units in which it is read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from abx.types import Record, Vocabulary


class LayoutError(ValueError):
    """The source is not laid out as the data set is published; the message is one sentence that says what is missing
    and how it should be."""


@runtime_checkable
class Unit(Protocol):
    """A part of a split that is read in one go and becomes one shard: some files, or an archive. Pickles."""

    @property
    def name(self) -> str:
        """Unique in its split, and the same at every start, e.g. `train/n01440764`."""

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        """(key, record) in order, the picture as the file it was, not decoded. A picture that cannot be read is given
        as (key, Record(b"")), to be counted.

        Raises: OSError, if the unit cannot be read at all.
        """


class Split(NamedTuple):
    """A part of a data set, as published."""

    name: str
    """train, val, test, ..."""
    units: Sequence[Unit]
    expected: int | None = None
    """Number of pictures that the data set is published with; None when that is not known."""


class Published(NamedTuple):
    """A data set, found in its official layout."""

    splits: tuple[Split, ...]
    classes: tuple[str, ...] = ()
    vocabulary: Vocabulary = Vocabulary()
    licence: str = ""
    """A line about the terms, for the manifest."""
