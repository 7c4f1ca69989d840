"""What `abx doctor` has to say, a line each. Nothing here or beside it needs more than Python, as what is not well may
be what is installed."""

import threading
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")

GIB = 2**30


class Finding(NamedTuple):
    level: Literal["ok", "note", "WRONG"]
    """note: something may be slower than it could be, or missing for what not everyone does."""
    what: str
    fix: str = ""
    """What to do, for what is not ok."""

    @property
    def text(self) -> str:
        return f"{self.level:5}  {self.what}" + (f"\n       -> {self.fix}" if self.fix else "")


def summary(findings: Sequence[Finding]) -> str:
    wrong, notes = (sum(finding.level == level for finding in findings) for level in ("WRONG", "note"))
    return f"{wrong or 'no'} problem{'s' if wrong != 1 else ''}, {notes or 'no'} note{'s' if notes != 1 else ''}"


def within(seconds: float, call: Callable[[], T]) -> T | None:
    """What the call returns; None when it has not after so many seconds: a file system or a driver may never answer.

    Raises: what the call raises.
    """
    found: list[T] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            wrong.append(error)

    # A daemon: the program ends without it.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if wrong:
        raise wrong[0]
    return found[0] if found else None


def gib(size: int) -> str:
    """Bytes for people: 12.3 GiB, 64 MiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB else f"{size / 2**20:,.0f} MiB"
