"""From a picture to its crops: n random resized crops of one decoded picture, and where each was cut."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from abx import boxes
from abx.data.images import Picture
from abx.data.resizing import Resize, missing
from abx.types import Stored, Views

MAX_SIZE = 4096


@dataclass(frozen=True)
class RandomCrops:
    """n independent random resized crops of each image."""

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
        return found

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "n 4"]:
        """Where the views of an image of `hw` pixels are cut."""
        return np.stack([boxes.random_box(rng, hw, self.scale, self.ratio) for _ in range(self.n)])

    def __call__(
        self, image: Stored, rng: np.random.Generator, out: UInt8[np.ndarray, "n size size 3"] | None = None
    ) -> Views:
        """Views without a batch axis: images "n size size 3", boxes "n 4".

        Args:
            image: pixels, or the bytes of a picture file.
            out: where to write the images, if they have their place already.

        Raises: BadImage.
        """
        picture = Picture(image)
        placed = self.place((picture.height, picture.width), rng)
        return Views(picture.crops(placed, self.size, self.resize, out), placed)
