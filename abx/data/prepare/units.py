"""Units of pictures that are known one by one, and what units have in common."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from abx.data.prepare.reading import AnyFolder, inside
from abx.types import Record

UNIT = 2000
"""Pictures in a unit, where the data set is not published in parts."""
NONE = Record(b"")
"""Of a picture that cannot be read."""


def numbered(found: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """A key that comes again gets a number: a.jpg, a.jpg#2."""
    seen: dict[str, int] = {}
    for key, record in found:
        own = key
        while own in seen:
            seen[key] += 1
            own = f"{key}#{seen[key]}"
        seen[own] = 1
        yield own, record


class Item(NamedTuple):
    """A picture that is still to be read: a file, or a part of an archive."""

    key: str
    file: str
    """Relative to the unit's folder."""
    record: Record = NONE
    """What else is known of it."""
    start: int | None = None
    end: int | None = None
    """Which bytes of the file; None for all."""


@dataclass(frozen=True)
class Pictures:
    """A `Unit` of pictures that are known one by one."""

    name: str
    folder: AnyFolder
    items: tuple[Item, ...]

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        for item in self.items:
            # A path out of the folder, given by a list or a table, is not followed.
            image = self.folder.picture(item.file, item.start, item.end) if inside(item.file) else b""
            yield item.key, item.record._replace(image=image)


def in_units(split: str, folder: AnyFolder, items: Sequence[Item]) -> list[Pictures]:
    """Units of up to `UNIT` pictures, in the order given. A key that comes again is left out."""
    named = {
        item.key if inside(item.key) else f"picture {i} refused, its path leads out": item
        for i, item in enumerate(items)
    }
    once = tuple(item._replace(key=key) for key, item in named.items())
    return [Pictures(f"{split}/{at // UNIT:05d}", folder, once[at : at + UNIT]) for at in range(0, len(once), UNIT)]
