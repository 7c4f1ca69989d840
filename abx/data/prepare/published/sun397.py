"""SUN397: pictures of 397 kinds of place."""

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import Item, in_units, open_folder
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
SUN397: 397 classes. Ten partitions are published, each of 50 pictures a class to train and 50 to test; read is the
first, 19,850 and 19,850. From vision.princeton.edu/projects/2010/SUN: SUN397.tar.gz and Partitions.zip, unpacked.

  SRC/SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg     SRC may be SUN397 itself
  SRC/SUN397/ClassName.txt                        /a/abbey, a line each, in the order of the classes
  SRC/SUN397/Training_01.txt                      /a/abbey/sun_aaalbzqrimafwbiv.jpg, a line each
  SRC/SUN397/Testing_01.txt                       tables also in SRC, or in Partitions in either

A class is named without the slash and the letter: abbey, apartment_building/outdoor.

Terms: research use; the pictures are their owners'.
"""
LICENCE = "research use; the pictures are their owners' (Xiao and others, 2010)"
PARTITION = "01"


def find(src: str) -> Published:
    top = open_folder(src)
    folder = top.below("SUN397")
    # The tables may lie above the pictures: they come in a file of their own.
    holder = top if folder != top and not folder.has("ClassName.txt") and not folder.has("Partitions") else folder
    lists = holder.below("Partitions")
    names = [name.strip("/") for name in lists.lines(lists.need("ClassName.txt"))]
    numbers = {name: label for label, name in enumerate(names)}
    splits = []
    for split, table in (("train", f"Training_{PARTITION}.txt"), ("test", f"Testing_{PARTITION}.txt")):
        items = []
        for line in sorted(lists.lines(lists.need(table))):
            path = line.strip("/")
            label = numbers.get(path.rpartition("/")[0])
            if label is None:
                raise LayoutError(f"{lists.said(table)} names {printable(line[:80])}, of no class of ClassName.txt")
            items.append(Item(printable(path), path, Record(b"", label)))
        splits.append(Split(split, in_units(split, folder, items), 19_850))
    return Published(tuple(splits), tuple(printable(name.partition("/")[2] or name) for name in names), licence=LICENCE)
