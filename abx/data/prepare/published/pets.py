"""Oxford-IIIT Pets: cats and dogs of 37 breeds, and boxes of the heads of some."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.objects import clipped
from abx.data.prepare.reading import AnyFolder, open_folder
from abx.data.prepare.units import Item, Pictures, in_units
from abx.data.sources import printable
from abx.types import DIFFICULT, TRUNCATED, Objects, Record, Vocabulary

ABOUT = """\
Oxford-IIIT Pets: 37 breeds, 3,680 pictures to train and 3,669 to test. From robots.ox.ac.uk/~vgg/data/pets:
images.tar.gz and annotations.tar.gz, unpacked.

  SRC/images/Abyssinian_1.jpg
  SRC/annotations/trainval.txt             Abyssinian_100 1 1 1: picture, class from 1, species, breed
  SRC/annotations/test.txt
  SRC/annotations/xmls/Abyssinian_1.xml    optional: boxes of heads, for nearly all of trainval

A class is named as its files are, and its number is one less than in the tables. A head's box is (ymin, xmin, ymax,
xmax) by the size that its xml tells, with what the xml says of truncated and difficult.

Terms: CC BY-SA 4.0.
"""
LICENCE = "CC BY-SA 4.0 (robots.ox.ac.uk/~vgg/data/pets)"
MAX_XML = 1 << 16


def find(src: str) -> Published:
    folder = open_folder(src)
    boxed = set(folder.files("annotations/xmls"))
    folder.need("images")
    splits, names = [], dict[int, str]()
    for split, table, expected in (("train", "trainval.txt", 3_680), ("test", "test.txt", 3_669)):
        items, boxes = [], []
        for line in sorted(folder.lines(folder.need(f"annotations/{table}"))):
            if not (match := re.fullmatch(r"((\S+)_\d+)\s+([0-9]{1,4})\s.*", line)) or match[3] == "0":
                raise LayoutError(
                    f"{folder.said(f'annotations/{table}')} has a line that is not such as Abyssinian_1 1 1 1: "
                    f"{printable(line[:60])}"
                )
            stem, name, label = match[1], match[2], int(match[3]) - 1
            if names.setdefault(label, name) != name:
                raise LayoutError(f"{folder.said()}: class {label + 1} is both {names[label]} and {printable(name)}")
            items.append(Item(f"{printable(stem)}.jpg", f"images/{stem}.jpg", Record(b"", label)))
            if f"{stem}.xml" in boxed:
                boxes.append(f"{printable(stem)}.jpg")
        heads = frozenset(boxes)
        splits.append(Split(split, [Heads(unit, heads) for unit in in_units(split, folder, items)], expected))
    classes = tuple(printable(names.get(i, str(i + 1))) for i in range(max(names) + 1))
    return Published(tuple(splits), classes, Vocabulary(objects=("head",)), LICENCE)


@dataclass(frozen=True)
class Heads:
    """Pictures, and the boxes of those that have some."""

    pictures: Pictures
    boxed: frozenset[str]

    @property
    def name(self) -> str:
        return self.pictures.name

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        for key, record in self.pictures:
            yield key, record._replace(objects=_heads(self.pictures.folder, key)) if key in self.boxed else record


def _heads(folder: AnyFolder, key: str) -> Objects | None:
    """None, if the xml is not as it should be, or gone. Raises: OSError, if it cannot be read."""
    try:
        with folder.open(f"annotations/xmls/{key[:-4]}.xml") as file:
            text = file.read(MAX_XML)
        if b"<!" in text:  # no entities, which may unpack to anything
            return None
        root = ElementTree.fromstring(text)
        height, width = (float(root.findtext(f"size/{side}", "")) for side in ("height", "width"))
        boxes, flags = [], []
        for each in root.iter("object"):
            x0, y0, x1, y1 = (float(each.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append((y0 / height, x0 / width, y1 / height, x1 / width))
            flags.append(
                TRUNCATED * (each.findtext("truncated") == "1") + DIFFICULT * (each.findtext("difficult") == "1")
            )
        return clipped(boxes, [0] * len(boxes), flags)
    except (FileNotFoundError, ElementTree.ParseError, ValueError, ArithmeticError):
        return None
