"""Collages, for COCO: several real objects on a canvas, with their boxes, their classes and generated captions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from abx.data.specs import open_source

SIDE = 128
"""Of a canvas, in pixels; the objects' pictures have 64."""
OBJECTS = (2, 4)
LARGE = (36, 68)
"""Longer side of an object, in pixels."""
NUMBERS = ("a", "two", "three", "four")
Box = tuple[float, float, float, float]


class Cut(NamedTuple):
    """A picture of one object."""

    picture: np.ndarray
    label: int
    box: Box
    """Of the object, in [0, 1] of the picture."""


class Collage(NamedTuple):
    picture: Image.Image
    boxes: list[Box]
    labels: list[int]
    captions: list[str]


def cuts(spec: str, boxes: Mapping[str, Box]) -> tuple[list[Cut], list[str]]:
    """All pictures of a labelled source, and the first name of each class.

    Args:
        boxes: by key; of what has none the whole picture counts.
    """
    source, found = open_source(spec), []
    for i in range(len(source)):
        sample, key = source[i], source.name(i).rpartition(":")[2]
        found.append(Cut(sample.image, sample.label, boxes.get(key, (0.0, 0.0, 1.0, 1.0))))
    return found, [name.partition(",")[0].strip() for name in source.classes]


def boxes_of(table: Path) -> dict[str, Box]:
    """tinyimagenet's boxes.tsv: split, key, class, y0, x0, y1, x1. Nothing where it is not there."""
    if not table.exists():
        return {}
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    return {row[1]: (float(row[3]), float(row[4]), float(row[5]), float(row[6])) for row in rows}


def collage(pictures: Sequence[Cut], names: Sequence[str], rng: np.random.Generator) -> Collage:
    """Two to four objects, cut out along their boxes, side by side on a blurred picture. None hides another.

    A box is that of what was pasted: exact, where the object's own in its picture was.
    """
    ground = Image.fromarray(pictures[rng.integers(len(pictures))].picture).resize((SIDE, SIDE))
    canvas = ground.filter(ImageFilter.GaussianBlur(8))
    taken, labels = list[tuple[int, int, int, int]](), list[int]()
    for _ in range(int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
        cut = pictures[rng.integers(len(pictures))]
        thing = _cut_out(cut, int(rng.integers(LARGE[0], LARGE[1] + 1)))
        for _ in range(50):
            x, y = (int(rng.integers(0, SIDE - side + 1)) for side in thing.size)
            place = (x, y, x + thing.width, y + thing.height)
            if all(_apart(place, other) for other in taken):
                canvas.paste(thing, place[:2])
                taken.append(place)
                labels.append(cut.label)
                break
    boxes = [(y0 / SIDE, x0 / SIDE, y1 / SIDE, x1 / SIDE) for x0, y0, x1, y1 in taken]
    return Collage(canvas, boxes, labels, captions(boxes, [names[label] for label in labels]))


def captions(boxes: Sequence[Box], names: Sequence[str]) -> list[str]:
    """What there is; where each thing is; which is the largest."""
    several = [f"{NUMBERS[n - 1]} {name}" for name, n in Counter(names).items()]
    sides = lambda box: (
        "on the left" if box[1] + box[3] < 0.8 else "on the right" if box[1] + box[3] > 1.2 else "in the middle"
    )
    areas = [(y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in boxes]
    placed = [
        f"{name} {sides(box)}" for box, name in sorted(zip(boxes, names, strict=True), key=lambda each: each[0][1])
    ]
    return [
        "a picture of " + " and ".join(several),
        ", ".join(placed),
        f"{len(names)} things, the largest a {names[int(np.argmax(areas))]}",
    ]  # fmt: skip


def _cut_out(cut: Cut, longer: int) -> Image.Image:
    """The object alone, its longer side so many pixels."""
    height, width = cut.picture.shape[:2]
    y0, x0, y1, x1 = cut.box
    edges = (int(x0 * width), int(y0 * height), max(int(np.ceil(x1 * width)), int(x0 * width) + 1),
             max(int(np.ceil(y1 * height)), int(y0 * height) + 1))  # fmt: skip
    thing = Image.fromarray(cut.picture).crop(edges)
    scale = longer / max(thing.size)
    return thing.resize(
        (max(1, round(thing.width * scale)), max(1, round(thing.height * scale))), Image.Resampling.BICUBIC
    )


def _apart(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
