"""The pictures that a run leaves: the views it begins with, and what it expects of moving about."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.analysis.pictures import draw_value_map, draw_views
from abx.analysis.value_map import value_map
from abx.data import loader
from abx.data.images import crop_resize
from abx.data.sources import Source
from abx.data.streams import Data
from abx.methods.ab import AB
from abx.types import ABBatch, Views


def draw_first_views(path: Path, data: Data, sources: dict[str, Source], first: loader.Loaded) -> None:
    """The crops of the first batch on the pictures they were cut from; of two streams, the value's."""
    name, index = next(reversed(first.records.items()))
    views: Views = data.part(first.batch, name)
    rows = min(4, len(index))
    pictures = [sources[name][int(i)].image for i in index[:rows]]
    save_png(draw_views(pictures, Views(views.images[:rows], views.boxes[:rows])), path)


MIDDLE = (0.25, 0.25, 0.75, 0.75)
"""Where the run's own value map stands in its picture."""


def draw_map(
    path: Path,
    method: AB[Any],
    model: Any,
    carry: Any,
    picture: UInt8[np.ndarray, "h w 3"],
    box: tuple[float, float, float, float],
    batch: ABBatch,
) -> None:
    """The value map of a picture seen from `box`, with annotations from the reward part of `batch`."""
    source = on_pixels(box, picture.shape[0], picture.shape[1])
    view = crop_resize(picture, source, batch.value.images.shape[2])
    found = value_map(method, model, carry, view, source, batch.reward)
    thumbs = [np.asarray(batch.reward.images[i, 1]) for i in found.chosen]
    title = f"{path.parent.name}: what moving is worth"
    save_png(draw_value_map(picture, source, found.boxes, found.values, thumbs, found.rewards, title=title), path)


def on_pixels(box: tuple[float, float, float, float], height: int, width: int) -> Float[np.ndarray, "4"]:
    """The box to the nearest pixel edges, around one pixel at least: what is seen is then exactly what is said."""
    sides = np.array([height, width])
    low = np.minimum(np.rint(np.array(box[:2]) * sides), sides - 1)
    high = np.maximum(np.rint(np.array(box[2:]) * sides), low + 1)
    return np.concatenate([low / sides, high / sides]).astype(np.float32)


def save_png(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
