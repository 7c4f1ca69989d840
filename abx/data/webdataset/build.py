"""Index many shards ahead of a run, in several processes."""

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from abx.data.webdataset.index import kept, make
from abx.data.webdataset.shard import Compressed


class Built(NamedTuple):
    """Of one shard or of many."""

    shards: int = 0
    made: int = 0
    """Shards whose index was not there, or was out of date."""
    unkept: int = 0
    """Shards whose index could not be written anywhere: they are indexed again each time."""
    unreadable: int = 0
    """Shards that cannot be read, or are compressed."""
    samples: int = 0
    problems: int = 0


def build(paths: Sequence[str], workers: int, progress: Callable[[Built], None]) -> Built:
    """Index what has no index yet.

    Args:
        workers: processes; 1 is this one. A shard costs about 10 µs a member, all of it Python.
        progress: told the sums so far after every shard.
    """
    if workers <= 1 or len(paths) <= 1:
        return _sum(map(_build, paths), progress)
    with ProcessPoolExecutor(min(workers, len(paths)), multiprocessing.get_context("spawn")) as pool:
        try:
            return _sum(pool.map(_build, paths, chunksize=4), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _build(path: str) -> Built:
    try:
        index, made, saved = kept(path), False, True
        if index is None:
            (index, saved), made = make(path), True
    except (OSError, Compressed):
        return Built(shards=1, unreadable=1, problems=1)
    return Built(1, int(made), int(not saved), 0, len(index.shard.rows), len(index.shard.problems))


def _sum(each: Iterable[Built], progress: Callable[[Built], None]) -> Built:
    total = Built()
    for built in each:
        total = Built(*map(sum, zip(total, built, strict=True)))
        progress(total)
    return total
