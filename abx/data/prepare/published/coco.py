"""COCO 2017: everyday scenes with boxes of 80 classes and five captions each."""

from collections.abc import Iterable
from typing import Any

from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.objects import clipped
from abx.data.prepare.reading import open_folder
from abx.data.prepare.units import Item, in_units
from abx.data.sources import printable
from abx.types import CROWD, Objects, Record, Vocabulary

ABOUT = """\
COCO 2017: 118,287 pictures to train and 5,000 to validate, boxes of 80 classes, five captions. From cocodataset.org:
train2017.zip, val2017.zip and annotations_trainval2017.zip, unpacked.

  SRC/train2017/000000000009.jpg              or SRC/images/train2017/
  SRC/val2017/000000000139.jpg
  SRC/annotations/instances_train2017.json    instances_val2017.json
  SRC/annotations/captions_train2017.json     captions_val2017.json; optional

Boxes are cut to the picture, and those without an area are left out. Classes are numbered 0 to 79 in the order of
COCO's own numbers, which have gaps. Captions are in the order of their numbers. A split whose folder and annotations
are both missing is passed over.

Terms: annotations CC BY 4.0; the pictures are from Flickr, under the terms of their owners.
"""
LICENCE = "annotations CC BY 4.0 (cocodataset.org); the pictures are Flickr users', under their terms"
_KEYS = frozenset(
    {"images", "annotations", "categories", "id", "name", "file_name", "width", "height"}
    | {"image_id", "category_id", "bbox", "iscrowd", "caption"}
)


def find(src: str) -> Published:
    folder = open_folder(src)
    splits, names = [], dict[int, str]()
    for split, expected in (("train", 118_287), ("val", 5_000)):
        instances = f"annotations/instances_{split}2017.json"
        pictures = [f"{split}2017", f"images/{split}2017"]
        if not folder.has(instances) and not any(map(folder.has, pictures)):
            continue
        where = folder.need(*pictures)
        table = folder.json(folder.need(instances), _KEYS)
        captions = f"annotations/captions_{split}2017.json"
        said = folder.json(captions, _KEYS) if folder.has(captions) else {"annotations": []}
        try:
            here = {int(each["id"]): printable(str(each["name"])) for each in table["categories"]}
            items = _items(where, table, said["annotations"], {id: i for i, id in enumerate(sorted(here))})
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise LayoutError(
                f"{folder.said(instances)}, or the captions beside it, is not as COCO writes it: "
                f"{type(error).__name__} {printable(str(error)[:80])}"
            ) from error
        if names and here != names:
            raise LayoutError(f"{folder.said()}: train and val do not have the same categories: mixed downloads?")
        names = here
        splits.append(Split(split, in_units(split, folder, items), expected))
    if not splits:
        folder.need("annotations/instances_train2017.json", "annotations/instances_val2017.json")
    return Published(
        tuple(splits), vocabulary=Vocabulary(objects=tuple(names[id] for id in sorted(names))), licence=LICENCE
    )


def _items(where: str, table: Any, captions: Iterable[Any], labels: dict[int, int]) -> list[Item]:
    """Every picture of the table, in the order of its file names."""
    boxes: dict[int, list[Any]] = {}
    texts: dict[int, list[str]] = {}
    for each in sorted(table["annotations"], key=lambda each: int(each["id"])):
        boxes.setdefault(each["image_id"], []).append(each)
    for each in sorted(captions, key=lambda each: int(each["id"])):
        texts.setdefault(each["image_id"], []).append(" ".join(str(each["caption"]).split()))
    items = []
    for image in sorted(table["images"], key=lambda image: str(image["file_name"])):
        name = str(image["file_name"])
        objects = _objects(boxes.get(image["id"], []), float(image["height"]), float(image["width"]), labels)
        record = Record(b"", captions=tuple(filter(None, texts.get(image["id"], []))), objects=objects)
        items.append(Item(printable(name), f"{where}/{name}", record))
    return items


def _objects(found: list[Any], height: float, width: float, labels: dict[int, int]) -> Objects:
    boxes = []
    for each in found:
        x, y, w, h = map(float, each["bbox"])
        boxes.append((y / height, x / width, (y + h) / height, (x + w) / width))
    return clipped(
        boxes,
        [labels[each["category_id"]] for each in found],
        [CROWD if each.get("iscrowd") else 0 for each in found],
    )
