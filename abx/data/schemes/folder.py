"""`folder:PATH`, a folder of picture files, and of folders of them."""

import os
import stat
from collections import deque
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from abx.data.images import MAX_BYTES, looks_like_picture
from abx.data.patterns import nearest
from abx.data.sources import BadRecord, Files, Names, SpecError, printable
from abx.types import Record, Vocabulary

USAGE = "folder:PATH"
SUFFIX = ""

SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm"
    b" .avif .heic .heif .jp2 .j2k .jxl .svg .psd .ico .tga .raw .cr2 .nef .arw .dng".split()
)
"""What is taken for a picture by its name, in lower case. `decode` refuses some: counted, rather than passed over."""


def check(where: str) -> None:
    path = os.path.expanduser(where)
    if os.path.isfile(path):
        hint = f"write tar:{printable(where)}" if path.endswith(".tar") else "name the folder that holds it"
        raise SpecError(f"folder:{printable(where)} is a file, not a folder: {hint}")
    if not os.path.isdir(path):
        raise SpecError(f"folder:{printable(where)} does not exist: {nearest(path)}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise SpecError(f"folder:{printable(where)} may not be read: change its permissions")


def index(where: str) -> "Folder":
    check(where)
    return Folder(os.path.expanduser(where))


class Folder(Files):
    """A `Source` of all pictures under a folder, sorted by the bytes of their relative paths.

    - A picture is a file with one of `SUFFIXES`, in any case, or without any suffix and with the first bytes of one.
    - What is hidden (a leading dot, so macOS's `._` files too) is left out, with all that is under it.
    - Symbolic links are followed. A folder is read once, however many links lead to it; its real place comes first.
    - Left out and listed in `problems`: broken links, what is no regular file (pipes, folders named x.jpg), folders
      that may not be read or are links to one already read.
    - If every picture lies exactly one folder down, in two folders or more, the folder is its class. If only most of
      them do, or there is one folder only, there are no classes, and `notes` says why.
    """

    vocabulary = Vocabulary()

    def __init__(self, path: str) -> None:
        """Raises: OSError, if the folder cannot be listed."""
        self.root = os.path.abspath(path)
        found, problems = _walk(os.fsencode(self.root))
        found.sort()
        self._names = Names(found)
        parents = [name.split(b"/") for name in found]
        names = sorted({parts[0] for parts in parents if len(parts) == 2})
        self.classes: tuple[str, ...] = ()
        self._labels = None
        elsewhere = [name for name, parts in zip(found, parents, strict=True) if len(parts) != 2]
        if len(names) >= 2 and not elsewhere:
            index = {name: i for i, name in enumerate(names)}
            self.classes = tuple(printable(os.fsdecode(name)) for name in names)
            self._labels = np.array([index[parts[0]] for parts in parents], np.int32)
        elif len(names) >= 2 and 2 * len(elsewhere) < len(found):
            stray = self._printable(elsewhere[0])
            reason = f"{len(elsewhere):,} of {len(found):,} pictures do not lie exactly one folder down, e.g. {stray}"
            self.notes = (f"folders are no classes: {reason}",)
        elif len(names) == 1 and not elsewhere:
            one = printable(os.fsdecode(names[0]))
            self.notes = (f"folders are no classes: there is one alone, {one}, and a class needs another",)
        self.problems = tuple((self._printable(name), reason) for name, reason in sorted(problems))

    def __len__(self) -> int:
        return len(self._names)

    def stored(self, i: int) -> Record:
        path = os.path.join(os.fsencode(self.root), self._names[i])
        try:
            return Record(_read(path), -1 if self._labels is None else int(self._labels[i]))
        except OSError as error:
            raise BadRecord(f"cannot be read: {error.strerror or error}") from error

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[bytes]:
        return (os.path.join(os.fsencode(self.root), self._names[i]) for i in records.tolist())

    def name(self, i: int) -> str:
        return self._printable(self._names[i])

    def _printable(self, name: bytes) -> str:
        return printable(os.path.join(self.root, os.fsdecode(name)) if name else self.root)


def _read(path: bytes) -> bytes:
    """The bytes of a regular file; it may have become something else since it was listed."""
    # O_NONBLOCK: to open a pipe that nobody writes to would wait forever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord("not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadRecord(f"{status.st_size} bytes, more than any picture we read has")
        return file.read()


def _walk(root: bytes) -> tuple[list[bytes], list[tuple[bytes, str]]]:
    """Relative paths of the pictures under a folder, and (relative path, reason) of what was left out."""
    found: list[bytes] = []
    problems: list[tuple[bytes, str]] = []
    visited: set[tuple[int, int]] = set()
    waiting = deque([b""])
    links: deque[bytes] = deque()
    # Links wait until all real folders are read, so that what a folder is called does not depend on where links lie.
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in visited:
                problems.append((folder, "a link to a folder that is read already"))
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(b".")), key=lambda e: e.name)
        except OSError as error:
            if not folder:
                raise
            problems.append((folder, f"cannot be listed: {error.strerror or error}"))
            continue
        for entry in listed:
            name = os.path.join(folder, entry.name)
            named_picture = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            try:
                if entry.is_dir() and not named_picture:
                    (links if entry.is_symlink() else waiting).append(name)
                elif entry.is_file():
                    if named_picture or (b"." not in entry.name and _sniff(entry.path)):
                        found.append(name)
                elif entry.is_dir():
                    problems.append((name, "a folder, though its name is that of a picture"))
                elif named_picture or entry.is_symlink():
                    broken = entry.is_symlink() and not os.path.exists(entry.path)
                    problems.append((name, "a broken link" if broken else "not a regular file"))
            except OSError as error:  # a loop of links, or a file that went away or may not be opened
                problems.append((name, f"cannot be read: {error.strerror or error}"))
    return found, problems


def _sniff(path: bytes) -> bool:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return looks_like_picture(file.read(16))
