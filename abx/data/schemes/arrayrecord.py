"""`arrayrecord:GLOB`, our own shards, as `abx data prepare` writes them."""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import Int

from abx.data.manifests import MANIFEST, Manifest, Size, manifest_beside, missing
from abx.data.patterns import shards
from abx.data.records import unpack
from abx.data.sources import BadRecord, Files, SpecError, printable
from abx.types import Record, Vocabulary

USAGE = "arrayrecord:GLOB"
SUFFIX = ".arrayrecord"

OPEN_SHARDS = 64
"""Shards that a source keeps open, far below the usual limit of 1024."""
READER = "readahead_buffer_size:0,max_parallelism:0"
"""Each record is read alone, in the thread that asks for it."""


def check(where: str) -> None:
    shards("arrayrecord", where, SUFFIX)


def index(where: str) -> "ArrayRecords":
    return ArrayRecords(shards("arrayrecord", where, SUFFIX))


class ArrayRecords(Files):
    """A `Source` of the records of some shards, in the order of the shards and of what they hold.

    Left out and listed in `problems`: shards that are no ArrayRecord, are cut off, empty or missing, or are not those
    that the manifest lists. A record that is not ours, or damaged, is a BadRecord; so are all of a shard that has
    changed since it was indexed.

    Classes and vocabulary are those of `manifest.json` beside the shards; records without one have no class. That there
    is none, and which shards it lists that are not read, `notes` tell.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Opens every shard, which reads its end.

        Raises: SpecError, if two folders number classes or a vocabulary differently.
        """
        found: list[tuple[str, Size]] = []
        problems: list[tuple[str, str]] = []
        paths = [*map(os.path.abspath, paths)]
        for path in paths:
            try:
                size = _Shard(path).size
            except OSError as error:
                problems.append((printable(path), f"cannot be read: {error.strerror or error}"))
                continue
            if size.records:
                found.append((path, size))
            else:
                problems.append((printable(path), "holds no records"))
        manifests, self.notes = _manifests([path for path, _ in found], paths)
        self.classes, self.vocabulary, self._classed = _names(manifests)
        whole = []
        for path, size in found:
            folder, file = os.path.split(path)
            listed = manifests[folder].size(file) if folder in manifests else None
            if listed in (None, size):
                whole.append((path, size))
            else:
                problems.append((printable(path), f"is not what {MANIFEST} lists: {_said(size)}, not {_said(listed)}"))
        self._paths = [path for path, _ in whole]
        self._ends = np.cumsum([size.records for _, size in whole], dtype=np.int64)
        self._sizes = [size for _, size in whole]
        self.problems = tuple(problems)
        self._open = _Shards()

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._paths else 0

    def stored(self, i: int) -> Record:
        k, j = self._place(i)
        _, record = self._read(k, j)
        if os.path.dirname(self._paths[k]) not in self._classed:
            return record._replace(label=-1)
        if record.label >= len(self.classes):
            raise BadRecord(f"its class is {record.label}, and there are {len(self.classes)}")
        return record

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str]:
        return (self._paths[k] for k in np.unique(np.searchsorted(self._ends, records, "right")))

    def name(self, i: int) -> str:
        """Shard and key; or the record's number in its shard, where it cannot be read."""
        k, j = self._place(i)
        try:
            key = self._read(k, j)[0]
        except BadRecord:
            key = f"#{j}"
        return printable(f"{self._paths[k]}:{key}")

    def _place(self, i: int) -> tuple[int, int]:
        """Number of a shard, and of the record in it."""
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        k = int(np.searchsorted(self._ends, i, side="right"))
        return k, int(i - (self._ends[k - 1] if k else 0))

    def _read(self, k: int, j: int) -> tuple[str, Record]:
        try:
            shard = self._open.open(self._paths[k])
            if shard.size != self._sizes[k]:
                raise OSError("it has changed")
            data = shard.read(j)
        except OSError as error:
            raise BadRecord(f"the shard can no longer be read: {error.strerror or error}") from error
        return unpack(data)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=_Shards())


class _Shard:
    """An open shard, read at any place by any thread; closed when the last one lets go of it."""

    def __init__(self, path: str) -> None:
        """Raises: OSError, also for what is no ArrayRecord."""
        status = os.stat(path)
        # To open a pipe that nobody writes to would wait forever.
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        # As bytes, since a name need not be UTF-8. A reader that cannot open says so only when it is asked.
        self._reader = ArrayRecordReader(os.fsencode(path), READER, file_reader_buffer_size=1 << 15)
        if not self._reader.ok():
            raise OSError(f"no ArrayRecord, or cut off ({status.st_size} bytes)")
        self.size = Size(int(self._reader.num_records()), status.st_size)
        # A few compressed bytes may unpack to more than there is memory, and nothing would tell before.
        self._foreign = "uncompressed" not in (self._reader.writer_options_string() or "")

    def read(self, j: int) -> bytes:
        """Raises: OSError; BadRecord, of a shard that we did not write."""
        if self._foreign:
            raise BadRecord("not a record of abx (abx data prepare writes them)")
        try:
            (data,) = self._reader.read([j])
        except RuntimeError as error:
            raise OSError(" ".join(str(error).split())[:120]) from error
        if not data:  # the reader's answer where the file ends before
            raise OSError("it ends before this record, or the record is empty")
        return data


class _Shards:
    """The shards last read, open. What is thrown out stays open for the threads that are reading it."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Shard] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str) -> _Shard:
        with self._lock:
            shard = self._open.pop(path, None) or _Shard(path)
            self._open[path] = shard
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
            return shard


def _said(size: Size) -> str:
    return f"{size.records} records in {size.bytes} bytes"


def _manifests(found: Sequence[str], tried: Sequence[str]) -> tuple[dict[str, Manifest], tuple[str, ...]]:
    """Of the folders of these shards, where there is one; and what a person should know of what is not there.

    Args:
        tried: shards that need not be noted as missing: if they are, `problems` lists them.
    """
    manifests, notes = dict[str, Manifest](), list[str]()
    for folder in dict.fromkeys(map(os.path.dirname, found)):
        try:
            manifests[folder] = manifest_beside(folder)
        except ValueError as wrong:
            notes.append(f"{printable(os.path.join(folder, MANIFEST))} {wrong}")
        names = {os.path.basename(path) for path in tried if os.path.dirname(path) == folder}
        notes += missing(folder, manifests.get(folder), names)
    return manifests, tuple(notes)


def _names(manifests: Mapping[str, Manifest]) -> tuple[tuple[str, ...], Vocabulary, frozenset[str]]:
    """Classes and vocabulary of all folders together, and the folders that have classes."""
    names: dict[str, tuple[str, tuple[str, ...]]] = {}
    for folder, (classes, vocabulary, *_) in manifests.items():
        for what, own in {"classes": classes, **vocabulary._asdict()}.items():
            first, known = names.setdefault(what, (folder, own)) if own else ("", own)
            if known != own:
                raise SpecError(
                    f"{printable(first)} and {printable(folder)} number their {what} differently ({MANIFEST}): "
                    "write them as a mixture, 0.5*arrayrecord:... + 0.5*arrayrecord:..."
                )
    found = {what: own for what, (_, own) in names.items()}
    classed = frozenset(folder for folder, manifest in manifests.items() if manifest.classes)
    return found.pop("classes", ()), Vocabulary(**found), classed
