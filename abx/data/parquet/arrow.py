"""The way to pyarrow, which is needed for parquet alone."""

import os
import stat
from importlib import import_module
from typing import Any, NamedTuple

from abx.data.sources import SpecError, printable


class Stamp(NamedTuple):
    """Which state of a file this is."""

    size: int
    time: int
    """Of the last change, in nanoseconds."""


def stamp_of(path: str) -> Stamp:
    """Raises: OSError."""
    status = os.stat(path)
    return Stamp(status.st_size, status.st_mtime_ns)


def pyarrow(module: str = "") -> Any:
    """pyarrow, or a module of it. Raises: SpecError, if it is not installed."""
    try:
        return import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise SpecError("parquet needs pyarrow: pip install 'annotation-bootstrapping[parquet]'") from error


def open_parquet(path: str) -> Any:
    """A `ParquetFile`, its footer read. Raises: Exception; pyarrow has many, see `reason`."""
    # To open a pipe that nobody writes to would wait forever.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("not a regular file")
    return pyarrow("parquet").ParquetFile(pyarrow().OSFile(path), memory_map=False, pre_buffer=False)


def reason(error: Exception) -> str:
    """Printable on one line, without the path that the system's errors carry."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(text.split())[:200]) or type(error).__name__
