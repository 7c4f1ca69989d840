"""Names of numbers, from tables beside the shards: a line each, number, tab, name."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from abx.data.sources import SpecError, printable
from abx.data.webdataset.annotations import MAX_CLASSES, MAX_JSON
from abx.data.webdataset.files import File

Table: TypeAlias = dict[int, str]


def names(folders: Sequence[str], file: str, last: int, words: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of 0 to `last` at least, from the tables called `file`; () if there is nothing to name.

    Where no folder has a table: the numbers themselves; or `words`, if nothing goes by number (`last` is -1).

    Raises: SpecError, if two folders number differently.
    """
    if last < 0 and not words:
        return ()
    texts = {folder: text for folder in folders if (text := _text(os.path.join(folder, file))) is not None}
    table = agreed(texts, file)
    if last < 0 and not table:
        return tuple(words)
    return listed(table, last)


def agreed(texts: Mapping[str, str], file: str) -> Table:
    """What the tables of these folders say, empty if there are none. Raises: SpecError, if two number differently."""
    tables = {folder: read_table(text) for folder, text in texts.items()}
    for folder, table in tables.items():
        first = next(iter(tables))
        if table != tables[first]:
            raise SpecError(
                f"{printable(first)} and {printable(folder)} number their classes differently ({file}): "
                f"use one of them, or make their {file} the same"
            )
    return next(iter(tables.values()), {})


def read_table(text: str) -> Table:
    lines = [line.strip().split("\t") for line in text.splitlines()]
    # An identifier may come before the name, WordNet's for ImageNet.
    return {
        int(number): printable(" ".join(names[1:] if len(names) > 1 and re.fullmatch(r"n\d{8}", names[0]) else names))
        for number, *names in lines
        if re.fullmatch(r"[0-9]{1,9}", number) and int(number) < MAX_CLASSES and names
    }


def listed(table: Table, last: int = -1) -> tuple[str, ...]:
    """Names of 0 to `last` at least, the number itself where there is none."""
    return tuple(table.get(i, str(i)) for i in range(max([last, *table]) + 1))


def number(said: int | str, known: Sequence[str]) -> int:
    """A word's place among those known, -1 if it is not there; a number stays as it is."""
    if isinstance(said, int):
        return said
    return known.index(said) if said in known else -1


def _text(path: str) -> str | None:
    try:
        file = File(path)
        return file.read(0, min(file.status.st_size, MAX_JSON)).decode("utf-8", "replace")
    except OSError:
        return None
