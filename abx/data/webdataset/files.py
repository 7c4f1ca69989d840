"""Files that many threads read at any place, some of them kept open."""

import os
import stat
import threading
import weakref
from collections import OrderedDict

OPEN_FILES = 64
"""Files kept open per process, far below the usual limit of 1024."""


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


class Files:
    """The files last read, open. What is thrown out stays open for the threads that are reading it."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, File] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, path: str) -> File:
        """Raises: OSError."""
        with self._lock:
            file = self._open.pop(path, None) or File(path)
            self._open[path] = file
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
            return file
