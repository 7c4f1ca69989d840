"""What `manifest.json` says of the records beside it: the names of their numbers, and which shards there should be."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

from abx.data.sources import printable
from abx.data.webdataset.files import File
from abx.types import Vocabulary

MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 26
"""Bytes that are read."""
WITHOUT = "so the records beside it are read without their classes, and nothing else in them has a name"
_NAMED = re.compile(r"(.+)-\d{5,}-of-(\d{5,})\.arrayrecord", re.DOTALL)
"""How a shard is called: its split, and how many shards that has."""


class Size(NamedTuple):
    """Of a shard."""

    records: int
    bytes: int


class Manifest(NamedTuple):
    """What is read of one."""

    classes: tuple[str, ...] = ()
    vocabulary: Vocabulary = Vocabulary()
    splits: Mapping[str, Mapping[str, Size]] = {}
    """The shards of each, by file name."""
    partial: frozenset[str] = frozenset()
    """The splits that are not as they are published."""

    def size(self, file: str) -> Size | None:
        """Of a shard, None if it is not listed."""
        return next((shards[file] for shards in self.splits.values() if file in shards), None)


def manifest_beside(folder: str) -> Manifest:
    """Raises: ValueError, with the reason, where there is none or it cannot be used."""
    try:
        file = File(os.path.join(folder, MANIFEST))
        text = file.read(0, min(file.status.st_size, MAX_MANIFEST))
    except FileNotFoundError as error:
        raise ValueError(f"is not there, {WITHOUT}") from error
    except OSError as error:
        raise ValueError(f"cannot be read, {WITHOUT}: {error.strerror or error}") from error
    try:
        said = json.loads(text)
        vocabulary, splits = said.get("vocabulary", {}), said.get("splits", {})
        lists = [said.get("classes", []), *(vocabulary.get(field, []) for field in Vocabulary._fields)]
        shards = {split: _shards(of_split) for split, of_split in splits.items()}
        partial = frozenset(split for split, of_split in splits.items() if of_split.get("complete") is False)
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"cannot be parsed, {WITHOUT}") from error
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError(f"its classes or vocabulary are no lists of names, {WITHOUT}")
    classes, *words = (tuple(map(printable, names)) for names in lists)
    return Manifest(classes, Vocabulary(*words), shards, partial)


def _shards(split: dict[str, Any]) -> dict[str, Size]:
    shards = {shard["file"]: Size(shard["records"], shard["bytes"]) for shard in split.get("shards", [])}
    if not all(isinstance(file, str) and all(type(number) is int for number in size) for file, size in shards.items()):
        raise TypeError("a shard without a name or its numbers")
    return shards


def missing(folder: str, manifest: Manifest | None, read: Set[str]) -> list[str]:
    """What is missing of the splits that these shards belong to, a sentence each.

    Args:
        manifest: None where there is none, or none that can be used.
        read: file names of the shards in this folder that are read or were tried.
    """
    if not manifest or not manifest.splits:
        return _missing_by_name(folder, read)
    notes, place = [], printable(os.path.join(folder, MANIFEST))
    for split, shards in manifest.splits.items():
        said, lacking = printable(split), sorted(shards.keys() - read)
        if not read & shards.keys():
            continue
        if lacking:
            notes.append(f"{place} lists {len(shards)} shards of {said}, {len(lacking)} are not read: {_some(lacking)}")
        if split in manifest.partial:
            notes.append(f"{place} says that {said} is not complete: not all that is published was found")
    unlisted = sorted(name for name in read if _NAMED.fullmatch(name) and not manifest.size(name))
    if unlisted:
        notes.append(f"{place} does not list {_some(unlisted)}: they are of another set, or preparing was not finished")
    return notes


def _missing_by_name(folder: str, read: Set[str]) -> list[str]:
    """Where nothing lists the shards, their names tell how many there should be."""
    shards = Counter((name[1], int(name[2])) for name in filter(None, map(_NAMED.fullmatch, sorted(read))))
    return [
        f"{printable(folder)} has no list of its shards: preparing was not finished, or {MANIFEST} was not copied; "
        f"of {printable(split)} {count} of {total} shards are read"
        for (split, total), count in shards.items()
    ]


def _some(names: list[str]) -> str:
    return printable(", ".join(names[:3])) + (", ..." if len(names) > 3 else "")
