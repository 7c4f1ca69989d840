"""Any WebDataset: tars in which the members of a sample lie side by side under one key. Compressed ones, too."""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from abx.data.images import MAX_BYTES
from abx.data.prepare.archives import Entry, entries
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import NONE, AnyFolder, open_folder
from abx.data.sources import printable
from abx.data.webdataset.annotations import (
    MAX_CLASSES,
    MAX_JSON,
    MAX_TEXT,
    Annotations,
    BadAnnotations,
    captions,
    parse,
)
from abx.data.webdataset.shard import IMAGES
from abx.types import Record

ABOUT = """\
Any WebDataset: tars, plain or compressed (.tar.gz, .tgz, .tar.bz2, .tar.xz), in one folder, or in a folder per split.

  SRC/00000.tar                 or SRC/train/00000.tar, SRC/val/00000.tar
    000000000.jpg               the picture; also png, webp, bmp, gif, tif, ppm
    000000000.txt               captions, one a line; else those of the json
    000000000.cls               the class, a decimal number
    000000000.json              "boxes" [[y0, x0, y1, x1], ...] in [0, 1] and as many "labels"; "iscrowd", "difficult",
                                "truncated"; "captions" or "caption"; "count", "distance", "verb", "noun" (numbers)
  SRC/classes.txt               optional names of the classes, a line each: number, tab, name

The tars right in SRC are the split train. A tar that is cut off gives the samples that are whole; members whose path
leads out of it are refused and counted; links and devices are passed over. Annotations that are not sound are left out.

Terms: those of the data.
"""
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_KINDS = {"txt": MAX_TEXT, "json": MAX_JSON, "cls": 64, **dict.fromkeys(IMAGES, MAX_BYTES)}
"""Bytes of each that are read."""


def find(src: str) -> Published:
    folder = open_folder(src)
    splits = [Split(name, tars(folder, name)) for name in folder.folders() if tars(folder, name)]
    if here := tars(folder):
        splits = [Split("train", here), *(split for split in splits if split.name != "train")]
    if not splits:
        raise no_tars(folder)
    return Published(tuple(splits), _classes(folder), licence="that of the data")


def no_tars(folder: AnyFolder) -> LayoutError:
    return LayoutError(f"{folder.said()} has no tars ({', '.join(SUFFIXES)}): --src is the folder that holds them")


def tars(folder: AnyFolder, within: str = "") -> list["Tar"]:
    """A unit for every tar right in a folder."""
    return [
        Tar(printable(f"{within or 'train'}/{name}"), folder, f"{within}/{name}" if within else name)
        for name in folder.files(within)
        if name.endswith(SUFFIXES)
    ]


@dataclass(frozen=True)
class Tar:
    name: str
    folder: AnyFolder
    file: str

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        stem = printable(self.file.rpartition("/")[2].split(".")[0])
        seen: dict[str, int] = {}
        for key, record in self._samples():
            count = seen[key] = seen.get(key, 0) + 1
            yield f"{stem}/{key}" + (f"#{count}" if count > 1 else ""), record

    def _samples(self) -> Iterator[tuple[str, Record]]:
        key, parts = "", dict[str, bytes]()
        with self.folder.open(self.file) as file:
            for found in entries(file, lambda name: _KINDS.get(name.rpartition(".")[2].lower(), 0)):
                if not isinstance(found, Entry):
                    yield from _sample(key, parts)
                    key, parts = "", {}
                    yield found.reason, NONE
                    continue
                folder, _, base = found.name.rpartition("/")
                stem, _, extension = base.partition(".")
                extension = extension.lower()
                if not stem:
                    continue
                member_key = "/".join([part for part in folder.split("/") if part not in ("", ".")] + [stem])
                if member_key != key or extension in parts:
                    yield from _sample(key, parts)
                    key, parts = member_key, {}
                parts[extension] = found.data
        yield from _sample(key, parts)


def _sample(key: str, parts: dict[str, bytes]) -> Iterator[tuple[str, Record]]:
    if not parts:
        return
    try:
        said = parse(_part(parts, {"json"}) or b"{}")
    except BadAnnotations:
        said = Annotations()
    number = (_part(parts, {"cls"}) or b"").strip()
    label = int(number) if re.fullmatch(rb"\d{1,9}", number) and int(number) < MAX_CLASSES else -1
    verb, noun = (word if isinstance(word, int) else -1 for word in (said.verb, said.noun))
    texts = captions(_part(parts, {"txt"}) or b"") or said.captions
    image = _part(parts, IMAGES) or b""
    yield printable(key), Record(image, label, texts, said.objects, said.count, said.distance, verb, noun)


def _part(parts: dict[str, bytes], extensions: Set[str]) -> bytes | None:
    """The first part that is named so, else the first whose name ends so."""
    named = [data for extension, data in parts.items() if extension in extensions]
    ending = [data for extension, data in parts.items() if extension.rpartition(".")[2] in extensions]
    return next(iter(named + ending), None)


def _classes(folder: AnyFolder) -> tuple[str, ...]:
    """Names of the classes, their numbers where there is none; () without classes.txt."""
    if not folder.has("classes.txt"):
        return ()
    lines = [line.split("\t") for line in folder.lines("classes.txt")]
    table = {int(line[0]): printable(line[-1]) for line in lines if re.fullmatch(r"[0-9]{1,6}", line[0])}
    return tuple(table.get(i, str(i)) for i in range(max(table, default=-1) + 1))
