"""The files of a published data set, in a folder here or wherever fsspec reaches."""

import csv
import errno
import io
import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from abx.data.images import MAX_BYTES
from abx.data.prepare.archives import DAMAGED
from abx.data.prepare.base import LayoutError
from abx.data.sources import printable

_NOT_HERE = frozenset({errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM})
"""Why a file of this machine cannot be read, now or later."""
Row: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class AnyFolder:
    """A folder, by its file system and its path there. Names below are relative to it, with `/`; "" is itself."""

    fs: AbstractFileSystem
    path: str

    def at(self, name: str) -> str:
        # The top of an archive, or of all that a URL reaches, is "".
        return f"{self.path.rstrip('/')}/{name}" if name and self.path else name or self.path

    def said(self, name: str = "") -> str:
        """For messages."""
        return printable(self.at(name)) or "the top folder"

    def below(self, *names: str) -> "AnyFolder":
        """The first of these folders that there is, else this one: data sets are unpacked with and without it."""
        return next((AnyFolder(self.fs, self.at(name)) for name in names if self.fs.isdir(self.at(name))), self)

    def has(self, name: str) -> bool:
        return bool(self.fs.exists(self.at(name)))

    def folders(self, name: str = "") -> list[str]:
        """Names of the folders in a folder, sorted; none if there is no such folder. Hidden ones are passed over."""
        return self._list(name, "directory")

    def files(self, name: str = "") -> list[str]:
        """Names of the files in a folder, sorted; none if there is no such folder. Hidden ones are passed over."""
        return self._list(name, "file")

    def _list(self, name: str, kind: str) -> list[str]:
        try:
            entries = self.fs.ls(self.at(name), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = set()
        for entry in entries:
            path = entry["name"].rstrip("/")
            base = path.rpartition("/")[2]
            # Object stores list a folder in itself.
            if base.startswith(".") or not base or path.strip("/") == self.at(name).strip("/"):
                continue
            if self._kind(entry, path) == kind:
                found.add(base)
        return sorted(found)

    def _kind(self, entry: dict[str, Any], path: str) -> str:
        if not entry.get("islink"):
            return str(entry["type"])
        try:
            return str(self.fs.info(path)["type"])
        except OSError:  # a broken link, to be counted when it is read
            return "file"

    def need(self, *names: str) -> str:
        """The first of these files or folders that there is.

        Raises: LayoutError, naming what was looked for and what there is.
        """
        for name in names:
            if self.has(name):
                return name
        within = names[0].rpartition("/")[0]
        within = within if self.has(within) else ""
        there = [*(f"{folder}/" for folder in self.folders(within)), *self.files(within)]
        listed = printable(", ".join(there[:8])) + (", ..." if len(there) > 8 else "")
        place = f"in {within} there is" if within else "there is"
        raise LayoutError(f"{self.said()} has no {' or '.join(names)}; {place}: {listed or 'nothing'}")

    def open(self, name: str) -> Any:
        """A file of bytes to be read from start to end, or sought in. Raises: OSError."""
        # To open a pipe that nobody writes to would wait forever.
        if isinstance(self.fs, LocalFileSystem) and self.fs.info(self.at(name))["type"] == "other":
            raise OSError(errno.EINVAL, "not a regular file")
        return self.fs.open(self.at(name), "rb")

    def picture(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The file, or its bytes from start to end; b"" if it is not there, or is larger than any picture we read.

        Raises: OSError, if it can perhaps be read another time.
        """
        try:
            info = self.fs.info(self.at(name))
            # To open a pipe that nobody writes to would wait forever.
            if info["type"] != "file" or (info["size"] if end is None else end - (start or 0)) > MAX_BYTES:
                return b""
            data = bytes(self.fs.cat_file(self.at(name), start=start, end=end))
        except Exception as error:  # besides OSError whatever a file system's own library raises
            if self._lasting(error):
                return b""
            raise OSError(f"{self.said(name)} cannot be read: {_words(error)}") from error
        return data if end is None or len(data) == end - (start or 0) else b""

    def _lasting(self, error: Exception) -> bool:
        """Whether it will be the same the next time."""
        if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, *DAMAGED)):
            return True
        if not isinstance(self.fs, LocalFileSystem):
            return False
        # A ValueError is a name that no file can have.
        return isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno in _NOT_HERE)

    def text(self, name: str) -> str:
        """UTF-8, with or without a mark in front; other bytes become the replacement character.

        Raises: LayoutError, if it cannot be read.
        """
        try:
            with self.open(name) as file:
                return str(file.read(), "utf-8-sig", "replace")
        except Exception as error:  # as above
            why = (isinstance(error, OSError) and error.strerror) or _words(error)
            raise LayoutError(f"{self.said(name)} cannot be read: {why}") from error

    def lines(self, name: str) -> list[str]:
        """Without the empty ones and those that begin with #. Raises: LayoutError, if there are none."""
        lines = [line.strip() for line in self.text(name).splitlines()]
        kept = [line for line in lines if line and not line.startswith("#")]
        if not kept:
            raise LayoutError(f"{self.said(name)} is empty: download it again")
        return kept

    def json(self, name: str, keys: Set[str]) -> Any:
        """What is said under these keys, at any depth; the rest is dropped while reading, and may be most of the file.

        Raises: LayoutError, if it is no JSON.
        """
        text = self.text(name)
        try:
            return json.loads(text, object_hook=lambda each: {key: each[key] for key in each if key in keys})
        except (ValueError, RecursionError) as error:
            raise LayoutError(f"{self.said(name)} cannot be parsed as JSON: download it again ({error})") from error

    def table(self, name: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """(line, row) of a csv file with a header.

        Raises: LayoutError, if a column is missing, or in a row.
        """
        rows = csv.DictReader(io.StringIO(self.text(name), newline=""))
        try:
            if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
                raise LayoutError(
                    f"{self.said(name)} has no column {', '.join(missing)}: its first line should name "
                    f"{', '.join(columns)}"
                )
            for row in rows:
                if any(row[column] is None for column in columns):
                    raise LayoutError(f"{self.said(name)}, line {rows.line_num}: it ends early; download it again")
                yield rows.line_num, row
        except csv.Error as error:
            raise LayoutError(f"{self.said(name)} is no csv file: {error}") from error


def open_folder(src: str) -> AnyFolder:
    """A path, or a URL that fsspec knows.

    Raises: LayoutError, if there is no such folder.
    """
    try:
        fs, path = url_to_fs(src)
        if fs.isdir(path):
            return AnyFolder(fs, path)
        what = "is not a folder" if fs.exists(path) else "does not exist"
    except (OSError, ValueError, ImportError, RecursionError, *DAMAGED) as error:
        raise LayoutError(f"{printable(src)} cannot be opened: {' '.join(str(error).split())}") from error
    raise LayoutError(f"{printable(src)} {what}: --src is the folder in which the data set was unpacked")


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


def inside(path: str) -> bool:
    """Whether a path that a file gives stays in the folder that it is relative to."""
    return bool(path) and not path.startswith("/") and ".." not in path.split("/") and "\\" not in path
