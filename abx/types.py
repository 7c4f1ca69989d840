"""The data that flows through abx, and the letters used for its axes.

    b  images in a batch            t  tokens of one view
    n  views (crops) of one image   d  width of a transformer
    i  the view we stand in         e  width of the shared embedding space
    j  the view an action leads to  l  annotations (captions, images, prototypes)
    k  the next action from j       o  objects in a picture
    a  actions that leave a view    h w  pixels

`b` is what this device holds, `l` is what all devices hold together.
Boxes are `(y0, x0, y1, x1)` in [0, 1] of the source image, everywhere.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

AnyArray = Array | np.ndarray
Axis: TypeAlias = str | tuple[str, ...] | None
"""The mesh axes over which a batch is split, as collectives take them; None = one device, no mesh."""

CROWD, DIFFICULT, TRUNCATED = 1, 2, 4
"""Bits of `Objects.flags`: a group under one box (COCO's iscrowd); hard to make out; reaches out of the picture."""


class Objects(NamedTuple):
    """What is in a picture and where."""

    boxes: Float[np.ndarray, "o 4"]
    labels: Int[np.ndarray, " o"]
    flags: UInt8[np.ndarray, " o"] | None = None
    """`CROWD`, `DIFFICULT` and `TRUNCATED`, added up; None where the source says nothing of them."""


Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]
Stored: TypeAlias = bytes | UInt8[np.ndarray, "h w 3"]
"""A picture file's bytes; or pixels, of what is drawn and not read."""


class Sample(NamedTuple):
    """One picture of a data source, decoded and upright, with whatever is known about it."""

    image: Pixels
    label: int = -1
    """Class of the whole picture; -1 when there is none."""
    captions: tuple[str, ...] = ()
    objects: Objects | None = None
    count: int = -1  # type: ignore[assignment]  # hides tuple.count
    """Number of objects; -1 when unknown."""
    distance: float = float("nan")
    """Distance of the closest object, in the source's own unit; NaN when unknown."""
    verb: int = -1
    """Class of what is being done, in a frame of a film; -1 when unknown."""
    noun: int = -1
    """Class of what it is being done to; -1 when unknown."""


class Record(NamedTuple):
    """A `Sample` as it is stored: not decoded, and not yet known to be a picture."""

    image: Stored
    label: int = -1
    captions: tuple[str, ...] = ()
    objects: Objects | None = None
    count: int = -1  # type: ignore[assignment]
    distance: float = float("nan")
    verb: int = -1
    noun: int = -1


class Vocabulary(NamedTuple):
    """Names of the numbers in `Objects.labels`, `Sample.verb` and `Sample.noun`; () where there are none."""

    objects: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()


class Views(NamedTuple):
    """n crops of each image and where each was cut, in [0, 1] of the source."""

    images: UInt8[AnyArray, "*b n h w 3"]
    boxes: Float[AnyArray, "*b n 4"]


class MultiCrop(NamedTuple):
    """Two kinds of crops of the same images: few and large ones, many and small ones (DINO)."""

    globals: Views
    locals: Views


class WeakStrong(NamedTuple):
    """Two kinds of crops of the same images: for weak and for strong augmentation (CLIP+Aug)."""

    weak: Views
    strong: Views


class Pairs(NamedTuple):
    """Views, and one text about each image."""

    views: Any
    """`Views`, or several kinds of them."""
    text: Int[AnyArray, "*b t"]
    """Token ids; after the last of the text, the end token to the end."""


class PairsAndImages(NamedTuple):
    """A batch of images with texts beside one of images alone (SLIP, SiLC)."""

    pairs: Pairs
    images: Any
    """`Views` or `MultiCrop`."""


class ABBatch(NamedTuple):
    """What annotation bootstrapping eats: a batch for the reward, and unlabelled views for the value."""

    reward: Any
    value: Views


class Aux(NamedTuple):
    """What a loss returns beside its scalar."""

    metrics: dict[str, Float[Array, ""]]
    carry: Any = ()
    """What a method keeps between steps, e.g. a running mean."""
