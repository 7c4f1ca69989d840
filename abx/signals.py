"""SIGINT and SIGTERM: while a run trains noted, and heeded where it is safe to stop; else the end at once."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


class Stopped(BaseException):
    """A signal came where it need not wait. Not an Exception: what is looked at may catch those."""


@dataclass
class Stop:
    """What signals have asked for."""

    signal: int = 0
    """The first that came."""
    interrupts: int = 0
    breaking: bool = False

    def note(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and not self.signal and sys.stderr.isatty():
            print("\nstopping after this step; once more ends at once, without saving", file=sys.stderr, flush=True)
        self.signal = self.signal or number
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.breaking:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, and if one came before, a signal raises `Stopped`."""
        if self.signal:
            raise Stopped
        self.breaking = True
        try:
            yield
        finally:
            self.breaking = False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """While inside, SIGINT and SIGTERM are noted instead of ending the program; a second SIGINT interrupts."""
    stop = Stop()
    try:
        before = {s: signal.signal(s, stop.note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, as in some notebooks: then signals are the caller's
        before = {}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def end_on_interrupt(sentence: str) -> Iterator[None]:
    """While inside, and wherever nothing else heeds it, SIGINT ends the program at once, with a sentence and code 130.

    Not by an exception: one that comes in a callback is lost, and Python's own end waits for what is compiled beside
    it, and may crash there.
    """

    def end(number: int, frame: Any) -> None:
        print(f"\n{sentence}", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for child in multiprocessing.active_children():
            child.terminate()
        os._exit(128 + number)

    try:
        before = signal.signal(signal.SIGINT, end)
    except ValueError:  # not the main thread: then signals are the caller's
        yield
        return
    try:
        yield
    except KeyboardInterrupt:  # the second, of one who does not wait for the step
        end(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, before)
