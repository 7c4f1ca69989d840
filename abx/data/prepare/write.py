"""From a published data set to a folder of our own shards, and on from where it was stopped."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from abx.data.manifests import MANIFEST
from abx.data.prepare.base import Published, Split
from abx.data.prepare.folder import agreed, forget, locked
from abx.data.prepare.manifest import (
    NAMED,
    VERSION,
    Highest,
    Manifest,
    SplitManifest,
    highest,
    to_json,
    write_json,
)
from abx.data.prepare.shard import SUFFIX, Done, Failed, Job, PrepareError
from abx.data.prepare.work import Progress, in_others, in_this_process
from abx.data.sources import printable
from abx.data.webdataset.annotations import MAX_CLASSES
from abx.types import Vocabulary


def prepare(
    published: Published,
    out: Path,
    *,
    name: str,
    source: str,
    short_side: int,
    quality: int,
    workers: int,
    splits: Sequence[str] = (),
    restart: bool = False,
    retry: bool = False,
    progress: Progress = lambda pictures, shards: None,
) -> Manifest:
    """Write a shard for each unit, `SPLIT-00012-of-00640.arrayrecord`, and at the end `manifest.json`.

    The bytes depend on the data set and on `short_side` and `quality` alone. A shard appears when it is whole and on
    disk; the same call goes on with those that are missing. A picture that cannot be used is counted and named; a unit
    that cannot be read is named and left out, and tried again by the next call.

    Args:
        name, source: of the data set, for the manifest.
        short_side, quality: see `pictures.kept`.
        workers: processes; 1 works in this one.
        splits: names of those to write, () for all. The manifest keeps what it says of the others.
        restart: begin again, whatever is there.
        retry: make those shards again in which pictures were rejected.

    Raises: PrepareError.
    """
    chosen = choose(published, splits)
    settings = {
        "version": VERSION,
        "name": name,
        "source": source,
        "short_side": short_side,
        "quality": quality,
        "names": _digest([published.classes, published.vocabulary]),
        "units": {split.name: _digest([unit.name for unit in split.units]) for split in chosen},
    }
    jobs = [
        Job(unit, str(out), f"{split.name}-{k:05d}-of-{len(split.units):05d}{SUFFIX}", short_side, quality, retry)
        for split in chosen
        for k, unit in enumerate(split.units)
    ]
    try:
        with locked(out):
            if restart:
                forget(out)
            every = agreed(out, settings)
            progress(0, 0)
            done = in_this_process(jobs, progress) if workers == 1 else in_others(jobs, workers, progress)
            rest = iter(done)
            found = {split.name: _summary(split, [next(rest) for _ in split.units]) for split in chosen}
            if not any(split.pictures for split in found.values()):
                raise PrepareError(_all_bad(source, found))
            every |= found
            ordered = {split.name: every[split.name] for split in published.splits if split.name in every}
            classes, words = _names(published, highest(split.highest for split in ordered.values()))
            manifest = Manifest(name, source, published.licence, short_side, quality, classes, words, ordered)
            write_json(out / MANIFEST, to_json(manifest))
            return manifest
    except OSError as error:
        raise PrepareError(f"{printable(str(out))} cannot be written: {error.strerror or error}") from error


def choose(published: Published, splits: Sequence[str]) -> list[Split]:
    """The splits of these names; all, where none are given.

    Raises: PrepareError, for a name that there is not.
    """
    there = {split.name: split for split in published.splits}
    for name in splits:
        if name not in there:
            raise PrepareError(f"there is no split {printable(name)}; there are {', '.join(there)}")
    return [there[name] for name in dict.fromkeys(splits or there)]


def _names(published: Published, high: Highest) -> tuple[tuple[str, ...], Vocabulary]:
    """Of all numbers that there are, the numbers themselves where the data set has no names; no classes if no picture
    has one. Names of classes are then those of objects, where these have none of their own."""

    def named(names: tuple[str, ...], last: int) -> tuple[str, ...]:
        # A number that no data set of ours goes up to is a mistake or mischief, and its names would fill the memory.
        return names + tuple(map(str, range(len(names), min(last + 1, MAX_CLASSES))))

    classes, (objects, verbs, nouns) = published.classes, published.vocabulary
    if high.label < 0 <= high.objects:
        objects = objects or classes
    words = Vocabulary(named(objects, high.objects), named(verbs, high.verb), named(nouns, high.noun))
    return named(classes, high.label) if high.label >= 0 else (), words


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _summary(split: Split, done: Sequence[Done | Failed]) -> SplitManifest:
    parts = [each for each in done if isinstance(each, Done)]
    return SplitManifest(
        pictures=sum(part.shard.records for part in parts),
        rejected=sum(part.rejected for part in parts),
        reasons=tuple(reason for part in parts for reason in part.reasons)[:NAMED],
        expected=split.expected,
        failed=tuple((each.unit, each.reason) for each in done if isinstance(each, Failed)),
        highest=highest(part.highest for part in parts),
        shards=tuple(part.shard for part in parts),
    )


def _all_bad(source: str, found: dict[str, SplitManifest]) -> str:
    first = [said for split in found.values() for said in (*split.failed, *split.reasons)][:1]
    why = "".join(f"; the first: {name}: {reason}" for name, reason in first)
    count = sum(split.rejected for split in found.values())
    none = f"none of the {count} pictures" if count else "no pictures"
    return f"{none} of {printable(source)} could be used{why}"
