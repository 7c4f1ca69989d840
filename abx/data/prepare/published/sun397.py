"""SUN397: pictures of 397 kinds of place."""

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import AnyFolder, open_folder
from abx.data.prepare.units import Item, in_units
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
SUN397: 397 classes. Ten partitions are published, each of 50 pictures a class to train and 50 to test; read is the
first, 19,850 and 19,850. From vision.princeton.edu/projects/2010/SUN: SUN397.tar.gz and Partitions.zip, unpacked.

  SRC/SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg     SRC may be SUN397 itself
  SRC/SUN397/ClassName.txt                        /a/abbey, a line each, in the order of the classes
  SRC/SUN397/Training_01.txt                      /a/abbey/sun_aaalbzqrimafwbiv.jpg, a line each
  SRC/SUN397/Testing_01.txt                       each table also in SRC, or in Partitions in either

A class is named without the slash and the letter: abbey, apartment_building/outdoor.

Terms: research use; the pictures are their owners'.
"""
LICENCE = "research use; the pictures are their owners' (Xiao and others, 2010)"
PARTITION = "01"


def find(src: str) -> Published:
    top = open_folder(src)
    folder = top.below("SUN397")
    classes, table = _table(top, folder, "ClassName.txt")
    names = [name.strip("/") for name in classes.lines(table)]
    numbers = {name: label for label, name in enumerate(names)}
    splits = []
    for split, name in (("train", f"Training_{PARTITION}.txt"), ("test", f"Testing_{PARTITION}.txt")):
        items = []
        lists, table = _table(top, folder, name)
        for line in sorted(lists.lines(table)):
            path = line.strip("/")
            label = numbers.get(path.rpartition("/")[0])
            if label is None:
                raise LayoutError(f"{lists.said(table)} names {printable(line[:80])}, of no class of ClassName.txt")
            items.append(Item(printable(path), path, Record(b"", label)))
        splits.append(Split(split, in_units(split, folder, items), 19_850))
    return Published(tuple(splits), tuple(printable(name.partition("/")[2] or name) for name in names), licence=LICENCE)


def _table(top: AnyFolder, folder: AnyFolder, name: str) -> tuple[AnyFolder, str]:
    """Where a table lies: the pictures come with the names of the classes, and the partitions in a file of their own.

    Raises: LayoutError.
    """
    for holder in (folder, top):
        for place in (name, f"Partitions/{name}"):
            if holder.has(place):
                return holder, place
    return folder, folder.need(name, f"Partitions/{name}")
