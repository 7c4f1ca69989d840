"""One unit of a data set becomes one shard: written beside, checked, moved to its place."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from abx.data.images import BadImage
from abx.data.prepare.base import LayoutError, Unit
from abx.data.prepare.manifest import NAMED, Highest, Reasons, ShardFile, highest, highest_of, pairs, write_json
from abx.data.prepare.pictures import kept
from abx.data.records import WRITER, pack
from abx.data.sources import BadRecord, printable
from abx.types import Record

PARTS = ".parts"
"""Folder beside the shards, of what each became: with it a run that was killed goes on where it stopped."""
SUFFIX = ".arrayrecord"


class PrepareError(ValueError):
    """Preparing cannot start or go on; the message is one sentence."""


class Stopped(Exception):
    """The work is to end now, unfinished."""


class Job(NamedTuple):
    """A unit, and the shard that it becomes."""

    unit: Unit
    out: str
    file: str
    short_side: int
    quality: int
    retry: bool = False
    """Whether it is made again where pictures were rejected."""


class Done(NamedTuple):
    """What became of a unit."""

    unit: str
    rejected: int
    reasons: Reasons
    """Of the first `NAMED`."""
    highest: Highest
    shard: ShardFile


class Failed(NamedTuple):
    """A unit that could not be read at all; nothing is kept of it."""

    unit: str
    reason: str


def write_shard(job: Job, tick: Callable[[int], None]) -> Done | Failed:
    """Write a unit's shard, unless it is there already and whole. What is whole stays until another is.

    Args:
        tick: called with numbers of pictures that are done, as work goes on.

    Raises: PrepareError, where nothing can be written; Stopped, if `tick` does.
    """
    part = finished(job)
    if part and not (job.retry and part.rejected):
        tick(part.shard.records + part.rejected)
        return part
    try:
        if not part:
            # What is there is damaged, and must not be read if the unit no longer can.
            Path(job.out, job.file).unlink(missing_ok=True)
        return _write(job, tick)
    except _Unreadable as error:
        return part or Failed(printable(job.unit.name), printable(str(error)))
    except OSError as error:
        raise PrepareError(f"{printable(job.out)} cannot be written: {error.strerror or error}") from error


def finished(job: Job) -> Done | None:
    """What became of a unit, if its shard is there, byte for byte as it was written."""
    path = Path(job.out, job.file)
    try:
        said = json.loads(_part_of(path).read_text())
        reasons, high = pairs(said["reasons"]), Highest(**said["highest"])
        part = Done(said["unit"], said["rejected"], reasons, high, ShardFile(**said["shard"]))
        sound = path.stat().st_size == part.shard.bytes and _sha256(path) == part.shard.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return part if sound and (part.unit, part.shard.file) == (job.unit.name, job.file) else None


def _part_of(shard: Path) -> Path:
    return shard.parent / PARTS / f"{shard.stem}.json"


class _Unreadable(Exception):
    """The unit, not what is written."""


def _write(job: Job, tick: Callable[[int], None]) -> Done:
    path = Path(job.out, job.file)
    beside = path.parent / PARTS / f"{job.file}.tmp"
    given = rejected = written = 0
    high = Highest()
    reasons: list[tuple[str, str]] = []
    with _storage():
        writer = ArrayRecordWriter(os.fsencode(beside), WRITER)
    for key, record in _given(job.unit):
        given += 1
        try:
            if isinstance(record.image, bytes) and not record.image:
                raise BadRecord("missing or empty, or it could not be read")
            data = pack(key, record._replace(image=kept(record.image, job.short_side, job.quality)))
        except (BadImage, BadRecord) as bad:
            rejected += 1
            if len(reasons) < NAMED:
                reasons.append((printable(key), printable(str(bad))))
        else:
            with _storage():
                writer.write(data)
            written += 1
            high = highest([high, highest_of(record)])
        tick(1)
    with _storage():
        writer.close()
    _flush(beside)
    records = int(ArrayRecordReader(os.fsencode(beside)).num_records())
    if not records == written == given - rejected:
        raise OSError(f"{job.file} holds {records} records, and {written} were written")
    part = Done(job.unit.name, rejected, tuple(reasons), high, _shard(beside, job.file, records))
    # The shard comes last: without it the part says nothing, and a shard always has its part.
    write_json(_part_of(path), part._asdict() | {"highest": high._asdict(), "shard": part.shard._asdict()})
    beside.replace(path)
    _flush(path.parent)
    return part


def _given(unit: Unit) -> Iterator[tuple[str, Record]]:
    try:
        yield from unit
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error
    except LayoutError as error:  # of a part that is looked into only now
        raise _Unreadable(str(error)) from error


@contextmanager
def _storage() -> Iterator[None]:
    """What goes wrong with an ArrayRecord is a RuntimeError, which here becomes what it is."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(" ".join(str(error).partition(";")[0].split())) from error


def _shard(path: Path, file: str, records: int) -> ShardFile:
    return ShardFile(file, records, path.stat().st_size, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Until it is on disk, a file or what a folder lists."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
