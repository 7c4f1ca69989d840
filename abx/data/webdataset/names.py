"""Names of numbers, from tables beside the shards: a line each, number, tab, name."""

import os
import re
from collections.abc import Sequence

from abx.data.sources import SpecError, printable
from abx.data.webdataset.annotations import MAX_CLASSES, MAX_JSON


def names(folders: Sequence[str], file: str, last: int, words: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of 0 to `last` at least, from the tables called `file`; () if there is nothing to name.

    Where no folder has a table: the numbers themselves; or `words`, if nothing goes by number (`last` is -1).

    Raises: SpecError, if two folders number differently.
    """
    if last < 0 and not words:
        return ()
    tables = {folder: table for folder in folders if (table := _table(os.path.join(folder, file))) is not None}
    for folder, table in tables.items():
        first = next(iter(tables))
        if table != tables[first]:
            raise SpecError(
                f"{printable(first)} and {printable(folder)} number their classes differently ({file}): "
                f"use one of them, or make their {file} the same"
            )
    table = next(iter(tables.values()), {})
    if last < 0 and not table:
        return tuple(words)
    return tuple(table.get(i, str(i)) for i in range(max([last, *table]) + 1))


def _table(path: str) -> dict[int, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip().split("\t") for line in file.read(MAX_JSON).splitlines()]
    except OSError:
        return None
    # An identifier may come before the name, WordNet's for ImageNet.
    return {
        int(number): printable(" ".join(names[1:] if len(names) > 1 and re.fullmatch(r"n\d{8}", names[0]) else names))
        for number, *names in lines
        if re.fullmatch(r"[0-9]{1,9}", number) and int(number) < MAX_CLASSES and names
    }
