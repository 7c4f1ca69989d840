"""Files that many threads read at any place, some of them kept open, and known again when they have changed."""

import os
import stat
import threading
import weakref
import zlib
from collections import OrderedDict
from typing import NamedTuple

OPEN_FILES = 64
"""Files kept open per process, however many sources there are, far below the usual limit of 1024."""

_HEAD, _TAIL = 4096, 16384
"""Bytes of `Stamp.ends`. A tar is filled up with zeros to 10 KiB, so the last bytes alone would say nothing."""


class Changed(Exception):
    """The file is no longer the one that it was."""


class Stamp(NamedTuple):
    """Which file this is. Its size and time do not tell alone: sizes of tars are round, and times may be set."""

    size: int = 0
    time: int = 0
    """Of the last change, in nanoseconds."""
    ends: int = 0
    """Checksum of the first and the last bytes."""


class File:
    """An open regular file; closed when the last one lets go of it."""

    def __init__(self, path: str) -> None:
        """Raises: OSError, also for what is no regular file."""
        # O_NONBLOCK: to open a pipe that nobody writes to would wait forever.
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Not __del__, which at the end of the interpreter finds `os` gone.
        weakref.finalize(self, os.close, self.fd)
        self.status = os.fstat(self.fd)
        if not stat.S_ISREG(self.status.st_mode):
            raise OSError("not a regular file")

    def read(self, at: int, size: int) -> bytes:
        """Raises: OSError, also when the file ends before."""
        parts = []
        while size > 0:
            part = os.pread(self.fd, size, at)
            if not part:
                raise OSError("it has become shorter")
            parts.append(part)
            at, size = at + len(part), size - len(part)
        return b"".join(parts)

    def stamp(self) -> Stamp:
        """As the file is now. Raises: OSError."""
        status = os.fstat(self.fd)
        ends = os.pread(self.fd, _HEAD, 0) + os.pread(self.fd, _TAIL, max(0, status.st_size - _TAIL))
        return Stamp(status.st_size, status.st_mtime_ns, zlib.crc32(ends))

    def check(self, stamp: Stamp) -> None:
        """Takes a microsecond: `ends` were compared when the file was opened. Raises: Changed; OSError."""
        status = os.fstat(self.fd)
        if (status.st_size, status.st_mtime_ns) != stamp[:2]:
            raise Changed


_open: OrderedDict[tuple[str, Stamp], File] = OrderedDict()
"""The files last read. What is thrown out stays open for the threads that are reading it."""
_lock = threading.Lock()


def open_file(path: str, stamp: Stamp) -> File:
    """The file of this stamp, for many threads. Whoever has read calls `File.check`: it may be written to meanwhile.

    Raises: Changed, if there is another now; OSError.
    """
    with _lock:
        if file := _open.get((path, stamp)):
            _open.move_to_end((path, stamp))
            return file
    file = File(path)  # other threads need not wait for the disk
    if file.stamp() != stamp:
        raise Changed
    with _lock:
        file = _open.setdefault((path, stamp), file)
        while len(_open) > OPEN_FILES:
            _open.popitem(last=False)
    return file
