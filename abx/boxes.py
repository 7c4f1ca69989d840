"""Boxes `(y0, x0, y1, x1)` and what can be done with them. Numpy in, numpy out; jax in, jax out."""

import math
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int

from abx.types import AnyArray


def random_box(
    rng: np.random.Generator,
    hw: tuple[int, int],
    scale: tuple[float, float] = (0.05, 0.5),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Float[np.ndarray, "4"]:
    """The box of a random resized crop, by torchvision's law (METHODS A-18).

    Area uniform in `scale` of the image, width / height log-uniform in `ratio`, both rounded to whole pixels, place
    uniform over the pixels; ten tries, then the largest central box whose ratio is in range. The edges lie on pixel
    boundaries, so `box * (h, w, h, w)` are whole numbers: the crop is exactly the box.

    Args:
        hw: height and width of the image in pixels, each at least 1.
        scale: smallest and largest share of the image's area, 0 < low <= high <= 1.
        ratio: smallest and largest width / height in pixels.

    Returns: float32 `(y0, x0, y1, x1)` in [0, 1] of the image.
    """
    height, width = hw
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        # Python's own numbers: numpy's take several times as long one by one, and their exp depends on the processor.
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(log_low + (log_high - log_low) * rng.random())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            y, x = int((height - h + 1) * rng.random()), int((width - w + 1) * rng.random())
            break
    else:
        w, h = width, height
        if width / height < ratio[0]:
            h = max(1, round(width / ratio[0]))
        elif width / height > ratio[1]:
            w = max(1, round(height * ratio[1]))
        y, x = (height - h) // 2, (width - w) // 2
    return np.array([y / height, x / width, (y + h) / height, (x + w) / width], np.float32)


def relative_boxes(boxes: Float[AnyArray, "*b n 4"]) -> Float[AnyArray, "*b n n 4"]:
    """The actions of the paper (§3.1): out[..., i, j, :] is box j in the frame of box i; box i itself is (0, 0, 1, 1).

    Boxes must have positive height and width. A target outside its source, the normal case, has coordinates outside
    [0, 1]: with crops of 5 to 50 % of the area they reach about [-4, 5] (METHODS §2.6).
    """
    xp = boxes.__array_namespace__()
    corner = boxes[..., :, None, :2]
    size = boxes[..., :, None, 2:] - corner
    target = boxes[..., None, :, :]
    return _array(xp.concat([(target[..., :2] - corner) / size, (target[..., 2:] - corner) / size], axis=-1))


def flip(actions: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "*b 4"]:
    """The same boxes in the mirrored frame (left and right swapped): x becomes 1 - x. Its own inverse."""
    xp = actions.__array_namespace__()
    y0, x0, y1, x1 = (actions[..., c] for c in range(4))
    return _array(xp.stack([y0, 1 - x1, y1, 1 - x0], axis=-1))


def quantize(
    boxes: Float[AnyArray, "*b 4"], bins: int = 512, low: float = -4.0, high: float = 5.0
) -> Int[AnyArray, "*b 4"]:
    """Coordinates as token ids in [0, bins): floor((u - low) / (high - low) * bins); outside [low, high] the edge bin.

    The paper says "four discretized tokens" and gives neither bins nor range: 512 on [-4, 5] is our choice (METHODS
    A-10). A bin is 0.0176 of the source's side, a quarter of a 16-pixel patch at 224.
    """
    xp = boxes.__array_namespace__()
    return _array(xp.clip(xp.floor((boxes - low) / (high - low) * bins), 0, bins - 1).astype(np.int32))


def iou(a: Float[AnyArray, "*b 4"], b: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "*b"]:
    """Intersection over union of corresponding boxes, in [0, 1]; 0 where both are empty."""
    xp = a.__array_namespace__()
    sides = xp.clip(xp.minimum(a[..., 2:], b[..., 2:]) - xp.maximum(a[..., :2], b[..., :2]), 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    union = _area(a) + _area(b) - intersection
    return _array(xp.where(union > 0, intersection / xp.where(union > 0, union, xp.ones_like(union)), 0 * union))


def _area(box: AnyArray) -> Any:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])


def _array(x: Any) -> AnyArray:
    """The array namespaces are untyped; this is where their results become arrays again for the type checker."""
    return cast(AnyArray, x)
