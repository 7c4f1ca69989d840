"""Any WebDataset: tars in which the members of a sample lie side by side under one key. Compressed ones, too."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from abx.data.images import MAX_BYTES
from abx.data.prepare.archives import Entry, Trouble, entries
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import AnyFolder, open_folder
from abx.data.prepare.units import NONE, numbered
from abx.data.sources import SpecError, printable
from abx.data.webdataset.annotations import (
    MAX_CLASS,
    MAX_JSON,
    MAX_TEXT,
    Annotations,
    BadAnnotations,
    captions,
    class_of,
    no_class,
    parse,
)
from abx.data.webdataset.names import agreed, listed, number
from abx.data.webdataset.samples import Sample, kind_of, samples, split
from abx.types import Record, Vocabulary

ABOUT = """\
Any WebDataset: tars, plain or compressed (.tar.gz, .tgz, .tar.bz2, .tar.xz), in one folder, or in a folder per split.

  SRC/00000.tar                 or SRC/train/00000.tar, SRC/val/00000.tar
    000000000.jpg               the picture; also png, webp, bmp, gif, tif, ppm
    000000000.txt               captions, one a line; else those of the json
    000000000.cls               the class, a decimal number
    000000000.json              "boxes" [[y0, x0, y1, x1], ...] in [0, 1] and as many "labels" (all are 0 without);
                                "iscrowd", "difficult", "truncated"; "captions" or "caption"; "count", "distance";
                                "verb", "noun" (numbers, or names in their table)
  SRC/classes.txt               optional names of the classes, a line each: number, tab, name; also objects.txt,
                                verbs.txt, nouns.txt; in SRC, or in the folder of a split

What is read is what tar: reads of the same tars, but that a verb or a noun that is a word is unknown if no table has
it: tar: numbers such words when it has seen all of them, which here would be too late.

The tars right in SRC are the split train. A tar that is cut off gives the samples that are whole; members whose path
leads out of it are refused and counted; links and devices are passed over. A sample whose class is no number, whose
json cannot be parsed or whose boxes are not sound is left out and counted.

Terms: those of the data.
"""
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_NO_WORDS = Vocabulary()
LIMITS = {"txt": MAX_TEXT, "json": MAX_JSON, "cls": MAX_CLASS, "image": MAX_BYTES}
"""Bytes of each part that are read."""


def find(src: str) -> Published:
    folder = open_folder(src)
    found = {name: files for name in folder.folders() if (files := tars(folder, name))}
    if here := tars(folder):
        found = {"train": here, **{name: files for name, files in found.items() if name != "train"}}
    if not found:
        raise no_tars(folder)
    classes, objects, verbs, nouns = (
        _names(folder, found, f"{what}.txt") for what in ("classes", "objects", "verbs", "nouns")
    )
    words = Vocabulary(objects, verbs, nouns)
    splits = [Split(name, [replace(tar, words=words) for tar in files]) for name, files in found.items()]
    return Published(tuple(splits), classes, words, licence="that of the data")


def _names(folder: AnyFolder, splits: Iterable[str], file: str) -> tuple[str, ...]:
    """From the table in the folder, or in those of the splits; () if there is none.

    Raises: LayoutError, if two differ.
    """
    places = [place for place in ("", *splits) if folder.has(f"{place}/{file}" if place else file)]
    try:
        return listed(
            agreed({folder.said(place): folder.text(f"{place}/{file}".lstrip("/")) for place in places}, file)
        )
    except SpecError as wrong:
        raise LayoutError(str(wrong)) from wrong


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
    words: Vocabulary = _NO_WORDS
    """The verbs and nouns that a word may be."""

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        stem = printable(self.file.rpartition("/")[2].split(".")[0])
        return numbered((f"{stem}/{key}", record) for key, record in self._samples())

    def _samples(self) -> Iterator[tuple[str, Record]]:
        troubles = list[Trouble]()
        with self.folder.open(self.file) as file:
            for sample in samples(_members(entries(file, _wanted), troubles)):
                try:
                    yield printable(sample.key), _record(sample, self.words)
                except BadAnnotations as bad:
                    yield printable(f"{sample.key}: {bad}"), NONE
                yield from ((trouble.reason, NONE) for trouble in troubles)
                troubles.clear()
        yield from ((trouble.reason, NONE) for trouble in troubles)


def _wanted(name: str) -> int | None:
    """Bytes of a member; of those that only tell where a sample ends, 0."""
    found = split(name)
    return None if found is None else LIMITS.get(kind_of(found[1]) or "", 0)


def _members(found: Iterable[Entry | Trouble], troubles: list[Trouble]) -> Iterator[tuple[str, Entry]]:
    for each in found:
        if isinstance(each, Trouble):
            troubles.append(each)
        else:
            yield each.name, each


def _record(sample: Sample[Entry], words: Vocabulary) -> Record:
    """Raises: BadAnnotations, also for a class that is no number."""
    nothing = Entry("", b"", 0)
    image, text = sample.parts.get("image", nothing), sample.parts.get("txt", nothing)
    word = sample.parts["cls"].start if "cls" in sample.parts else b"-1"
    if (label := class_of(word)) is None:
        raise BadAnnotations(no_class(word))
    said = parse(sample.parts["json"].start) if "json" in sample.parts else Annotations()
    texts = captions(text.start) or said.captions
    verb, noun = number(said.verb, words.verbs), number(said.noun, words.nouns)
    return Record(image.data, label, texts, said.objects, said.count, said.distance, verb, noun)
