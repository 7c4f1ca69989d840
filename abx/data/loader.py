"""Batches as a pure function of (seed, step): random access to the last line, made a stream only at the end.

`ds[s]` is the batch of step s, whoever asks. To resume is to start the stream at step s; Grain's iterator state, which
depends on the number of workers, is never saved.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import absl.flags
import grain
import numpy as np
from jaxtyping import Int, UInt8

from abx.data.images import center_crop
from abx.data.sources import BadRecord, Source
from abx.data.views import RandomCrops
from abx.types import ABBatch, Sample, Views

TRIES = 32
"""Records tried for one place in a batch before the data is given up as unusable."""


class Loaded(NamedTuple):
    """A batch, and for each stream in it what the host wants to know of where it came from."""

    batch: Any
    records: dict[str, Int[np.ndarray, " b"]]
    """The record that each row was cut from."""
    rejected: dict[str, Int[np.ndarray, " r"]]
    """Records that could not be used. Each was replaced by another, drawn by (seed, step) like everything else."""


def batches(source: Source, crops: RandomCrops, batch: int, seed: int, name: str = "train") -> grain.MapDataset:
    """Endless batches of views: every epoch a new order and new crops, batches run on across epochs.

    Args:
        name: the stream's name, the key of `Loaded.records` and `Loaded.rejected`.

    Returns: a dataset of `Loaded` whose batch is `Views` "batch n size size 3".
    """
    records = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    return records.random_map(_Cut(source, crops)).batch(batch, drop_remainder=True, batch_fn=_Stack(name))


def ab_batches(reward: grain.MapDataset, value: grain.MapDataset) -> grain.MapDataset:
    """Two streams side by side, each with its own data, crops, batch size and order (METHODS A-19)."""
    length = min(len(reward), len(value))
    pairs = grain.experimental.ZipMapDataset([reward[:length], value[:length]])
    return pairs.map(_side_by_side)


def _side_by_side(pair: tuple[Loaded, Loaded]) -> Loaded:
    reward, value = pair
    return Loaded(ABBatch(reward.batch, value.batch), reward.records | value.records, reward.rejected | value.rejected)


@contextmanager
def stream(ds: grain.MapDataset, start: int, workers: int) -> Iterator[Iterator[Loaded]]:
    """The batches of step `start`, `start` + 1, ...; made by so many processes, or by one thread of this one.

    A batch is made while the one before it is used: one waits and one is in the making, per worker. Processes are
    spawned, so the program needs an `if __name__ == "__main__"` guard.
    """
    if not workers:
        one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        iterators = [iter(ds[start:].to_iter_dataset(one_ahead))]
    else:
        from grain._src.python.dataset.transformations.process_prefetch import ProcessPrefetchIterDataset

        # The tracker of shared memory tidies up the batches that nobody read and warns of them, which helps nobody.
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
        # Grain looks its debug switches up among absl's flags, which nobody parses here.
        absl.flags.FLAGS.mark_as_parsed()
        # Not `mp_prefetch`: it reads every process through a thread with a buffer of its own, and then four batches a
        # process are in memory, of a gigabyte each in the paper's sizes. Worker w makes steps start + w, + workers, ...
        here = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        shares = [ds[start + w :: workers].to_iter_dataset(here) for w in range(workers)]
        iterators = [iter(ProcessPrefetchIterDataset(share, 1, worker_init_fn=_serve)) for share in shares]
    made = _in_turn(iterators)
    try:
        for iterator in iterators:
            iterator.start_prefetch()
        yield made
    finally:
        made.close()
        for iterator in iterators:
            iterator.close()


def _serve() -> None:
    """In a worker: signals are for the training process, which says when to end; without it there is no point."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _in_turn(iterators: Sequence[Iterator[Loaded]]) -> Generator[Loaded, None, None]:
    for iterator in itertools.cycle(iterators):
        try:
            yield next(iterator)
        except BadRecord as bad:
            # Grain adds lines of its own to the message.
            raise BadRecord(str(bad).partition("\n")[0]) from bad


def central(
    source: Source, count: int, size: int, *, labelled: bool, seed: int = 0
) -> tuple[UInt8[np.ndarray, "m size size 3"], Int[np.ndarray, " m"]]:
    """Central crops of up to `count` pictures and their classes (-1 = none): a fixed random choice.

    Unreadable pictures are passed over, and with `labelled` those without a class.
    """
    images: list[UInt8[np.ndarray, "size size 3"]] = []
    labels: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(source)):
        if len(images) == count or (labelled and not source.classes):
            break
        try:
            sample = source[int(i)]
        except BadRecord:
            continue
        if sample.label >= 0 or not labelled:
            images.append(center_crop(sample.image, size))
            labels.append(sample.label)
    if not images:
        return np.zeros((0, size, size, 3), np.uint8), np.zeros(0, np.int64)
    return np.stack(images), np.array(labels, np.int64)


class _Cut(grain.transforms.RandomMap):
    """Record number to its crops; a record that cannot be used gives way to another."""

    def __init__(self, source: Source, crops: RandomCrops):
        self.source, self.crops = source, crops

    def random_map(self, index: int, rng: np.random.Generator) -> tuple[Views, int, list[int]]:
        sample, index, rejected = read(self.source, int(index), rng)
        return self.crops(sample.image, rng), index, rejected


@dataclass(frozen=True)
class _Stack:
    """Rows of one stream to a batch. A class and not a closure, so that workers get it by its name."""

    name: str

    def __call__(self, rows: Sequence[tuple[Views, int, list[int]]]) -> Loaded:
        views = Views(*(np.stack(part) for part in zip(*(row[0] for row in rows), strict=True)))
        rejected = np.array([i for row in rows for i in row[2]], np.int64)
        return Loaded(views, {self.name: np.array([row[1] for row in rows], np.int64)}, {self.name: rejected})


def read(source: Source, index: int, rng: np.random.Generator) -> tuple[Sample, int, list[int]]:
    """A usable record: this one, or else one drawn in its place; its number, and the numbers of those refused."""
    rejected: list[int] = []
    while True:
        try:
            return source[index], index, rejected
        except BadRecord as bad:
            rejected.append(index)
            if len(rejected) == TRIES:
                name = source.name(index)
                raise BadRecord(f"{TRIES} records in a row could not be read; the last, {name}: {bad}") from bad
            index = int(rng.integers(len(source)))
