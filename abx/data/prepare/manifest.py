"""What `abx data prepare` says of the shards that it wrote: `manifest.json` beside them."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abx.types import Record, Vocabulary

VERSION = 2
NAMED = 100
"""Of the rejected pictures of a split, so many are named."""

Reasons = tuple[tuple[str, str], ...]
"""(name, reason), both printable on one line."""


class ShardFile(NamedTuple):
    """A file of records."""

    file: str
    records: int
    bytes: int
    sha256: str


class Highest(NamedTuple):
    """The largest of all numbers that stand for names; -1 where there is none."""

    label: int = -1
    objects: int = -1
    verb: int = -1
    noun: int = -1


def highest(all: Iterable[Highest]) -> Highest:
    return Highest(*map(max, zip(Highest(), *all, strict=True)))


def highest_of(record: Record) -> Highest:
    objects = -1 if record.objects is None else int(record.objects.labels.max(initial=-1))
    return Highest(record.label, objects, record.verb, record.noun)


class SplitManifest(NamedTuple):
    """What became of a split."""

    pictures: int
    rejected: int
    """Pictures that could not be used."""
    reasons: Reasons
    """Of the first `NAMED` of them."""
    expected: int | None
    """Number of pictures that the data set is published with; None when that is not known."""
    failed: Reasons
    """Units that could not be read at all."""
    highest: Highest
    shards: tuple[ShardFile, ...]

    @property
    def complete(self) -> bool:
        """Whether every unit was read, and as many pictures as are published."""
        return not self.failed and self.expected in (None, self.pictures + self.rejected)


class Manifest(NamedTuple):
    """A prepared data set."""

    name: str
    source: str
    licence: str
    short_side: int
    quality: int
    classes: tuple[str, ...]
    vocabulary: Vocabulary
    splits: dict[str, SplitManifest]


def to_json(manifest: Manifest) -> dict[str, Any]:
    splits = {
        name: {
            "pictures": split.pictures,
            "rejected": {"count": split.rejected, "first": split.reasons},
            "expected": split.expected,
            "complete": split.complete,
            "failed": split.failed,
            "highest": split.highest._asdict(),
            "shards": [shard._asdict() for shard in split.shards],
        }
        for name, split in manifest.splits.items()
    }
    vocabulary = manifest.vocabulary._asdict()
    return {"version": VERSION, **manifest._asdict(), "vocabulary": vocabulary, "splits": splits}


def splits_of(manifest: dict[str, Any]) -> dict[str, SplitManifest]:
    """The splits of a manifest that we wrote."""
    return {
        name: SplitManifest(
            split["pictures"],
            split["rejected"]["count"],
            pairs(split["rejected"]["first"]),
            split["expected"],
            pairs(split["failed"]),
            Highest(**split["highest"]),
            tuple(ShardFile(**shard) for shard in split["shards"]),
        )
        for name, split in manifest["splits"].items()
    }


def pairs(found: Sequence[Sequence[str]]) -> Reasons:
    return tuple((name, reason) for name, reason in found)


def write_json(path: Path, content: Any) -> None:
    """Written beside and moved, so that a kill in between leaves the old file or the new one, on disk."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
