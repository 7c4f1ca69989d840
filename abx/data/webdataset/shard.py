"""One shard: which samples are in it, where their parts lie, and what is wrong with the rest."""

import re
from collections.abc import Iterator, Set
from typing import NamedTuple

import numpy as np

from abx.data.sources import SpecError, printable
from abx.data.webdataset import annotations
from abx.data.webdataset.annotations import Annotations, BadAnnotations
from abx.data.webdataset.files import File
from abx.data.webdataset.headers import Damaged, members

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"})
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

MAX_PART = 2**32 - 1
ROW = np.dtype(
    [
        ("label", "<i4"),
        *((f"{part}_{v}", t) for part in ("image", "text", "json") for v, t in (("at", "<u8"), ("size", "<u4"))),
    ]
)
"""A sample in 40 bytes: its class, and its parts; a part that it lacks has size 0."""


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


class _Problem(NamedTuple):
    name: str
    reason: str


class _Part(NamedTuple):
    key: str
    extension: str
    """In lower case."""
    place: Place


class _Sample(NamedTuple):
    key: str
    label: int
    image: Place
    text: Place
    json: Place
    annotations: Annotations


def read_shard(path: str, file: File) -> Shard:
    """Reads every header, every `.cls` and every `.json`.

    Raises: OSError; SpecError for a shard that is compressed.
    """
    start = file.read(0, min(6, file.status.st_size))
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise SpecError(f"{printable(path)} is compressed ({name}): unpack it, it is read at random places")
    rows, keys, problems = list[tuple[int, ...]](), list[bytes](), list[tuple[str, str]]()
    objects, verbs, nouns = {-1}, set[int | str](), set[int | str]()
    for found in _samples(file):
        if isinstance(found, _Problem):
            problems.append((found.name, found.reason))
            continue
        rows.append((found.label, *found.image, *found.text, *found.json))
        keys.append(found.key.encode("utf-8", "surrogateescape"))
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


def _samples(file: File) -> Iterator[_Sample | _Problem]:
    key, parts = "", dict[str, Place]()
    for part in _parts(file):
        if isinstance(part, _Problem):
            yield part
            continue
        if part.key != key or part.extension in parts:
            yield from _sample(file, key, parts)
            key, parts = part.key, {}
        parts[part.extension] = part.place
    yield from _sample(file, key, parts)


def _parts(file: File) -> Iterator[_Part | _Problem]:
    """Every member that may belong to a sample."""
    length = file.status.st_size
    try:
        for name, at, size in members(file):
            *folders, base = name.split("/")
            if name.startswith("/") or ".." in folders or base == "..":
                yield _Problem(name, "refused: the path leads out of the shard")
                continue
            stem, dot, extension = base.partition(".")
            if not stem or not dot:
                continue
            if at + size > length:
                yield _Problem(name, "cut off: the shard ends inside it")
                return
            key = "/".join([*(folder for folder in folders if folder not in ("", ".")), stem])
            yield _Part(key, extension.lower(), Place(at, size))
    except Damaged as damage:
        yield _Problem("", str(damage))


def _sample(file: File, key: str, parts: dict[str, Place]) -> Iterator[_Sample | _Problem]:
    if not parts:
        return
    image, json = _part(parts, IMAGES), _part(parts, {"json"}).cut(annotations.MAX_JSON)
    text, cls = _part(parts, {"txt"}).cut(annotations.MAX_TEXT), _part(parts, {"cls"})
    if not image.at:
        yield _Problem(key, f"no picture among its parts ({', '.join(parts)})")
        return
    if image.size > MAX_PART:
        yield _Problem(key, f"{image.size} bytes, more than any picture we read has")
        return
    label = -1
    if cls.at:
        word = file.read(cls.at, min(cls.size, 64)).strip()
        if re.fullmatch(rb"\d{1,9}", word) and int(word) < annotations.MAX_CLASSES:
            label = int(word)
        elif word != b"-1":
            yield _Problem(key, f"its class is no number from 0 to {annotations.MAX_CLASSES - 1}: {word[:20]!r}")
    said = Annotations()
    if json.at:
        try:
            said = annotations.parse(file.read(*json))
        except BadAnnotations as bad:
            said = Annotations(problem=str(bad))
        if said.problem:
            yield _Problem(key, said.problem)
    # Metadata that says nothing more need not be read again with every picture.
    yield _Sample(key, label, image, text, json if said.worth_reading(text.size > 0) else Place(), said)


def _part(parts: dict[str, Place], extensions: Set[str]) -> Place:
    """The first part that is named so, else the first whose name ends so; no part lies at byte 0."""
    named = [place for extension, place in parts.items() if extension in extensions]
    ending = [place for extension, place in parts.items() if extension.rpartition(".")[2] in extensions]
    return next(iter(named + ending), Place())
