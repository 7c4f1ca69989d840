"""Tars, as a stream or by the places of their members. Nothing is unpacked to disk, and memory stays bounded."""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from abx.data.prepare.base import LayoutError
from abx.data.sources import printable

MAX_HEADER = 1 << 20
"""Bytes of a member's long name or attributes; tarfile would read any number."""
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
"""Raised where a file lies in an archive that is damaged there: to read it again will not help."""


class Entry(NamedTuple):
    """A regular file in a tar."""

    name: str
    start: bytes
    """As many bytes as were wanted."""
    size: int

    @property
    def data(self) -> bytes:
        """All of it; b"" if it is larger than what was wanted."""
        return self.start if len(self.start) == self.size else b""


class Trouble(NamedTuple):
    """A part of the tar cannot be used; the reason is short and on one line."""

    reason: str


class Span(NamedTuple):
    """Where a member lies in an uncompressed tar."""

    name: str
    start: int
    end: int


@runtime_checkable
class Readable(Protocol):
    """What a stream needs of a file."""

    def read(self, size: int, /) -> bytes: ...


class _Info(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Info":
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADERS and info.size > MAX_HEADER:
            raise tarfile.InvalidHeaderError("a name longer than any file system allows")  # type: ignore[attr-defined]
        return info

    @classmethod
    def fromtarfile(cls, tarfile_: "_Tar") -> "_Info":  # type: ignore[override]
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as end:
            tarfile_.end = end
            raise


class _Tar(tarfile.TarFile):
    """Remembers how it ended: tarfile takes a damaged or a cut-off header for the end."""

    tarinfo = _Info
    end: tarfile.HeaderError | None = None


def entries(file: Readable, wanted: Callable[[str], int | None]) -> Iterator[Entry | Trouble]:
    """The regular files of a tar in their order, compressed (gzip, bzip2, xz) or not, and what is wrong with the rest.

    Args:
        wanted: how many bytes are to be read of a member of this name; None passes over it.

    Raises: OSError, if the file cannot be read.
    """
    count = 0
    stream: Any = _Read(file)  # typed for files of every kind, though a stream is only read
    try:
        with _Tar.open(fileobj=stream, mode="r|*", encoding="utf-8", errors="surrogateescape") as tar:
            for info in _regular(tar):
                if info.name.startswith("/") or ".." in info.name.split("/"):
                    yield Trouble(f"member {count + 1} refused, its path leads out of the archive")
                elif (limit := wanted(info.name)) is not None:
                    part = tar.extractfile(info) if limit else None
                    yield Entry(info.name, part.read(limit) if part else b"", info.size)
                count += 1
            if not isinstance(tar.end, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                yield Trouble(f"cut off or damaged after member {count}")
    except OSError:
        raise
    except Exception as error:  # a damaged header may raise nearly anything inside tarfile
        yield Trouble(f"cut off or damaged after member {count}" if count else f"no readable tar, {_words(error)}")


def spans(file: Any, said: str) -> list[Span]:
    """Where the regular files of a tar lie, without reading them. Of one that is cut off, as far as it goes.

    Args:
        file: of bytes, to be sought in.
        said: the file, for messages.

    Raises: LayoutError, if it is no uncompressed tar; OSError, if it cannot be read.
    """
    found = []
    try:
        with _Tar.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for info in _regular(tar):
                found.append(Span(info.name, info.offset_data, info.offset_data + info.size))
    except OSError:
        raise
    except Exception as error:  # as above
        if not found:
            raise LayoutError(f"{said} is no uncompressed tar: download it again ({_words(error)})") from error
    return found


class _Read:
    """Tells what goes wrong with reading, an OSError, from damage: a file system's own library raises anything."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, *DAMAGED):
            raise
        except Exception as error:
            raise OSError(_words(error)) from error


def _regular(tar: Any) -> Iterator[tarfile.TarInfo]:
    for info in tar:
        tar.members = []  # tarfile remembers every member otherwise
        if info.isreg() and not info.issparse():
            yield info


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


class Stretch:
    """A `Readable`: a stretch of a file, to be read from start to end as a file of its own."""

    def __init__(self, file: Any, place: Span) -> None:
        file.seek(place.start)
        self._file, self._left = file, place.end - place.start

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data
