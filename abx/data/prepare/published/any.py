"""Whatever a data string names."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from abx.data.mixture import split
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.sources import BadRecord, Source, SpecError, printable
from abx.data.specs import open_source, scheme_names
from abx.types import Record

ABOUT = """Any data string, with all that is known of its pictures, as one split named all:

  --src folder:~/Pictures
  --src 'tar:~/shards/*.tar'
  --src scenes:test

The terms are those of the data."""

UNIT = 2000


@dataclass(frozen=True)
class Records:
    """Some records of a source, which each process opens for itself, once."""

    spec: str
    start: int
    stop: int
    length: int
    """Of the source, when it was found."""

    @property
    def name(self) -> str:
        return f"{self.start}-{self.stop}"

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        source = _opened(self.spec)
        if len(source) != self.length:
            raise OSError(f"{printable(self.spec)} had {self.length} records, and now has {len(source)}")
        roots = _roots(self.spec)
        for i in range(self.start, self.stop):
            try:
                record = source.stored(i)
            except BadRecord:
                record = Record(b"")
            yield _key(source.name(i), roots), record
        # What indexing left out has no place among the records; it is counted with the last of them.
        for name, reason in source.problems if self.stop == self.length else ():
            yield f"{_key(name, roots)}: {reason}", Record(b"")


def find(src: str) -> Published:
    """Raises: LayoutError, where `open_source` raises SpecError."""
    _opened.cache_clear()
    try:
        source = _opened(src)
    except SpecError as wrong:
        raise LayoutError(str(wrong)) from wrong
    count = len(source)
    units = [Records(src, start, min(start + UNIT, count), count) for start in range(0, count, UNIT)]
    return Published((Split("all", units, count + len(source.problems)),), source.classes, source.vocabulary)


@lru_cache(1)
def _opened(spec: str) -> Source:
    return open_source(spec)


def _roots(spec: str) -> list[str]:
    """The folder of each part that all its names begin with: keys do not tell where on this machine it lay."""
    wheres = [part.partition(":")[2].strip() for _, part in split(spec, scheme_names())]
    paths = [os.path.abspath(os.path.expanduser(re.split(r"::|[*?\[{]", where)[0])) for where in wheres if where]
    return [printable(path) for path in paths]


def _key(name: str, roots: list[str]) -> str:
    for root in roots:
        for folder in (root, os.path.dirname(root)):
            if name.startswith(folder.rstrip("/") + "/"):
                return name[len(folder.rstrip("/")) + 1 :]
    return name
