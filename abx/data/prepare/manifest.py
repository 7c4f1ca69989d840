"""What `abx data prepare` says of the shards that it wrote: `manifest.json` beside them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abx.data.sources import printable
from abx.types import Vocabulary

VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 26
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
    label: int
    """The highest class; -1 when there is none."""
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
            "label": split.label,
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
            split["label"],
            tuple(ShardFile(**shard) for shard in split["shards"]),
        )
        for name, split in manifest["splits"].items()
    }


def pairs(found: Sequence[Sequence[str]]) -> Reasons:
    return tuple((name, reason) for name, reason in found)


def names_beside(folder: str) -> tuple[tuple[str, ...], Vocabulary]:
    """Classes and vocabulary, as the manifest in a folder says; none where there is no manifest.

    Raises: ValueError, with the reason, for a manifest that cannot be used.
    """
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            text = file.read(MAX_MANIFEST)
    except FileNotFoundError:
        return (), Vocabulary()
    except OSError as error:
        raise ValueError(f"cannot be read, so there are no names: {error.strerror or error}") from error
    try:
        said = json.loads(text)
        vocabulary = said.get("vocabulary", {})
        lists = [said.get("classes", []), *(vocabulary.get(field, []) for field in Vocabulary._fields)]
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError("cannot be parsed, so there are no names") from error
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("its classes or vocabulary are no lists of names, so there are none")
    classes, *words = (tuple(map(printable, names)) for names in lists)
    return classes, Vocabulary(*words)


def write_json(path: Path, content: Any) -> None:
    """Written beside and moved, so that a kill in between leaves the old file or the new one, on disk."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
