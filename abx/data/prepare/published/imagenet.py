"""ImageNet-1k (ILSVRC 2012): 1000 classes, as folders, as Kaggle packs it, or as the official tars."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from abx.data.images import MAX_BYTES
from abx.data.prepare.archives import Entry, Span, Stretch, entries, spans
from abx.data.prepare.base import LayoutError, Published, Split, Unit
from abx.data.prepare.devkit import Devkit, read_devkit
from abx.data.prepare.reading import AnyFolder, open_folder
from abx.data.prepare.units import NONE, Item, in_units, numbered
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
ImageNet-1k, the classification task of ILSVRC 2012: 1,281,167 pictures to train, 50,000 to validate, 1000 classes.
From image-net.org (after registration), or from the Kaggle competition imagenet-object-localization-challenge.

  SRC/train/n01440764/*.JPEG            or SRC/ILSVRC2012_img_train.tar, or its tars: SRC/train/n01440764.tar
  SRC/val/n01440764/*.JPEG              or SRC/val/*.JPEG, or SRC/ILSVRC2012_img_val.tar
  SRC/ILSVRC2012_devkit_t12.tar.gz      or unpacked; or from Kaggle LOC_synset_mapping.txt, LOC_val_solution.csv

Kaggle's nesting, SRC/ILSVRC/Data/CLS-LOC/{train,val}, is found too. A label is the place of the class's WordNet number
among all of them, sorted: 0 tench to 999 toilet tissue. (The devkit numbers the classes otherwise.) Where neither the
devkit nor the mapping is there, classes are numbered by the folders of train, and named by their WordNet numbers. A
val that is not in folders needs the devkit or LOC_val_solution.csv.

Terms: non-commercial research and education; see the terms of access at image-net.org.
"""
LICENCE = "non-commercial research and education; terms of access at image-net.org; the pictures are their owners'"
_WNID = re.compile(r"n\d{8}")


def find(src: str) -> Published:
    folder = open_folder(src)
    pictures = folder.below("ILSVRC/Data/CLS-LOC")
    devkit = read_devkit(folder)
    names = _mapping(folder) or {each.wnid: each.words for each in devkit.synsets.values()}
    train = _train(pictures, folder)
    where, val = _val(pictures, folder)
    truth = {} if all(picture.wnid for picture in val) else _truth(folder, devkit)
    told = {picture.item.key: picture.wnid or truth.get(picture.item.key, "") for picture in val}
    numbers = {wnid: label for label, wnid in enumerate(sorted(names or train or {*told.values()} - {""}))}
    if unknown := sorted({*train, *told.values()} - {*numbers, ""}):
        raise LayoutError(
            f"{folder.said()} has pictures of {printable(unknown[0])}, which is none of the {len(numbers)} classes: "
            "add the devkit or LOC_synset_mapping.txt, or move them elsewhere"
        )
    splits = []
    if train:
        units = [_unit(f"train/{wnid}", part, numbers[wnid], f"{wnid}/") for wnid, part in train.items()]
        splits.append(Split("train", units, 1_281_167))
    if val:
        labels = {key: numbers.get(wnid, -1) for key, wnid in told.items()}
        items = [item._replace(record=Record(b"", labels[item.key])) for item, _ in sorted(val)]
        splits.append(Split("val", in_units("val", where, items), 50_000))
    if not splits:
        pictures.need("train/n01440764", "val", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
        raise LayoutError(f"{pictures.said()} has no folders such as train/n01440764, and no pictures in val")
    classes = tuple(printable(names.get(wnid) or wnid) for wnid in numbers)
    return Published(tuple(splits), classes, licence=LICENCE)


class _Pack(NamedTuple):
    """The pictures of a class: a folder, a tar, or a tar in a tar."""

    folder: AnyFolder
    name: str
    place: Span | None = None


def _train(pictures: AnyFolder, folder: AnyFolder) -> dict[str, _Pack]:
    """By WordNet number, sorted; empty if there are none."""
    found = {name: _Pack(pictures, f"train/{name}") for name in pictures.folders("train") if _WNID.fullmatch(name)}
    for name in pictures.files("train") if not found else []:
        if _WNID.fullmatch(name[:-4]) and name.endswith(".tar"):
            found[name[:-4]] = _Pack(pictures, f"train/{name}")
    tar = "ILSVRC2012_img_train.tar"
    if not found and folder.has(tar):
        with folder.open(tar) as file:
            for place in spans(file, folder.said(tar)):
                wnid = place.name.rpartition("/")[2].removesuffix(".tar")
                if _WNID.fullmatch(wnid):
                    found[wnid] = _Pack(folder, tar, place)
        if not found:
            raise LayoutError(f"{folder.said(tar)} holds no tars such as n01440764.tar: it is not the official one")
    return dict(sorted(found.items()))


def _unit(name: str, pack: _Pack, label: int, prefix: str) -> Unit:
    """A class's pictures; their keys are the prefix and the name of the file."""
    if pack.name.endswith(".tar"):
        return ClassTar(name, pack.folder, pack.name, pack.place, label, prefix)
    return ClassFolder(name, pack.folder, pack.name, label, prefix)


@dataclass(frozen=True)
class ClassFolder:
    name: str
    folder: AnyFolder
    where: str
    label: int
    prefix: str

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        if not self.folder.has(self.where):
            raise FileNotFoundError(f"{self.folder.said(self.where)} is gone")
        for name in self.folder.files(self.where):
            yield self.prefix + printable(name), Record(self.folder.picture(f"{self.where}/{name}"), self.label)


@dataclass(frozen=True)
class ClassTar:
    name: str
    folder: AnyFolder
    tar: str
    place: Span | None
    """Where in the file, if it is not all of it."""
    label: int
    prefix: str

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        return numbered(self._pictures())

    def _pictures(self) -> Iterator[tuple[str, Record]]:
        with self.folder.open(self.tar) as file:
            part = file if self.place is None else Stretch(file, self.place)
            for found in entries(part, lambda name: MAX_BYTES):
                if isinstance(found, Entry):
                    yield self.prefix + printable(found.name.rpartition("/")[2]), Record(found.data, self.label)
                else:
                    yield f"{self.name}: {found.reason}", NONE


class _Picture(NamedTuple):
    item: Item
    wnid: str
    """Empty where its folder does not tell."""


def _val(pictures: AnyFolder, folder: AnyFolder) -> tuple[AnyFolder, list[_Picture]]:
    """The pictures to validate, and the folder that their files are relative to."""
    if wnids := [name for name in pictures.folders("val") if _WNID.fullmatch(name)]:
        return pictures, [
            _Picture(Item(printable(name), f"val/{wnid}/{name}"), wnid)
            for wnid in wnids
            for name in pictures.files(f"val/{wnid}")
        ]
    tar = "ILSVRC2012_img_val.tar"
    if (names := pictures.files("val")) or not folder.has(tar):
        return pictures, [_Picture(Item(printable(name), f"val/{name}"), "") for name in names]
    with folder.open(tar) as file:
        found = spans(file, folder.said(tar))
    keys = [printable(place.name.rpartition("/")[2]) for place in found]
    return folder, [_Picture(Item(key, tar, NONE, at.start, at.end), "") for key, at in zip(keys, found, strict=True)]


def _mapping(folder: AnyFolder) -> dict[str, str]:
    """Names by WordNet number, from Kaggle's table; empty if it is not there."""
    name = "LOC_synset_mapping.txt"
    if not folder.has(name):
        return {}
    pairs = [line.partition(" ") for line in folder.lines(name)]
    if wrong := [wnid for wnid, _, _ in pairs if not _WNID.fullmatch(wnid)]:
        raise LayoutError(f"{folder.said(name)} begins a line with {printable(wrong[0][:40])}, not with n01440764")
    return {wnid: words.strip() for wnid, _, words in pairs}


def _truth(folder: AnyFolder, devkit: Devkit) -> dict[str, str]:
    """The WordNet number of each validation picture, by its file name."""
    solution = "LOC_val_solution.csv"
    if folder.has(solution):
        rows = folder.table(solution, ["ImageId", "PredictionString"])
        return {f"{row['ImageId']}.JPEG": row["PredictionString"][:9] for _, row in rows}
    if not devkit.truth or not devkit.synsets:
        folder.need("ILSVRC2012_devkit_t12.tar.gz", solution)
        raise LayoutError(f"{folder.said()}: the devkit lacks one of its tables in data: download it again")
    if unknown := [number for number in devkit.truth if number not in devkit.synsets]:
        raise LayoutError(f"{folder.said()}: the devkit labels a picture {unknown[0]}, which is none of its classes")
    return {
        f"ILSVRC2012_val_{number:08d}.JPEG": devkit.synsets[synset].wnid
        for number, synset in enumerate(devkit.truth, start=1)
    }
