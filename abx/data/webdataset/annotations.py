"""What is known of a picture: captions from a `.txt`, the class from a `.cls`, the rest from a `.json`."""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from abx.data.sources import printable
from abx.types import CROWD, DIFFICULT, TRUNCATED, Objects

MAX_TEXT = 1 << 20
"""Bytes of captions that are read; the rest is cut off."""
MAX_JSON = 1 << 24
"""Longer annotations are cut off, and so cannot be parsed."""
MAX_CLASSES = 1_000_000
MAX_CLASS = 64
"""Bytes of a `.cls` that are read."""
MAX_WORD = 100
"""Characters of a verb or a noun; what is longer is none."""

FLAGS = {"iscrowd": CROWD, "difficult": DIFFICULT, "truncated": TRUNCATED}


class BadAnnotations(ValueError):
    """The `.json` of a sample cannot be used, and so the sample is left out; the message is the reason."""


class Annotations(NamedTuple):
    """What a `.json` says. What it does not say, or says in another type, is left as it is here."""

    captions: tuple[str, ...] = ()
    """`captions`, a list of strings; else `caption`, a string."""
    objects: Objects | None = None
    """`boxes` [[y0, x0, y1, x1], ...] in [0, 1], as many `labels`, and as many of each of `FLAGS` that is there.
    Without the key `labels` the boxes are of no class in particular, and all are labelled 0."""
    count: int = -1  # type: ignore[assignment]  # hides tuple.count
    distance: float = float("nan")
    """`distance`; else the least third `pixel_coords` of the `objects`, as CLEVR's scenes have it."""
    verb: int | str = -1
    """A number or a word."""
    noun: int | str = -1

    def worth_reading(self, captions: bool) -> bool:
        """Whether anything is said, captions counting only where there are none beside the picture (`captions`)."""
        numbers = self.count >= 0 or self.distance == self.distance or self.verb != -1 or self.noun != -1
        return numbers or self.objects is not None or (bool(self.captions) and not captions)


def class_of(text: bytes) -> int | None:
    """What a `.cls` says: a decimal number, -1 for none. None, if it is no number from there to `MAX_CLASSES` - 1."""
    word = text.strip()
    if re.fullmatch(rb"\d{1,9}", word) and int(word) < MAX_CLASSES:
        return int(word)
    return -1 if word == b"-1" else None


def no_class(text: bytes) -> str:
    """The reason where `class_of` has none."""
    return f"its class is no number from 0 to {MAX_CLASSES - 1}: {text.strip()[:20]!r}"


def captions(text: bytes) -> tuple[str, ...]:
    """One a line, blank lines left out; bytes that are no UTF-8 become the replacement character."""
    return _filled(text.decode("utf-8", "replace").split("\n"))


def parse(text: bytes) -> Annotations:
    """Raises: BadAnnotations, if it is no JSON, or its boxes, their labels or their flags are unsound."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadAnnotations("its .json cannot be parsed") from error
    if not isinstance(said, dict):
        return Annotations()
    return Annotations(
        _captions(said),
        _objects(said) if "boxes" in said else None,
        _number(said.get("count")),
        _distance(said["distance"]) if "distance" in said else _nearest(said.get("objects")),
        _word(said.get("verb")),
        _word(said.get("noun")),
    )


def _objects(said: dict[str, Any]) -> Objects:
    """A box that sticks out is clipped. Coordinates more than a picture's side outside are pixels or mistakes.

    Raises: BadAnnotations, unless every box has an area inside the picture, and a label and flags that are numbers.
    """
    boxes = said["boxes"]
    try:
        array = np.array(boxes, np.float64) if boxes else np.zeros((0, 4))
    except (ValueError, TypeError, OverflowError) as error:
        raise BadAnnotations("its boxes are no lists of four numbers") from error
    if not isinstance(boxes, list) or array.shape != (len(boxes), 4):
        raise BadAnnotations("its boxes are no lists of four numbers")
    if not np.all((array >= -1) & (array <= 2)):  # also for NaN
        raise BadAnnotations("its boxes are not in [0, 1] of the picture")
    inside = array.clip(0, 1).astype(np.float32)
    if not np.all(inside[:, :2] < inside[:, 2:]):
        raise BadAnnotations("one of its boxes has no area inside the picture")
    labels = said.get("labels", [0] * len(inside))
    if not isinstance(labels, list) or any(_number(label) < 0 for label in labels):
        raise BadAnnotations(f"the labels of its boxes are no numbers from 0 to {MAX_CLASSES - 1}")
    if len(labels) != len(inside):
        raise BadAnnotations(f"it has {len(inside)} boxes and {len(labels)} labels")
    return Objects(inside, np.array(labels, np.int64), _flags(said, len(inside)))


def _flags(said: dict[str, Any], count: int) -> np.ndarray | None:
    """(count,) uint8, or None if there are no `FLAGS`. Raises: BadAnnotations."""
    flags = np.zeros(count, np.uint8)
    names = [name for name in FLAGS if name in said]
    for name in names:
        each = said[name]
        # True and False too, which equal 1 and 0.
        if not isinstance(each, list) or len(each) != count or not all(x in (0, 1) for x in each):
            raise BadAnnotations(f"its {name} is no list of a 0 or 1 for each of its {count} boxes")
        flags |= FLAGS[name] * np.array(each, np.uint8)
    return flags if names else None


def _captions(said: dict[str, Any]) -> tuple[str, ...]:
    many, one = said.get("captions"), said.get("caption")
    if isinstance(many, list):
        return _filled(caption for caption in many if isinstance(caption, str))
    return _filled([one]) if isinstance(one, str) else ()


def _filled(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())


def _number(value: Any) -> int:
    """-1 for what is no whole number from 0 to `MAX_CLASSES` - 1."""
    return value if type(value) is int and 0 <= value < MAX_CLASSES else -1


def _distance(value: Any) -> float:
    return float(value) if type(value) in (int, float) and abs(value) < 1e30 else float("nan")


def _nearest(objects: Any) -> float:
    """Of the objects of one of CLEVR's scenes, whose third pixel coordinate is the distance."""
    try:
        return min((_distance(each["pixel_coords"][2]) for each in objects), default=float("nan"))
    except (TypeError, KeyError, IndexError):
        return float("nan")


def _word(value: Any) -> int | str:
    if isinstance(value, str) and 0 < len(word := printable(value.strip())) <= MAX_WORD:
        return word
    return _number(value)
