"""From a picture to its crops: n random resized crops of one decoded picture, and where each was cut."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from abx import boxes
from abx.data.images import crop_resize
from abx.types import Views


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

    def problems(self, name: str) -> list[str]:
        """What is wrong with these numbers; `name` is the flag they stand under."""
        found = []
        if self.n < 1:
            found.append(f"{name}.n must be at least 1, not {self.n}")
        if self.size < 1:
            found.append(f"{name}.size must be at least 1, not {self.size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            found.append(f"{name}.scale must be 0 < low <= high <= 1, not {self.scale[0]} {self.scale[1]}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            found.append(f"{name}.ratio must be 0 < low <= high, not {self.ratio[0]} {self.ratio[1]}")
        return found

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Views:
        """Views without a batch axis: images "n size size 3", boxes "n 4"."""
        height, width = image.shape[:2]
        placed = [boxes.random_box(rng, (height, width), self.scale, self.ratio) for _ in range(self.n)]
        return Views(np.stack([crop_resize(image, box, self.size) for box in placed]), np.stack(placed))
