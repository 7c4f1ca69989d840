"""Food-101: pictures of 101 dishes."""

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import open_folder
from abx.data.prepare.units import Item, in_units
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
Food-101: 101 dishes, 75,750 pictures to train and 25,250 to test. From data.vision.ee.ethz.ch/cvl/datasets_extra/
food-101: food-101.tar.gz, unpacked.

  SRC/food-101/images/apple_pie/1005649.jpg     SRC may be food-101 itself
  SRC/food-101/meta/classes.txt                 the classes, in the order of their numbers
  SRC/food-101/meta/train.txt                   apple_pie/1005649, a line each
  SRC/food-101/meta/test.txt

Terms: the pictures are Foodspotting's; scientific fair use.
"""
LICENCE = "scientific fair use; the pictures are Foodspotting's (see license_agreement.txt)"


def find(src: str) -> Published:
    folder = open_folder(src).below("food-101")
    classes = folder.lines(folder.need("meta/classes.txt"))
    numbers = {name: label for label, name in enumerate(classes)}
    folder.need("images")
    splits = []
    for split, expected in (("train", 75_750), ("test", 25_250)):
        table = folder.need(f"meta/{split}.txt")
        items = []
        for line in sorted(folder.lines(table)):
            name = line.partition("/")[0]
            if name not in numbers:
                raise LayoutError(f"{folder.said(table)} names {printable(line[:80])}, which meta/classes.txt does not")
            items.append(Item(f"{printable(line)}.jpg", f"images/{line}.jpg", Record(b"", numbers[name])))
        splits.append(Split(split, in_units(split, folder, items), expected))
    return Published(tuple(splits), tuple(map(printable, classes)), licence=LICENCE)
