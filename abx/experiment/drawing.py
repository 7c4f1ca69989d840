"""The pictures that a run leaves: the views it begins with, and what it expects of moving about."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.analysis.pictures import draw_value_map, draw_views
from abx.analysis.value_map import value_map
from abx.data import loader
from abx.data.images import crop_resize
from abx.data.sources import Source
from abx.data.streams import Data
from abx.data.texts import Texts
from abx.methods.ab import AB
from abx.types import ABBatch, Pairs, Views


def draw_first_views(path: Path, data: Data, sources: dict[str, Source], first: loader.Loaded) -> None:
    """The crops of the first batch on the pictures they were cut from; of two streams, the value's."""
    name, index = next(reversed(first.records.items()))
    part, rows = data.part(first.batch, name), min(4, len(index))
    pictures = [sources[name][int(i)].image for i in index[:rows]]
    kinds = jax.tree.leaves(part, is_leaf=lambda x: isinstance(x, Views))
    cut = [Views(kind.images[:rows], kind.boxes[:rows]) for kind in kinds if isinstance(kind, Views)]
    save_png(draw_views(pictures, *cut), path)


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
    texts: Texts | None,
) -> None:
    """The value map of a picture seen from `box`, with annotations from the reward part of `batch`."""
    source = on_pixels(box, picture.shape[0], picture.shape[1])
    view = crop_resize(picture, source, batch.value.images.shape[2])
    found = value_map(method, model, carry, view, source, batch.reward)
    looks = [annotation_look(batch.reward, int(i), texts) for i in found.chosen]
    title = f"{path.parent.name}: what moving is worth"
    save_png(draw_value_map(picture, source, found.boxes, found.values, looks, found.rewards, title=title), path)


def annotation_look(annotated: Any, i: int, texts: Texts | None) -> UInt8[np.ndarray, "h w 3"] | str:
    """What annotation i of a reward batch looks like, or says.

    Args:
        annotated: as the base method takes it: images with texts, two views (the second is the annotation), or
            multi-crops, whose base has prototypes of its own.
    """
    if isinstance(annotated, Pairs) and texts is not None:
        return texts.decode(np.asarray(annotated.text[i]))
    return np.asarray(annotated.images[i, 1]) if isinstance(annotated, Views) else f"prototype {i}"


def on_pixels(box: tuple[float, float, float, float], height: int, width: int) -> Float[np.ndarray, "4"]:
    """The box to the nearest pixel edges, around one pixel at least: what is seen is then exactly what is said."""
    sides = np.array([height, width])
    low = np.minimum(np.rint(np.array(box[:2]) * sides), sides - 1)
    high = np.maximum(np.rint(np.array(box[2:]) * sides), low + 1)
    return np.concatenate([low / sides, high / sides]).astype(np.float32)


def save_png(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="PNG")
