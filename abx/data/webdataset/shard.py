"""One shard: which samples are in it, where their parts lie, and what is wrong with the rest."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from abx.data.webdataset import annotations
from abx.data.webdataset.annotations import MAX_CLASS, Annotations, BadAnnotations, captions, class_of, no_class
from abx.data.webdataset.files import File
from abx.data.webdataset.headers import Damaged, members
from abx.data.webdataset.samples import Sample, leads_out, samples, split

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

MAX_PART = 2**32 - 1
ROW = np.dtype(
    [
        ("label", "<i4"),
        *((f"{part}_{v}", t) for part in ("image", "text", "json") for v, t in (("at", "<u8"), ("size", "<u4"))),
    ]
)
"""A sample in 40 bytes: its class, and its parts; a part that it lacks has size 0."""


class Compressed(ValueError):
    """The shard is compressed, so that it cannot be read at random places; the message is how."""


class Said(NamedTuple):
    """Of the `.json` of many samples: the largest number, -1 for none, and the distinct words, sorted."""

    objects: int = -1
    verbs: int = -1
    nouns: int = -1
    verb_words: tuple[str, ...] = ()
    noun_words: tuple[str, ...] = ()


class Shard(NamedTuple):
    """What is known of a shard without its pictures."""

    rows: np.ndarray
    """(samples,) `ROW`."""
    ends: np.ndarray
    """(samples,) uint32: where the key of each ends in `keys`."""
    keys: bytes
    problems: tuple[tuple[str, str], ...] = ()
    """(sample or member, reason); the first is empty where it is the shard itself."""
    said: Said = Said()

    def key(self, i: int) -> str:
        return self.keys[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])].decode("utf-8", "surrogateescape")


def without_samples(problem: str) -> Shard:
    return Shard(np.zeros(0, ROW), np.zeros(0, np.uint32), b"", (("", problem),))


class Place(NamedTuple):
    """Where in the shard a part lies."""

    at: int = 0
    size: int = 0

    def cut(self, limit: int) -> "Place":
        return Place(self.at, min(self.size, limit))


class _Found(NamedTuple):
    label: int
    image: Place
    text: Place
    json: Place
    annotations: Annotations


Problems = list[tuple[str, str]]


def read_shard(file: File) -> Shard:
    """Reads every header, every `.cls` and every `.json`.

    Raises: OSError; Compressed.
    """
    start = file.read(0, min(6, file.status.st_size))
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise Compressed(name)
    rows, keys, problems = list[tuple[int, ...]](), list[bytes](), Problems()
    objects, verbs, nouns = {-1}, set[int | str](), set[int | str]()
    for sample in samples(_places(file, problems)):
        found = _found(file, sample, problems)
        if found is None:
            continue
        rows.append((found.label, *found.image, *found.text, *found.json))
        keys.append(sample.key.encode("utf-8", "surrogateescape"))
        verbs.add(found.annotations.verb)
        nouns.add(found.annotations.noun)
        if found.annotations.objects is not None:
            objects.add(int(found.annotations.objects.labels.max(initial=-1)))
    said = Said(max(objects), _largest(verbs), _largest(nouns), _words(verbs), _words(nouns))
    ends = np.cumsum([len(key) for key in keys], dtype=np.uint32)
    return Shard(np.array(rows, ROW), ends, b"".join(keys), tuple(problems), said)


def _largest(said: set[int | str]) -> int:
    return max((each for each in said if isinstance(each, int)), default=-1)


def _words(said: set[int | str]) -> tuple[str, ...]:
    return tuple(sorted(each for each in said if isinstance(each, str)))


def _places(file: File, problems: Problems) -> Iterator[tuple[str, Place]]:
    """The members, by name."""
    length = file.status.st_size
    try:
        for name, at, size in members(file):
            if leads_out(name):
                problems.append((name, "refused: the path leads out of the shard"))
            elif at + size <= length:
                yield name, Place(at, size)
            elif split(name):
                problems.append((name, "cut off: the shard ends inside it"))
                return
    except Damaged as damage:
        problems.append(("", str(damage)))


def _found(file: File, sample: Sample[Place], problems: Problems) -> _Found | None:
    """None without a picture, and where what is said of it is unsound: `problems` has the reason."""
    key, nowhere = sample.key, Place()
    image, cls = sample.parts.get("image", nowhere), sample.parts.get("cls", nowhere)
    text = sample.parts.get("txt", nowhere).cut(annotations.MAX_TEXT)
    json = sample.parts.get("json", nowhere).cut(annotations.MAX_JSON)
    # No part lies at byte 0.
    if not image.at:
        problems.append((key, f"no picture among its parts ({', '.join(sample.extensions)})"))
        return None
    if image.size > MAX_PART:
        problems.append((key, f"{image.size} bytes, more than any picture we read has"))
        return None
    word = file.read(*cls.cut(MAX_CLASS)) if cls.at else b"-1"
    if (label := class_of(word)) is None:
        problems.append((key, no_class(word)))
        return None
    try:
        said = annotations.parse(file.read(*json)) if json.at else Annotations()
    except BadAnnotations as bad:
        problems.append((key, str(bad)))
        return None
    # Metadata that says nothing more need not be read again with every picture.
    worth = said.worth_reading(text.size > 0 and (not said.captions or bool(captions(file.read(*text)))))
    return _Found(label, image, text, json if worth else nowhere, said)
