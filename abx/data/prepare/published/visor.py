"""EPIC-KITCHENS VISOR: frames of EPIC-KITCHENS with the outlines of hands and objects, of which the boxes are taken."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from abx.data.images import MAX_BYTES
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.objects import clipped
from abx.data.prepare.published.epic_kitchens import classes
from abx.data.prepare.reading import AnyFolder, inside, open_folder
from abx.data.prepare.units import NONE
from abx.data.sources import printable
from abx.types import Objects, Record, Vocabulary

ABOUT = """\
EPIC-KITCHENS VISOR, sparse ground truth: 32,857 frames to train and 7,747 to validate, with outlines of 305 classes
(the 300 nouns of EPIC-KITCHENS-100, left and right hand, foot, left and right glove). From data.bris.ac.uk
(doi 10.5523/bris.2v6cgv1x04ol22qp9rm9x2j6a7).

  SRC/GroundTruth-SparseAnnotations/annotations/train/P01_01.json           also val
  SRC/GroundTruth-SparseAnnotations/rgb_frames/train/P01/P01_01.zip         or unpacked: P01/P01_01/*.jpg
  SRC/EPIC_100_noun_classes_v2.csv                                          or in GroundTruth-SparseAnnotations

A box is the extent of an object's outlines. They are in pixels of 1920 x 1080 whatever the stored frame has, as in
VISOR's own tools. The frames of test have no annotations and are not read.

Terms: CC BY-NC 4.0.
"""
LICENCE = "CC BY-NC 4.0; University of Bristol, epic-kitchens.github.io/VISOR"
WIDTH, HEIGHT = 1920, 1080

_KEYS = frozenset({"video_annotations", "image", "name", "annotations", "class_id", "segments"})


def find(src: str) -> Published:
    top = open_folder(src)
    folder = top.below("GroundTruth-SparseAnnotations")
    table = "EPIC_100_noun_classes_v2.csv"
    holder = next((each for each in (folder, top) if each.has(table)), folder)
    names = classes(holder, table)
    splits = []
    for split, expected in (("train", 32_857), ("val", 7_747)):
        films = [name[:-5] for name in folder.files(f"annotations/{split}") if re.fullmatch(r"[\w-]+\.json", name)]
        if films:
            folder.need(f"rgb_frames/{split}")
            units = [Film(f"{split}/{film}", folder, split, film, len(names)) for film in films]
            splits.append(Split(split, units, expected))
    if not splits:
        folder.need("annotations/train", "annotations/val")
        raise LayoutError(f"{folder.said('annotations')} holds no tables such as train/P01_01.json")
    return Published(tuple(splits), vocabulary=Vocabulary(objects=names), licence=LICENCE)


@dataclass(frozen=True)
class Film:
    """The annotated frames of a film, from a folder or a zip. Its table is read with it: it may be large."""

    name: str
    folder: AnyFolder
    split: str
    film: str
    classes: int
    """How many."""

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        try:
            table = self.folder.json(f"annotations/{self.split}/{self.film}.json", _KEYS)
            frames = {str(each["image"]["name"]): each["annotations"] for each in table["video_annotations"]}
        except (LayoutError, KeyError, TypeError) as error:
            yield f"{self.name}.json refused, it is not as VISOR writes it: {type(error).__name__}", NONE
            return
        with ExitStack() as stack:
            pictures = _Frames(self.folder, f"rgb_frames/{self.split}/{self.film.split('_')[0]}/{self.film}", stack)
            for i, name in enumerate(sorted(frames)):
                if not inside(name):
                    yield f"{self.film}/frame {i} refused, its path leads out", NONE
                    continue
                key = f"{self.film}/{printable(name)}"
                try:
                    objects = _objects(frames[name], self.classes)
                except (KeyError, TypeError, ValueError, ArithmeticError) as error:
                    yield f"{key} refused, its annotations are not as VISOR writes them: {type(error).__name__}", NONE
                    continue
                yield key, Record(pictures.read(name), objects=objects)


class _Frames:
    """The frames of a film by name; b"" for those that are not there."""

    def __init__(self, folder: AnyFolder, where: str, stack: ExitStack) -> None:
        self._folder, self._where = folder, where
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        if not folder.has(where) and folder.has(f"{where}.zip"):
            try:
                self._zip = stack.enter_context(zipfile.ZipFile(stack.enter_context(folder.open(f"{where}.zip"))))
            except zipfile.BadZipFile:
                return  # its frames are missed one by one
            self._members = {info.filename.rpartition("/")[2]: info for info in self._zip.infolist()}

    def read(self, name: str) -> bytes:
        if self._zip is None:
            return self._folder.picture(f"{self._where}/{name}")
        info = self._members.get(name)
        if info is None or info.file_size > MAX_BYTES:
            return b""
        try:
            # zipfile unpacks no more than the size that has just been looked at.
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):  # RuntimeError: encrypted, or a rare method
            return b""


def _objects(annotations: Any, classes: int) -> Objects:
    """Raises: KeyError, TypeError, ValueError or ArithmeticError, if the annotations are not as they should be."""
    boxes, labels = [], []
    for each in annotations:
        points = np.array([point for outline in each["segments"] for point in outline], np.float64)
        label = int(each["class_id"])
        if not 0 <= label < classes:
            raise ValueError
        if points.size:
            (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
            boxes.append((y0 / HEIGHT, x0 / WIDTH, y1 / HEIGHT, x1 / WIDTH))
            labels.append(label)
    return clipped(boxes, labels)
