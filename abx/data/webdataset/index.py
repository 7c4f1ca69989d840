"""Indexes of shards, made once and kept beside them: `.NAME.abx-index`.

Where nothing can be written beside a shard, they are kept in $ABX_CACHE, else $XDG_CACHE_HOME/abx, else ~/.cache/abx,
under a hash of the shard's path. An index holds for one `Stamp` of its shard. Its layout:

- `abx-index`, then two uint32 (little-endian): the checksum of what follows it, the length of the header
- the header, JSON
- rows, ends and keys, as in `Shard`
"""

import hashlib
import json
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from abx.data.sources import cache_home
from abx.data.webdataset.annotations import MAX_CLASSES
from abx.data.webdataset.files import File, Stamp
from abx.data.webdataset.shard import ROW, Compressed, Said, Shard, read_shard, without_samples

VERSION = 3
"""Of what an index says: another makes all indexes anew."""

_MAGIC = b"abx-index"
_FRONT = struct.Struct("<9sII")


class Index(NamedTuple):
    """What a shard holds, and of which state of it that is said."""

    shard: Shard
    stamp: Stamp
    compressed: str = ""
    """How, if it is, and so without samples."""


def indexed(path: str) -> Index:
    """The index of a shard: the one that is kept, if it is sound and the shard has not changed since; else a new one.

    A shard that cannot be read, or is compressed, has no samples and one problem.
    """
    try:
        return kept(path) or make(path)[0]
    except OSError as error:
        return Index(without_samples(f"cannot be read: {error.strerror or error}"), Stamp())
    except Compressed as how:
        return Index(without_samples(f"compressed ({how}): unpack it"), Stamp(), str(how))


def kept(path: str) -> Index | None:
    """The index that is kept of a shard as it is now, if there is one. Raises: OSError, if there is no such shard."""
    stamp = File(path).stamp()
    for place in _places(path):
        if shard := _load(place, stamp):
            return Index(shard, stamp)
    return None


def make(path: str) -> tuple[Index, bool]:
    """Index a shard, and whether the index could be kept. Raises: OSError; Compressed."""
    file = File(path)
    stamp = file.stamp()
    index = Index(read_shard(file), stamp)
    if file.stamp() != stamp:
        return index, False  # somebody is writing to it
    data = _pack(index)
    return index, any(_save(place, data) for place in _places(path))


def _places(path: str) -> Sequence[str]:
    """Where the index of a shard may be, the better place first."""
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return os.path.join(folder, f".{name}.abx-index"), os.path.join(cache_home(), f"{digest}.abx-index")


def _save(place: str, data: bytes) -> bool:
    """Whole or not at all, however many do so at once."""
    temporary = f"{place}.{secrets.token_hex(4)}"
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, place)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        return False
    return True


def _pack(index: Index) -> bytes:
    shard = index.shard
    header = json.dumps(
        {
            "version": VERSION,
            "shard": index.stamp,
            "samples": len(shard.rows),
            "problems": shard.problems,
            "said": shard.said,
        }
    ).encode()
    rest = b"".join([header, shard.rows.tobytes(), shard.ends.astype("<u4").tobytes(), shard.keys])
    length = struct.pack("<I", len(header))
    return _MAGIC + struct.pack("<I", zlib.crc32(length + rest)) + length + rest


def _load(place: str, stamp: Stamp) -> Shard | None:
    """None for what is no sound index of the shard: missing, damaged, of another version, or saying nonsense."""
    try:
        file = File(place)
        # A sample takes a thousand bytes of its shard and a tenth of that in the index.
        if file.status.st_size > 16 * stamp.size + 4096:
            return None
        data = file.read(0, file.status.st_size)
        magic, checksum, length = _FRONT.unpack_from(data)
        if magic != _MAGIC or checksum != zlib.crc32(data[len(_MAGIC) + 4 :]):
            return None
        header = json.loads(data[_FRONT.size : _FRONT.size + length])
        if header["version"] != VERSION or header["shard"] != [*stamp]:
            return None
        at, count = _FRONT.size + length, header["samples"]
        # Copies, else the rows would keep all of `data`, and so the keys twice.
        rows = np.frombuffer(data, ROW, count, at).copy()
        ends = np.frombuffer(data, "<u4", count, at + rows.nbytes).copy()
        keys = data[at + rows.nbytes + ends.nbytes :]
        problems = tuple((str(name), str(reason)) for name, reason in header["problems"])
        shard = Shard(rows, ends, keys, problems, _said(*header["said"]))
    # An index comes from anywhere, and what is wrong with it does not matter.
    except (OSError, ValueError, TypeError, KeyError, struct.error, RecursionError, OverflowError):
        return None
    return shard if _sound(shard, stamp.size) else None


def _said(objects: int, verbs: int, nouns: int, verb_words: list[str], noun_words: list[str]) -> Said:
    return Said(objects, verbs, nouns, tuple(map(str, verb_words)), tuple(map(str, noun_words)))


def _sound(shard: Shard, length: int) -> bool:
    """Whether all places are inside the shard, all keys inside `keys` and all classes in range."""
    rows, ends = shard.rows, shard.ends
    inside = all(
        np.all(rows[f"{part}_at"] <= length) and np.all(rows[f"{part}_size"] <= length - rows[f"{part}_at"])
        for part in ("image", "text", "json")
    )
    in_order = np.all(ends[1:] >= ends[:-1]) and int(ends[-1] if len(ends) else 0) == len(shard.keys)
    largest = max(int(rows["label"].max(initial=-1)), *shard.said[:3])
    return bool(inside and in_order and rows["label"].min(initial=-1) >= -1 and largest < MAX_CLASSES)
