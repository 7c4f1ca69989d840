"""From a rectangle of a picture to the square that a network sees, antialiased and by nothing outside the rectangle."""

import math
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.types import Pixels

Resize: TypeAlias = Literal["bilinear", "bicubic", "fast-bilinear"]

MOST_SHRINK = 4
"""By how much OpenCV shrinks at most: its cost grows with the filter, and Pillow's does not."""


def missing(resize: Resize) -> str:
    """What must be installed for it, one sentence; empty if nothing."""
    if resize == "fast-bilinear" and find_spec("cv2") is None:
        return "fast-bilinear needs OpenCV: pip install 'annotation-bootstrapping[fast]', or choose bilinear"
    return ""


def squares(
    picture: Image.Image | Pixels,
    rectangles: Float[np.ndarray, "n 4"],
    resize: Resize,
    views: UInt8[np.ndarray, "n size size 3"],
) -> None:
    """Each rectangle of a picture made a square, written to `views`.

    "fast-bilinear" is OpenCV's: on photographs its views differ from "bilinear", Pillow's, by half a grey level on
    average, by one where a side shrinks by 1.2 to 1.5.

    Args:
        picture: RGB.
        rectangles: y0, x0, y1, x1 in pixels, inside the picture. Where an edge runs through a pixel the filter may look
            at all of that pixel, not at the next.
    """
    size = views.shape[1]
    for view, (y0, x0, y1, x1) in zip(views, rectangles.tolist(), strict=True):
        top, left, bottom, right = math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1)
        # The cut, and where in it: Pillow's resize(box=...) of the whole picture would reach over the edge of the box.
        inside = (x0 - left, y0 - top, x1 - left, y1 - top)
        if isinstance(picture, Image.Image):
            view[:] = _by_pillow(picture.crop((left, top, right, bottom)), inside, size, resize)
            continue
        cut = picture[top:bottom, left:right]
        if resize == "fast-bilinear" and max(y1 - y0, x1 - x0) <= MOST_SHRINK * size:
            _by_opencv(cut, inside, view)
        else:
            view[:] = _by_pillow(Image.fromarray(np.ascontiguousarray(cut)), inside, size, resize)


def _by_pillow(cut: Image.Image, inside: tuple[float, float, float, float], size: int, resize: Resize) -> Pixels:
    how = Image.Resampling.BICUBIC if resize == "bicubic" else Image.Resampling.BILINEAR
    return np.asarray(cut.resize((size, size), how, box=inside))


def _by_opencv(cut: Pixels, inside: tuple[float, float, float, float], view: UInt8[np.ndarray, "size size 3"]) -> None:
    """Pillow's filter is a triangle as wide as the shrink; OpenCV's is a pixel wide, so another goes before it."""
    cv2, size = _opencv(), len(view)
    x0, y0, x1, y1 = inside
    shrink_y, shrink_x = (y1 - y0) / size, (x1 - x0) / size
    if shrink_y > 1 or shrink_x > 1:
        cut = cv2.sepFilter2D(cut, -1, _triangle(shrink_x), _triangle(shrink_y), borderType=cv2.BORDER_REPLICATE)
    if (y1 - y0, x1 - x0) == cut.shape[:2]:
        cv2.resize(cut, (size, size), dst=view, interpolation=cv2.INTER_LINEAR)
    else:
        to_cut = np.array([[shrink_x, 0, x0 + (shrink_x - 1) / 2], [0, shrink_y, y0 + (shrink_y - 1) / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(cut, to_cut, (size, size), dst=view, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _triangle(shrink: float) -> Float[np.ndarray, " taps"]:
    """The filter that, followed by linear interpolation, is the triangle of half-width `shrink`.

    For a whole number of pixels it is so exactly, and changes nothing for one. Between two it is a mixture of theirs:
    the one that comes closest to Pillow's views of photographs (found by trial, `benchmarks/loader.py --accuracy`).
    """
    # Also for an axis that does not shrink, [0, 1, 0]: OpenCV is slower with a single tap.
    k = math.floor(max(shrink, 1))
    t = max(shrink - k, 0)
    w = t * (4 - t) / 3
    narrow, wide = (1 - w) / k**2, w / (k + 1) ** 2
    return np.array([narrow * max(k - abs(x), 0) + wide * (k + 1 - abs(x)) for x in range(-k, k + 1)])


@cache
def _opencv() -> Any:
    cv2 = import_module("cv2")
    # The loader's workers are the threads; OpenCV's own would take the cores of the others.
    cv2.setNumThreads(1)
    return cv2
