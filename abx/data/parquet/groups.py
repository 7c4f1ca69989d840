"""Row groups, the least that can be read of a parquet file: read whole, and the last few kept."""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

from abx.data.parquet.arrow import Stamp, open_parquet, pyarrow, reason, stamp_of
from abx.data.sources import BadRecord

KEPT = 1 << 28
"""Bytes of row groups that are kept per process, however many sources there are; the last one read is kept whatever
its size."""
MAX_GROUP = 1 << 31
"""Bytes that a row group may unpack to. A file of a few hundred bytes can unpack to any number."""
_ROWS = 16
"""Rows unpacked at a time, so that `MAX_GROUP` is noticed in time; more at a time are no faster."""


class Group(NamedTuple):
    """Which row group, of which state of its file, and which columns of it."""

    path: str
    stamp: Stamp
    number: int
    leaves: tuple[str, ...]


class _Read(NamedTuple):
    table: Any
    """A `pyarrow.Table`; or, as a string, why there is none."""
    size: int = 0
    """Bytes."""


_kept: OrderedDict[Group, _Read] = OrderedDict()
_lock = threading.Lock()


def read_group(group: Group) -> Any:
    """The `pyarrow.Table` of a row group.

    Read by one thread at a time, however many ask: several large row groups at once would not fit the memory.

    Raises: BadRecord, if it cannot be read; again each time, but without trying again while that is remembered.
    """
    with _lock:
        read = _kept.pop(group, None) or _read(group)
        _kept[group] = read
        while len(_kept) > 1 and sum(kept.size for kept in _kept.values()) > KEPT:
            _kept.popitem(last=False)
    if isinstance(read.table, str):
        raise BadRecord(read.table)
    return read.table


def _read(group: Group) -> _Read:
    batches, total = [], 0
    try:
        if stamp_of(group.path) != group.stamp:
            return _Read("the file has changed since it was opened")
        with open_parquet(group.path) as file:
            for batch in file.iter_batches(_ROWS, [group.number], [*group.leaves], use_threads=False):
                total += batch.nbytes
                if total > MAX_GROUP:
                    return _Read(f"its row group unpacks to more than {MAX_GROUP >> 20} MiB")
                batches.append(batch)
        return _Read(pyarrow().Table.from_batches(batches), total)
    except Exception as error:  # damaged pages may raise nearly anything inside pyarrow
        return _Read(f"its row group cannot be read: {reason(error)}")
