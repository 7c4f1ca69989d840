"""SIGINT and SIGTERM while a run trains: noted, and heeded where it is safe to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
