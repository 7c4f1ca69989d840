"""NWPU-RESISC45: aerial pictures of 45 kinds of scene."""

import re

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import open_folder
from abx.data.prepare.units import Item, in_units
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
NWPU-RESISC45: 45 classes of 700 aerial pictures each. From the page of Gong Cheng (Northwestern Polytechnical
University): NWPU-RESISC45.rar, unpacked.

  SRC/NWPU-RESISC45/airplane/airplane_001.jpg     SRC may be NWPU-RESISC45 itself

The data set is published in one part. VTAB divides it 60:20:20 in an order of its own, so we have a rule of ours, by
the number in the name: of every five, those with remainders 1, 2 and 3 are train, 4 is val, 0 is test; 18,900, 6,300
and 6,300. Accuracies compare with VTAB's but for that. Files that are not named by class and number are passed over.

Terms: free for research; no licence is stated.
"""
LICENCE = "no licence stated; published for research (Cheng, Han and Lu, 2017)"
_SPLITS = {"train": (1, 2, 3), "val": (4,), "test": (0,)}
"""Remainders of the number in a name, divided by five."""


def find(src: str) -> Published:
    folder = open_folder(src).below("NWPU-RESISC45")
    classes = folder.folders()
    found: dict[int, list[Item]] = {}
    for label, name in enumerate(classes):
        for file in folder.files(name):
            if match := re.fullmatch(rf"{re.escape(name)}_([0-9]+)\.jpg", file, re.IGNORECASE):
                item = Item(printable(f"{name}/{file}"), f"{name}/{file}", Record(b"", label))
                found.setdefault(int(match[1]) % 5, []).append(item)
    if not found:
        raise LayoutError(f"{folder.said()} has no pictures such as airplane/airplane_001.jpg")
    splits = []
    for split, remainders in _SPLITS.items():
        items = sorted(item for remainder in remainders for item in found.get(remainder, ()))
        splits.append(Split(split, in_units(split, folder, items), 45 * 140 * len(remainders)))
    return Published(tuple(splits), tuple(map(printable, classes)), licence=LICENCE)
