"""Boxes as a data set gives them, made `Objects`."""

from collections.abc import Sequence

import numpy as np

from abx.types import Objects


def clipped(boxes: Sequence[Sequence[float]], labels: Sequence[int], flags: Sequence[int] | None = None) -> Objects:
    """Boxes `(y0, x0, y1, x1)` in fractions of the picture, cut to it; those without an area in it are left out."""
    array = np.array(boxes, np.float64).reshape(-1, 4).clip(0, 1).astype(np.float32)
    kept = np.all(array[:, :2] < array[:, 2:], axis=1)  # not for NaN
    marks = None if flags is None else np.array(flags, np.uint8)[kept]
    return Objects(array[kept], np.array(labels, np.int64)[kept], marks)
