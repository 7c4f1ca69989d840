"""`parquet:GLOB`, parquet files with a picture in every row, as Hugging Face lays them out."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from abx.data.images import MAX_BYTES
from abx.data.parquet.arrow import pyarrow
from abx.data.parquet.columns import Columns
from abx.data.parquet.footers import Footer, read_footers
from abx.data.parquet.groups import MAX_GROUP, Group, read_group
from abx.data.patterns import shards
from abx.data.sources import BadRecord, Files, SpecError, printable
from abx.data.webdataset.annotations import MAX_CLASSES, MAX_TEXT
from abx.types import Record, Vocabulary

USAGE = "parquet:GLOB"
SUFFIX = ".parquet"

LARGE_GROUP = 64 << 20
"""Bytes of pictures in a row group, above which reading in random order is not worth it."""


def check(where: str) -> None:
    pattern, _ = columns_asked(where)
    shards("parquet", pattern, SUFFIX)


def index(where: str) -> "Parquet":
    pattern, asked = columns_asked(where)
    return Parquet(shards("parquet", pattern, SUFFIX), asked)


def columns_asked(where: str) -> tuple[str, Columns]:
    """The pattern, and the columns named behind it: `data/*.parquet,image=img,caption=text,label=fine_label`.

    Raises: SpecError.
    """
    pattern, asked = where, dict[str, str]()
    # A file may have commas in its own name.
    while not os.path.lexists(os.path.expanduser(pattern)) and (
        option := re.fullmatch(r"(.*),\s*(\w+)=([^,{}/]*)", pattern, re.DOTALL)
    ):
        pattern, key, column = option[1], option[2], option[3].strip()
        if key not in Columns._fields or key in asked or not column:
            wrong = "is given twice" if key in asked else "names no column" if not column else "is no option"
            raise SpecError(
                f"parquet:{printable(where)}: {key} {wrong}; options are image=COLUMN, caption=COLUMN and label=COLUMN"
            )
        asked[key] = column
    return pattern, Columns(**asked)


class Parquet(Files):
    """A `Source` of the rows of some files, in the order of the files.

    A picture is a column of bytes, or a struct with a field `bytes`; captions are a string or a list of strings; a
    class is a whole number. Classes are named by Hugging Face's description in the file, else by their numbers. A
    class without a name is none. Which columns are read is asked for or found (`columns.choose`) in the first file.

    The unit of reading is the row group, 100 to 1000 rows: a record read at random costs the reading of all pictures
    of its row group (10 MB take 4 ms, 100 MB 35 ms), unless it is among the last ones, of which 256 MiB are kept per
    process (`read_group`). Passes in order are cheap. Shuffled training wants `abx data prepare` first; `notes` says so
    where files have row groups above `LARGE_GROUP`.

    Left out and listed in `problems`: files that are no parquet, cannot be read or lack one of the columns, and row
    groups of more than `MAX_GROUP` bytes.
    """

    vocabulary = Vocabulary()

    def __init__(self, paths: Sequence[str], asked: Columns) -> None:
        """Reads the footer and the classes of every file.

        Raises: SpecError, if pyarrow is missing, `asked` does not fit the first file that can be read, or two files
        name the classes differently.
        """
        pyarrow()
        found = read_footers([os.path.abspath(path) for path in paths], asked)
        self._paths, self._columns, self._leaves = list(found.footers), found.columns, found.leaves
        self._stamps = [footer.stamp for footer in found.footers.values()]
        last = max((each.largest for each in found.footers.values() if each.largest < MAX_CLASSES), default=-1)
        self.classes = found.class_names or tuple(map(str, range(last + 1)))
        refused = [(printable(path), why) for path, each in found.footers.items() if (why := _refused(each))]
        self.problems = (*found.problems, *refused)
        self.notes = tuple(self._notes(found.footers.values()))
        groups = list[tuple[int, int, int, int]]()
        for file, footer in enumerate(found.footers.values()):
            firsts = np.cumsum([0, *footer.rows]).tolist()
            sizes = enumerate(footer.sizes)
            groups.extend((file, k, firsts[k], footer.rows[k]) for k, size in sizes if size <= MAX_GROUP)
        self._groups = np.array(groups, np.int64).reshape(-1, 4)
        self._starts = np.cumsum([0, *self._groups[:, 3]], dtype=np.int64)

    def _notes(self, footers: Collection[Footer]) -> Iterator[str]:
        largest = [max((size for size in each.sizes if size <= MAX_GROUP), default=0) for each in footers]
        if slow := [size for size in largest if size > LARGE_GROUP]:
            yield (
                f"slow to read in random order, {len(slow):,} of {len(largest):,} files have row groups of up to "
                f"{max(slow) >> 20} MiB: make shards of them, abx data prepare any --src parquet:... --out ..."
            )
        last = max((each.largest for each in footers), default=-1)
        if last >= len(self.classes):
            column = printable(self._columns.label)
            yield f"the column {column} goes up to {last}: rows of class {len(self.classes)} and above are without one"

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stored(self, i: int) -> Record:
        file, group, row, _ = self._find(i)
        table = read_group(Group(self._paths[file], self._stamps[file], group, self._leaves))
        if row >= table.num_rows:
            raise BadRecord("its row group has fewer rows than the file states")
        image, caption, label = (table.column(name)[row] if name else None for name in self._columns)
        number = -1 if label is None or not label.is_valid else label.as_py()
        return Record(_picture(image), number if 0 <= number < len(self.classes) else -1, _captions(caption))

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str]:
        groups = np.unique(np.searchsorted(self._starts, records, "right") - 1)
        return (self._paths[file] for file in np.unique(self._groups[groups, 0]))

    def name(self, i: int) -> str:
        file, _, _, row = self._find(i)
        return printable(f"{self._paths[file]}:{row}")

    def _find(self, i: int) -> tuple[int, int, int, int]:
        """Number of the file, row group, row in it, and row in the file. Raises: IndexError."""
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        at = int(np.searchsorted(self._starts, i, "right")) - 1
        file, group, first, _ = self._groups[at].tolist()
        row = i - int(self._starts[at])
        return file, group, row, first + row


def _refused(footer: Footer) -> str:
    """What is left out of a file, "" for nothing."""
    refused = [size for size in footer.sizes if size > MAX_GROUP]
    if not refused:
        return ""
    return (
        f"{len(refused)} of its row groups are left out, of up to {max(refused) >> 20} MiB: write it with smaller ones"
    )


def _picture(scalar: Any) -> bytes:
    """Raises: BadRecord."""
    path = None
    if pyarrow().types.is_struct(scalar.type) and scalar.is_valid:
        path = scalar["path"].as_py() if "path" in scalar else None
        scalar = scalar["bytes"]
    if not scalar.is_valid:
        raise BadRecord("has the path of a picture, and not its bytes" if path else "has no picture")
    size = scalar.as_buffer().size
    if size > MAX_BYTES:
        raise BadRecord(f"{size} bytes, more than any picture we read has")
    return bytes(scalar.as_py())


def _captions(scalar: Any) -> tuple[str, ...]:
    """Those that are not blank; bytes that are no UTF-8 become the replacement character."""
    if scalar is None or not scalar.is_valid:
        return ()
    several = list(scalar.values) if hasattr(scalar, "values") else [scalar]
    texts = (each.as_buffer()[:MAX_TEXT].to_pybytes().decode("utf-8", "replace") for each in several if each.is_valid)
    return tuple(text.strip() for text in texts if text.strip())
