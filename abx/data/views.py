"""From a picture to its crops: random resized crops of one decoded picture, of one kind or two, and their boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from abx import boxes
from abx.data import overlap
from abx.data.images import Cut, Picture
from abx.data.resizing import Resize, missing
from abx.types import MultiCrop, Stored, Views, WeakStrong

MAX_SIZE = 4096


@runtime_checkable
class Crops(Protocol):
    """How an image is cut into views, of one kind or of several."""

    def kinds(self) -> "dict[str, RandomCrops]":
        """Each kind, by what follows the flag of the whole in its flag: "" where there is but one."""

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
        """Where the views of an image of `hw` pixels are cut: the boxes of each kind."""

    def join(self, views: Sequence[Views]) -> Any:
        """The kinds of views as a method takes them."""

    def problems(self, name: str) -> list[str]:
        """What is wrong with the numbers; `name` is the flag they stand under."""


def views_per_image(crops: Crops) -> int:
    """Views of an image, of all kinds together."""
    return sum(kind.n for kind in crops.kinds().values())


def mean_iou(crops: Crops, images: int = 200) -> float:
    """Mean IoU of the first view of an image with each of its others, over so many images of 3 x 4 (simulated).

    Returns: NaN where an image has one view.
    """
    rng, found = np.random.default_rng(0), []
    for _ in range(images):
        first, *others = np.concatenate(crops.place((480, 640), rng))
        found += [float(boxes.iou(first, other)) for other in others]
    return float(np.mean(found)) if found else math.nan


def cut(
    crops: Crops,
    image: Stored,
    rng: np.random.Generator,
    out: Sequence[UInt8[np.ndarray, "_ _ _ 3"] | None] | None = None,
) -> list[Views]:
    """The views of one image, each kind without a batch axis: images "n size size 3", boxes "n 4". It is decoded once.

    Args:
        image: pixels, or the bytes of a picture file.
        out: where to write the images of each kind, if they have their place already.

    Raises: BadImage.
    """
    picture, kinds = Picture(image), list(crops.kinds().values())
    placed = crops.place((picture.height, picture.width), rng)
    places = [None] * len(kinds) if out is None else out
    cuts = [Cut(b, kind.size, kind.resize, o) for b, kind, o in zip(placed, kinds, places, strict=True)]
    return [Views(images, b) for images, b in zip(picture.cut(cuts), placed, strict=True)]


@dataclass(frozen=True)
class RandomCrops:
    """n random resized crops of each image."""

    n: int = 4
    """Views cut from each image."""
    size: int = 224
    """Side of a view in pixels, after resizing; a multiple of the patch."""
    scale: tuple[float, float] = (0.05, 0.5)
    """Smallest and largest area of a crop, as a share of the image's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a crop."""
    resize: Resize = "bilinear"
    """How a crop becomes a view, antialiased where it shrinks. bilinear (torchvision's default) and bicubic (DINO, MAE)
    are Pillow's. fast-bilinear is OpenCV's: nearly the same pixels (half a grey level off on average) in a fraction of
    the time; pip install 'annotation-bootstrapping[fast]', which also brings a faster decoder of JPEGs."""
    overlap: float = 0.0
    """How the crops of an image lie to each other (paper, Figure 4 middle): 0 = independently; above, all lie near the
    first, below, away from it, each alone as likely as ever. With crops of 0.05 to 0.5 of the area and n = 2 the mean
    IoU is 0.13 at -20, 0.26 at 0, 0.45 at 6, 0.62 at 15."""

    def problems(self, name: str) -> list[str]:
        """What is wrong with these numbers; `name` is the flag they stand under."""
        found = []
        if self.n < 1:
            found.append(f"{name}.n must be at least 1, not {self.n}")
        if not 1 <= self.size <= MAX_SIZE:
            found.append(f"{name}.size must be from 1 to {MAX_SIZE}, not {self.size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            found.append(f"{name}.scale must be 0 < low <= high <= 1, not {self.scale[0]} {self.scale[1]}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            found.append(f"{name}.ratio must be 0 < low <= high, not {self.ratio[0]} {self.ratio[1]}")
        if lacking := missing(self.resize):
            found.append(f"{name}.resize {lacking}")
        if not abs(self.overlap) <= overlap.LIMIT:
            found.append(f"{name}.overlap must be from -{overlap.LIMIT:g} to {overlap.LIMIT:g}, not {self.overlap}")
        return found

    def kinds(self) -> "dict[str, RandomCrops]":
        return {"": self}

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
        if not self.overlap or self.n < 2:
            return [np.stack([self.box(hw, rng) for _ in range(self.n)])]
        draw = partial(self.box, hw, rng)
        first, others = overlap.near(draw, [draw] * (self.n - 1), self.overlap, rng)
        return [np.stack([first, *others])]

    def box(self, hw: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "4"]:
        """One such box."""
        return boxes.random_box(rng, hw, self.scale, self.ratio)

    def join(self, views: Sequence[Views]) -> Views:
        (only,) = views
        return only

    def __call__(self, image: Stored, rng: np.random.Generator) -> Views:
        """The views of one image, without a batch axis; see `cut`."""
        return self.join(cut(self, image, rng))


@dataclass(frozen=True)
class MultiCrops:
    """DINO's multi-crop: a few large crops of each image, and many small ones at a lower resolution."""

    globals: RandomCrops = field(default_factory=lambda: RandomCrops(2, 224, (0.4, 1.0), resize="bicubic"))
    """Crops that both networks see."""
    locals: RandomCrops = field(default_factory=lambda: RandomCrops(8, 96, (0.05, 0.4), resize="bicubic"))
    """Crops that the online network alone sees; n = 0 leaves them out. (The paper prints a scale of 0.05 to 0.04.)"""
    overlap: float = 0.0
    """How all other crops lie to the first large one (paper, Figure 4 middle); see `RandomCrops.overlap`."""

    def kinds(self) -> dict[str, RandomCrops]:
        return {".globals": self.globals, ".locals": self.locals}

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
        if not self.overlap:
            return [box for kind in (self.globals, self.locals) for box in _place(kind, hw, rng)]
        large, small = (partial(kind.box, hw, rng) for kind in (self.globals, self.locals))
        n, m = self.globals.n, self.locals.n
        first, others = overlap.near(large, [large] * (n - 1) + [small] * m, self.overlap, rng)
        return [np.stack([first, *others[: n - 1]]), np.array(others[n - 1 :], np.float32).reshape(m, 4)]

    def join(self, views: Sequence[Views]) -> MultiCrop:
        return MultiCrop(*views)

    def problems(self, name: str) -> list[str]:
        found = self.globals.problems(f"{name}.globals")
        if self.locals.n:
            found += self.locals.problems(f"{name}.locals")
        for kind, own in (("globals", self.globals.overlap), ("locals", self.locals.overlap)):
            if own:
                found.append(f"{name}.{kind}.overlap must be 0 here, not {own}: {name}.overlap is for both kinds")
        if not abs(self.overlap) <= overlap.LIMIT:
            found.append(f"{name}.overlap must be from -{overlap.LIMIT:g} to {overlap.LIMIT:g}, not {self.overlap}")
        return found


@dataclass(frozen=True)
class WeakStrongCrops:
    """Crops for weak and for strong augmentation (CLIP+Aug, after Fini et al. 2023)."""

    weak: RandomCrops = field(default_factory=lambda: RandomCrops(1, 224, (0.5, 1.0)))
    """As CLIP's."""
    strong: RandomCrops = field(default_factory=lambda: RandomCrops(2, 224, (0.08, 1.0)))
    """As SimCLR's."""

    def kinds(self) -> dict[str, RandomCrops]:
        return {".weak": self.weak, ".strong": self.strong}

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
        return [box for kind in (self.weak, self.strong) for box in _place(kind, hw, rng)]

    def join(self, views: Sequence[Views]) -> WeakStrong:
        return WeakStrong(*views)

    def problems(self, name: str) -> list[str]:
        return self.weak.problems(f"{name}.weak") + self.strong.problems(f"{name}.strong")


def _place(crops: RandomCrops, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
    return crops.place(hw, rng) if crops.n else [np.zeros((0, 4), np.float32)]
