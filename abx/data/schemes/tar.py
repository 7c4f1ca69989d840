"""`tar:GLOB`, WebDataset shards: plain tars in which the members of a sample lie side by side under one key."""

import json
import os
import re
import stat
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from abx.data.images import MAX_BYTES
from abx.data.patterns import shards
from abx.data.sources import BadRecord, Files, Names, SpecError, printable
from abx.types import Objects, Record, Vocabulary

USAGE = "tar:GLOB"
SUFFIX = ".tar"

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"})
MAX_TEXT = 1 << 20
"""Bytes of captions that are read; the rest is cut off."""
MAX_JSON = 1 << 24
"""Longer annotations are cut off, and so left out."""
MAX_CLASSES = 1_000_000
OPEN_SHARDS = 64
"""Shards kept open per process, far below the usual limit of 1024."""

_PLACES = [(f"{part}_{value}", "i8") for part in ("image", "text", "json") for value in ("at", "size")]
_ROW = np.dtype([("shard", "i4"), ("label", "i4"), *_PLACES])
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def check(where: str) -> None:
    shards("tar", where, SUFFIX)


def index(where: str) -> "Tar":
    return Tar(shards("tar", where, SUFFIX))


class Tar(Files):
    """A `Source` of the samples of some shards, in the order of the shards and of their members. Nothing is unpacked.

    A key is a member's path up to the first dot of its base name; what follows is the extension. A sample is a run of
    members of one key, and a repeated extension begins another. Read are one picture (`IMAGES`, the first one if there
    are several), `.cls` (the class, a decimal number), `.txt` (captions, one a line) and, of `.json`, `boxes` and
    `labels` if they are sound (`_objects`). Case does not matter. Where none is named so, what ends so is taken:
    `x.left.jpg` is the picture of x, unless there is an `x.jpg`.

    Left out and listed in `problems`: shards that are no tar or end early (from there on), keys without a picture,
    members with an absolute path or `..`; a `.cls` that is no number leaves the sample without a class, and unsound
    boxes leave it without objects. Hidden members, links, devices and sparse files are passed over.

    Classes are named by `classes.txt` beside the shards (a line each: number, tab, name), else by their numbers.
    """

    vocabulary = Vocabulary()

    def __init__(self, paths: Sequence[str]) -> None:
        """Reads every header, every `.cls` and every `.json`.

        Raises: SpecError, if a shard is compressed or two folders name the classes differently.
        """
        self._paths = [os.path.abspath(path) for path in paths]
        rows: list[tuple[int, ...]] = []
        keys: list[bytes] = []
        problems: list[tuple[str, str]] = []
        for shard, path in enumerate(self._paths):
            for found in _index(path):
                if isinstance(found, _Problem):
                    problems.append((printable(path + (f":{found.key}" if found.key else "")), found.reason))
                else:
                    rows.append((shard, found.label, *found.image, *found.text, *found.json))
                    keys.append(os.fsencode(found.key))
        self._rows = np.array(rows, _ROW)
        self._keys = Names(keys)
        self.problems = tuple(problems)
        self.classes = _classes(self._paths, int(self._rows["label"].max(initial=-1)))
        self._files = _Files()

    def __len__(self) -> int:
        return len(self._rows)

    def stored(self, i: int) -> Record:
        if not 0 <= i < len(self._rows):
            raise IndexError(f"record {i} of {len(self._rows)}")
        shard, label, image_at, image_size, text_at, text_size, json_at, json_size = self._rows[i].tolist()
        if image_size > MAX_BYTES:
            raise BadRecord(f"{image_size} bytes, more than any picture we read has")
        try:
            file = self._files.open(self._paths[shard])
            image = file.read(image_at, image_size)
            captions = _captions(file.read(text_at, min(text_size, MAX_TEXT)))
            objects = _objects(file.read(json_at, json_size)) if json_size else None
        except OSError as error:
            raise BadRecord(f"the shard can no longer be read: {error.strerror or error}") from error
        except _BadObjects as bad:
            raise BadRecord(str(bad)) from bad
        return Record(image, label, captions, objects)

    def name(self, i: int) -> str:
        key = os.fsdecode(self._keys[i])
        return printable(f"{self._paths[int(self._rows['shard'][i])]}:{key}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _files=_Files())


class _File:
    """An open shard, read at any place by any thread; closed when the last one lets go of it."""

    def __init__(self, path: str) -> None:
        # O_NONBLOCK: to open a pipe that nobody writes to would wait forever.
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
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

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class _Files:
    """The shards last read, open. What is thrown out stays open for the threads that are reading it."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str) -> _File:
        with self._lock:
            file = self._open.pop(path, None) or _File(path)
            self._open[path] = file
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
            return file


class _Problem(NamedTuple):
    key: str
    """Sample or member; empty for the shard itself."""
    reason: str


class _Found(NamedTuple):
    """A sample's place in its shard; (0, 0) for a part that it lacks."""

    key: str
    label: int
    image: tuple[int, int]
    text: tuple[int, int]
    json: tuple[int, int]


def _index(path: str) -> Iterator[_Found | _Problem]:
    """The samples of one shard, and what is wrong with the rest of it."""
    try:
        file = _File(path)
        start = os.pread(file.fd, 6, 0)
        for magic, name in _COMPRESSED.items():
            if start.startswith(magic):
                raise SpecError(f"{printable(path)} is compressed ({name}): unpack it, it is read at random places")
        key, parts = "", dict[str, tuple[int, int]]()
        for member in _members(file):
            if isinstance(member, _Problem):
                yield member
                continue
            member_key, extension, at, size = member
            if member_key != key or extension in parts:
                yield from _sample(file, key, parts)
                key, parts = member_key, {}
            parts[extension] = (at, size)
        yield from _sample(file, key, parts)
    except OSError as error:
        yield _Problem("", f"cannot be read: {error.strerror or error}")


def _members(file: _File) -> Iterator[tuple[str, str, int, int] | _Problem]:
    """Key, extension in lower case, place and size of every member that may belong to a sample."""
    length = os.fstat(file.fd).st_size
    try:
        # Not the locale's encoding: the same shard has the same keys everywhere.
        with (
            open(file.fd, "rb", closefd=False) as whole,
            tarfile.open(fileobj=whole, mode="r:", encoding="utf-8", errors="surrogateescape") as tar,
        ):
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
                if not member.isreg() or member.issparse():
                    continue
                parts = member.name.split("/")
                if member.name.startswith("/") or ".." in parts:
                    yield _Problem(member.name, "refused: the path leads out of the shard")
                    continue
                stem, dot, extension = parts[-1].partition(".")
                if not stem or not dot:
                    continue
                if member.offset_data + member.size > length:
                    yield _Problem(member.name, "cut off: the shard ends inside it")
                    return
                folders = [part for part in parts[:-1] if part not in ("", ".")]
                yield "/".join([*folders, stem]), extension.lower(), member.offset_data, member.size
            end = tar.offset
    except Exception as error:  # a damaged header may raise nearly anything inside tarfile
        yield _Problem("", f"not a readable tar: {' '.join(str(error).split()) or type(error).__name__}")
        return
    # tarfile takes a damaged header for the end.
    block = os.pread(file.fd, tarfile.BLOCKSIZE, end)
    if any(block):
        yield _Problem("", f"damaged from byte {end} on, the rest of its {length} bytes is left out")
    elif not block:
        yield _Problem("", "has no end mark, so it may have been cut off")


def _sample(file: _File, key: str, parts: dict[str, tuple[int, int]]) -> Iterator[_Found | _Problem]:
    if not parts:
        return
    image, json_at = _part(parts, IMAGES), _part(parts, {"json"})
    if not image:
        yield _Problem(key, f"no picture among its parts ({', '.join(parts)})")
        return
    label = -1
    if place := _part(parts, {"cls"}):
        text = file.read(place[0], min(place[1], 64)).strip()
        if re.fullmatch(rb"\d{1,9}", text) and int(text) < MAX_CLASSES:
            label = int(text)
        elif text != b"-1":
            yield _Problem(key, f"its class is no number from 0 to {MAX_CLASSES - 1}: {text[:20]!r}")
    if json_at:
        try:
            # Metadata that says nothing of boxes need not be read again.
            json_at = json_at if _objects(file.read(json_at[0], min(json_at[1], MAX_JSON))) else None
        except _BadObjects as bad:
            yield _Problem(key, str(bad))
            json_at = None
    yield _Found(key, label, image, _part(parts, {"txt"}) or (0, 0), json_at or (0, 0))


def _part(parts: dict[str, tuple[int, int]], extensions: Set[str]) -> tuple[int, int] | None:
    """The first part that is named so, else the first whose name ends so."""
    named = [place for extension, place in parts.items() if extension in extensions]
    ending = [place for extension, place in parts.items() if extension.rpartition(".")[2] in extensions]
    return next(iter(named + ending), None)


def _captions(text: bytes) -> tuple[str, ...]:
    """One a line, blank lines left out; bytes that are no UTF-8 become the replacement character."""
    lines = text.decode("utf-8", "replace").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


class _BadObjects(ValueError):
    """The `.json` of a sample cannot be used; the message is the reason."""


def _objects(text: bytes) -> Objects | None:
    """`boxes` [[y0, x0, y1, x1], ...] in [0, 1] and as many `labels`, integers; None where nothing is said of boxes.

    A box that sticks out is clipped. Coordinates more than a picture's side outside are pixels or mistakes.

    Raises: _BadObjects, unless every box has an area inside the picture and every label is a number.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _BadObjects("its .json cannot be parsed") from error
    if not isinstance(record, dict) or "boxes" not in record:
        return None
    boxes, labels = record["boxes"], record.get("labels")
    try:
        array = np.array(boxes, np.float64) if boxes else np.zeros((0, 4))
    except (ValueError, TypeError, OverflowError) as error:
        raise _BadObjects("its boxes are no lists of four numbers") from error
    if not isinstance(boxes, list) or array.shape != (len(boxes), 4):
        raise _BadObjects("its boxes are no lists of four numbers")
    if not np.all((array >= -1) & (array <= 2)):  # also for NaN
        raise _BadObjects("its boxes are not in [0, 1] of the picture")
    inside = array.clip(0, 1).astype(np.float32)
    if not np.all(inside[:, :2] < inside[:, 2:]):
        raise _BadObjects("one of its boxes has no area inside the picture")
    if not isinstance(labels, list) or any(type(label) is not int or not 0 <= label < 2**31 for label in labels):
        raise _BadObjects("the labels of its boxes are no numbers")
    if len(labels) != len(inside):
        raise _BadObjects(f"it has {len(inside)} boxes and {len(labels)} labels")
    return Objects(inside, np.array(labels, np.int64))


def _classes(paths: Sequence[str], last: int) -> tuple[str, ...]:
    """Names of the classes 0 to `last` at least; () when no sample has a class."""
    if last < 0:
        return ()
    tables: dict[str, dict[int, str]] = {}
    for folder in dict.fromkeys(map(os.path.dirname, paths)):
        try:
            with open(os.path.join(folder, "classes.txt"), encoding="utf-8", errors="replace") as file:
                lines = [line.strip().split("\t") for line in file.read(MAX_JSON).splitlines()]
        except OSError:
            continue
        # An identifier may come before the name, WordNet's for ImageNet.
        tables[folder] = {
            int(number): printable(
                " ".join(names[1:] if len(names) > 1 and re.fullmatch(r"n\d{8}", names[0]) else names)
            )
            for number, *names in lines
            if re.fullmatch(r"[0-9]{1,9}", number) and int(number) < MAX_CLASSES and names
        }
    for folder, table in tables.items():
        first = next(iter(tables))
        if table != tables[first]:
            raise SpecError(
                f"{printable(first)} and {printable(folder)} number their classes differently (classes.txt): "
                "use one of them, or make their classes.txt the same"
            )
    table = next(iter(tables.values()), {})
    return tuple(table.get(i, str(i)) for i in range(max([last, *table]) + 1))
