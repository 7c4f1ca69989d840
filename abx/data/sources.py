"""What a data source is. How a person names one is in `specs`; what kinds there are, in `schemes/`."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from abx.data.images import BadImage, decode
from abx.types import Record, Sample, Vocabulary


class BadRecord(ValueError):
    """One record cannot be used; the message is the reason, on one line, without the record's name."""


class SpecError(ValueError):
    """The data string cannot be used; the message is one sentence that says what to change."""


@runtime_checkable
class Source(Protocol):
    """Records by number, in an order that does not depend on the machine. Safe to read from many threads; pickles."""

    classes: tuple[str, ...]
    """Names of `Sample.label`; () if no record has a label."""
    vocabulary: Vocabulary
    """Names of the other numbers of a sample."""
    problems: tuple[tuple[str, str], ...]
    """What indexing had to leave out, and nothing else: (name, reason), both printable on one line."""
    notes: tuple[str, ...]
    """What a person should know of the data as a whole, each printable on one line."""

    def __len__(self) -> int: ...

    def stored(self, i: int) -> Record:
        """The record as it is stored, its picture not decoded.

        Raises: BadRecord, if it cannot be read; IndexError outside 0 <= i < len.
        """

    def __getitem__(self, i: int) -> Sample:
        """The record, its picture decoded.

        Raises: BadRecord, if this record cannot be used; IndexError outside 0 <= i < len.
        """

    def name(self, i: int) -> str:
        """Where the record comes from, printable on one line."""


@runtime_checkable
class OnDisk(Protocol):
    """What a `Source` offers besides whose records lie in files."""

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str | bytes]:
        """Paths of the files that these records are in, of each at least once."""


class Files(ABC):
    """The half of a `Source` that all share whose pictures are files, or parts of files."""

    notes: tuple[str, ...] = ()

    @abstractmethod
    def stored(self, i: int) -> Record: ...

    @abstractmethod
    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str | bytes]:
        """See `OnDisk`."""

    def __getitem__(self, i: int) -> Sample:
        return decoded(self.stored(i))


class Samples:
    """A list of samples as a `Source`, for notebooks and tests."""

    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(
        self, samples: Sequence[Sample], classes: tuple[str, ...] = (), vocabulary: Vocabulary = Vocabulary()
    ) -> None:
        self._samples, self.classes, self.vocabulary = samples, classes, vocabulary

    def __len__(self) -> int:
        return len(self._samples)

    def stored(self, i: int) -> Record:
        return Record(*self[i])

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < len(self._samples):
            raise IndexError(f"sample {i} of {len(self._samples)}")
        return self._samples[i]

    def name(self, i: int) -> str:
        return f"sample {i}"


def decoded(record: Record) -> Sample:
    """Raises: BadRecord, where the picture is none."""
    if not isinstance(record.image, bytes):
        return Sample(record.image, *record[1:])
    try:
        return Sample(decode(record.image), *record[1:])
    except BadImage as bad:
        raise BadRecord(str(bad)) from bad


def first_usable(source: Source, limit: int = 1000) -> Sample:
    """The first record that can be used, of the first `limit`.

    Raises: SpecError, naming the first record and what is wrong with it.
    """
    first = ""
    count = min(limit, len(source))
    for i in range(count):
        try:
            return source[i]
        except BadRecord as bad:
            first = first or f"{source.name(i)}: {bad}"
    raise SpecError(f"none of the first {count} images could be read; the first: {first}")


def cache_home() -> str:
    """Where what is made of data is kept if it cannot be kept beside them: $ABX_CACHE, else $XDG_CACHE_HOME/abx, else
    ~/.cache/abx."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("ABX_CACHE") or os.path.join(home, "abx")


def fingerprint(source: Source) -> list[int | str]:
    """Number of records, and a digest of the names of up to a thousand of them: whether this is the data it was."""
    count = len(source)
    names = [source.name(i) for i in range(0, count, -(-count // 1000))]
    # Without what all begin with: the same data elsewhere is the same data.
    shared = len(os.path.commonprefix(names)) if count > 1 else 0  # noqa: RUF071  # not all names are paths
    text = "\n".join(name[shared:] for name in names)
    return [count, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]]


def stamp(source: Source, records: Int[np.ndarray, " r"]) -> str:
    """A digest of the sizes and times of the files that these records are in: whether any was written to since.

    A million files take some seconds, and nothing is read. "" for a source without files.
    """
    if not isinstance(source, OnDisk):
        return ""
    found = hashlib.sha256()
    for path in source.files(records):
        try:
            status = os.stat(path)
            found.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError:
            found.update(b"gone\n")
    return found.hexdigest()


def printable(name: str) -> str:
    """On one line and in characters that print: control characters, line breaks and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else _escape(c) for c in name)


def _escape(c: str) -> str:
    if 0xDC80 <= ord(c) <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode passes it on
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


class Names:
    """Many byte strings, held as one, so that a million file names are cheap to keep and to send to a worker."""

    def __init__(self, names: Iterable[bytes]) -> None:
        names = list(names)
        self.blob = b"".join(names)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        """Raises: IndexError outside 0 <= i < len."""
        if not 0 <= i < len(self.ends):
            raise IndexError(f"record {i} of {len(self.ends)}")
        return self.blob[self.ends[i - 1] if i else 0 : self.ends[i]]
