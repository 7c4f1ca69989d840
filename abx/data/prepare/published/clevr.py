"""CLEVR 1.0: rendered scenes of simple shapes; how many there are, and how near the nearest is."""

import math
from typing import Any

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.reading import AnyFolder, open_folder
from abx.data.prepare.units import Item, in_units
from abx.data.sources import printable
from abx.types import Record

ABOUT = """\
CLEVR 1.0: 70,000 scenes to train, 15,000 to validate, 15,000 to test. From cs.stanford.edu/people/jcjohns/clevr:
CLEVR_v1.0.zip, unpacked.

  SRC/CLEVR_v1.0/images/train/CLEVR_train_000000.png      also val, test; SRC may be CLEVR_v1.0 itself
  SRC/CLEVR_v1.0/scenes/CLEVR_train_scenes.json           also val

The count is the number of objects, 3 to 10. The distance is that of the closest object from the camera, in the units of
the scene: the smallest third number of `pixel_coords`, as VTAB takes it. Scenes of test are not published: its pictures
have neither.

Terms: CC BY 4.0.
"""
LICENCE = "CC BY 4.0; Facebook, 2017"
_KEYS = frozenset({"scenes", "image_filename", "objects", "pixel_coords"})


def find(src: str) -> Published:
    folder = open_folder(src).below("CLEVR_v1.0")
    splits = []
    for split, expected in (("train", 70_000), ("val", 15_000), ("test", 15_000)):
        if not folder.has(f"images/{split}"):
            continue
        if split == "test":
            items = [Item(printable(name), f"images/test/{name}") for name in folder.files("images/test")]
        else:
            items = _scenes(folder, split, folder.need(f"scenes/CLEVR_{split}_scenes.json"))
        splits.append(Split(split, in_units(split, folder, items), expected))
    if not splits:
        folder.need("images/train", "images/val", "images/test")
    return Published(tuple(splits), licence=LICENCE)


def _scenes(folder: AnyFolder, split: str, table: str) -> list[Item]:
    said = folder.json(table, _KEYS)
    try:
        return [_item(split, scene) for scene in sorted(said["scenes"], key=_file)]
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise LayoutError(
            f"{folder.said(table)} is not as CLEVR writes it: {type(error).__name__} {printable(str(error)[:80])}"
        ) from error


def _file(scene: Any) -> str:
    return str(scene["image_filename"])


def _item(split: str, scene: Any) -> Item:
    objects = scene["objects"]
    distance = min((float(each["pixel_coords"][2]) for each in objects), default=math.nan)
    record = Record(b"", count=len(objects), distance=distance)
    return Item(printable(_file(scene)), f"images/{split}/{_file(scene)}", record)
