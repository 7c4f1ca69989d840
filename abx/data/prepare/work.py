"""Shards are written one after the other in this process, or several at once in others."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeAlias

from abx.data.prepare.shard import Done, Failed, Job, PrepareError, Stopped, write_shard

Progress: TypeAlias = Callable[[int, int], None]
"""Called before the work starts, and now and then, with the numbers of pictures and of shards that are done."""


def in_this_process(jobs: Sequence[Job], progress: Progress) -> list[Done | Failed]:
    """Raises: PrepareError."""
    done: list[Done | Failed] = []
    pictures = 0

    def tick(count: int) -> None:
        nonlocal pictures
        pictures += count
        progress(pictures, len(done))

    for job in jobs:
        done.append(write_shard(job, tick))
        progress(pictures, len(done))
    return done


def in_others(jobs: Sequence[Job], workers: int, progress: Progress) -> list[Done | Failed]:
    """What became of each job, in their order. Whatever ends this ends the workers; shards that are whole stay.

    Raises: PrepareError.
    """
    # Not forked: threads of this process, JAX's for one, may hold locks.
    context = multiprocessing.get_context("spawn")
    # Read and set here without a lock: a worker that dies may hold it for ever.
    stop, pictures = context.RawValue("b", 0), context.Value("q", 0)
    futures: list[Future[Done | Failed]] = []
    with ProcessPoolExecutor(max(1, min(workers, len(jobs))), context, _serve, (stop, pictures)) as pool:
        try:
            with _uninterrupted():
                futures += [pool.submit(_work, job) for job in jobs]
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                progress(pictures.get_obj().value, len(futures) - len(waiting))
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise PrepareError(
                "a worker process died, of too little memory perhaps: the same command with fewer --workers goes on"
            ) from error
        except BaseException:
            stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are begun inside hear no Ctrl-C, also before they can say so: it is for the one that began them.

    They must hear SIGTERM, with which the pool ends those that are left when one has died.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_tick: Callable[[int], None]
"""In a worker."""


def _serve(stop: Any, pictures: Any) -> None:
    """In a worker: the process that began it says when to end; without it there is no point."""
    global _tick
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    def tick(count: int) -> None:
        with pictures.get_lock():
            pictures.value += count
        if stop.value:
            raise Stopped

    threading.Thread(target=end_with_it, daemon=True).start()
    _tick = tick


def _work(job: Job) -> Done | Failed:
    return write_shard(job, _tick)
