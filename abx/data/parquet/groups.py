"""Row groups, the least that can be read of a parquet file: read whole, and the last few kept."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from abx.data.parquet.arrow import open_parquet, pyarrow, reason
from abx.data.sources import BadRecord

KEPT = 1 << 28
"""Bytes of row groups that are kept per process; the last one read is kept whatever its size."""
MAX_GROUP = 1 << 31
"""Bytes that a row group may unpack to. A file of a few hundred bytes can unpack to any number."""
_ROWS = 16
"""Rows unpacked at a time, so that `MAX_GROUP` is noticed in time; more at a time are no faster."""


class _Group(NamedTuple):
    table: Any
    """A `pyarrow.Table`; or, as a string, why there is none."""
    size: int
    """Bytes."""


class Groups:
    """Read by one thread at a time, however many ask: several large row groups at once would not fit the memory."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._kept: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str, group: int) -> Any:
        """The `pyarrow.Table` of a row group.

        Raises: BadRecord, if it cannot be read; again each time, but without trying again while that is remembered.
        """
        with self._lock:
            read = self._kept.pop((path, group), None) or self._read(path, group)
            self._kept[path, group] = read
            while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)
        if isinstance(read.table, str):
            raise BadRecord(read.table)
        return read.table

    def _read(self, path: str, group: int) -> _Group:
        batches, total = [], 0
        try:
            with open_parquet(path) as file:
                for batch in file.iter_batches(_ROWS, [group], self._columns, use_threads=False):
                    total += batch.nbytes
                    if total > MAX_GROUP:
                        return _Group(f"its row group unpacks to more than {MAX_GROUP >> 20} MiB", 0)
                    batches.append(batch)
            return _Group(pyarrow().Table.from_batches(batches), total)
        except Exception as error:  # damaged pages may raise nearly anything inside pyarrow
            return _Group(f"its row group cannot be read: {reason(error)}", 0)
