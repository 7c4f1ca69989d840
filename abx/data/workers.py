"""A stream of batches, made ahead of the training by processes or threads."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import absl.flags
import grain

from abx.data.loader import Loaded
from abx.data.sources import BadRecord

Kind: TypeAlias = Literal["process", "thread"]


@contextmanager
def stream(ds: grain.MapDataset, start: int, workers: int, kind: Kind = "process") -> Iterator[Iterator[Loaded]]:
    """The batches of step `start`, `start` + 1, ...; made by so many processes or threads, or by one thread.

    A batch is made while the one before it is used: one waits and one is in the making, per worker. Processes hand
    batches over in shared memory; they are spawned, so the program needs an `if __name__ == "__main__"` guard. Threads
    start at once and share the source, but take turns wherever Python itself is at work.

    Args:
        workers: 0 = one thread.
    """
    if kind == "thread" or not workers:
        ahead = max(workers, 1)
        reading = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
        iterators = [iter(ds[start:].to_iter_dataset(reading))]
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


def _in_turn(iterators: Sequence[Iterator[Any]]) -> Generator[Loaded, None, None]:
    for iterator in itertools.cycle(iterators):
        try:
            yield next(iterator)
        except BadRecord as bad:
            # Grain adds lines of its own to the message.
            raise BadRecord(str(bad).partition("\n")[0]) from bad
