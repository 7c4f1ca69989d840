"""SimCLR's photometric augmentation, on the accelerator under jit. Boxes and crops are the host's business.

One float image in [0, 1] in, one out; batches by `jax.vmap`. Every operation clips to [0, 1].
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from abx import parallel
from abx.types import AnyArray, Axis


@dataclass(frozen=True)
class Photometric:
    """Colour jitter, greyscale, blur and flip: SLIP's set for a ViT. What has probability 0 is not computed at all.

    The jitter's four operations come in one order (brightness, contrast, saturation, hue) where torchvision draws an
    order: under vmap drawing it would run all orders.
    """

    jitter: float = 0.8
    """Probability of the colour jitter."""
    brightness: float = 0.4
    """Jitter of brightness: a factor drawn from [1 - x, 1 + x]."""
    contrast: float = 0.4
    """Jitter of contrast: a factor drawn from [1 - x, 1 + x]."""
    saturation: float = 0.4
    """Jitter of saturation: a factor drawn from [1 - x, 1 + x]."""
    hue: float = 0.1
    """Jitter of hue: a shift drawn from [-x, x], where 1 is once round the colour circle."""
    grey: float = 0.2
    """Probability of greyscale."""
    blur: float = 0.5
    """Probability of a Gaussian blur."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of a view 224 pixels wide (scaled to the view's own size)."""
    solarize: float = 0.0
    """Probability of solarization, which inverts what is brighter than one half."""
    flip: float = 0.5
    """Probability of a left-right flip."""

    def problems(self, name: str = "photometric") -> list[str]:
        """What is wrong with these numbers, each with the field to change; `name`: what holds these fields."""
        found = []
        for field in ("jitter", "grey", "blur", "solarize", "flip"):
            if not 0 <= getattr(self, field) <= 1:
                found.append(f"{name}.{field} must be a probability, in [0, 1], not {getattr(self, field)}")
        for field in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, field) <= 1:
                found.append(f"{name}.{field} must be in [0, 1], not {getattr(self, field)}")
        if not 0 <= self.hue <= 0.5:
            found.append(f"{name}.hue must be in [0, 0.5], not {self.hue}")
        if not 0 < self.sigma[0] <= self.sigma[1]:
            found.append(f"{name}.sigma must be 0 < low <= high, not {self.sigma[0]} {self.sigma[1]}")
        return found

    def colour(self, image: Float[Array, "h w 3"], key: PRNGKeyArray) -> Float[Array, "h w 3"]:
        """Everything but the flip: pixels stay where they are."""
        kj, kg, kb, ks, ko = jax.random.split(key, 5)
        if self.jitter:
            image = _maybe(self.jitter, kj, self._jitter(image, kj), image)
        if self.grey:
            image = _maybe(self.grey, kg, _blend(0.0, image, _luma(image)), image)
        if self.blur:
            low, high = self.sigma
            sigma = jax.random.uniform(ks, minval=low, maxval=high) * (image.shape[1] / 224)
            image = _maybe(self.blur, kb, gaussian_blur(image, sigma), image)
        if self.solarize:
            image = _maybe(self.solarize, ko, jnp.where(image > 0.5, 1 - image, image), image)
        return image

    def __call__(
        self, image: UInt8[Array, "h w 3"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "h w 3"], Bool[Array, ""]]:
        """A uint8 image, augmented, as the towers take it (float32 in [-1, 1]), and whether it was flipped.

        Who knows the image's box must flip that too (`boxes.flip`).
        """
        kc, kf = jax.random.split(key)
        x = self.colour(image.astype(jnp.float32) / 255, kc)
        if not self.flip:
            return 2 * x - 1, jnp.zeros((), bool)
        flipped = jax.random.bernoulli(kf, self.flip)
        return 2 * jnp.where(flipped, x[:, ::-1], x) - 1, flipped

    def batch(
        self, images: UInt8[AnyArray, "b n h w 3"], key: PRNGKeyArray, *, axis: Axis = None
    ) -> tuple[Float[Array, "b n h w 3"], Bool[Array, "b n"]]:
        """Every view of a batch, each its own way, the same way however many devices share the batch."""
        b, n = images.shape[:2]
        keys = jax.vmap(lambda row: jax.random.split(row, n))(parallel.row_keys(key, b, axis))
        return jax.vmap(jax.vmap(self))(jnp.asarray(images), keys)

    def _jitter(self, image: Float[Array, "h w 3"], key: PRNGKeyArray) -> Float[Array, "h w 3"]:
        b, c, s, h = jax.random.uniform(jax.random.fold_in(key, 1), (4,), minval=-1, maxval=1)
        image = jnp.clip(image * (1 + self.brightness * b), 0, 1)
        image = _blend(1 + self.contrast * c, image, _luma(image).mean())
        image = _blend(1 + self.saturation * s, image, _luma(image))
        return shift_hue(image, self.hue * h)


GENTLE = Photometric(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, grey=0.1, blur=0.0)
"""For views of 32 pixels, where SLIP's and DINO's sets leave so little to agree on that the loss stays near chance."""
DINO_GLOBAL = Photometric(saturation=0.2, blur=1.0)
"""DINO's augmentation of the first global view (METHODS §1.4)."""
DINO_GLOBAL2 = Photometric(saturation=0.2, blur=0.1, solarize=0.2)
"""Of the second global view: seldom blurred, and the only one that is solarized."""
DINO_LOCAL = Photometric(saturation=0.2, sigma=(0.1 * 224 / 96, 2.0 * 224 / 96))
"""Of the local views. DINO blurs these 96 pixels by as many pixels as the global views' 224."""


def shift_hue(image: Float[Array, "h w 3"], shift: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """Turn the colour circle by `shift` (1 = once round), keeping saturation and value (HSV)."""
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    high, low = image.max(-1), image.min(-1)
    chroma = high - low
    d = jnp.where(chroma > 0, chroma, 1)
    # Which channel leads is asked by order, not by equality with the maximum: XLA may compute a channel twice and round
    # it differently, so that none equals the maximum. At a tie either answer gives the same hue.
    red, green = (r >= g) & (r >= b), g >= b
    sector = jnp.where(red, (g - b) / d, jnp.where(green, 2 + (b - r) / d, 4 + (r - g) / d))
    turned = sector[..., None] + 6 * shift + jnp.array([0.0, 4.0, 2.0])
    # Distance of each channel's own sector from the hue, on a circle of six: the tent function of HSV to RGB.
    tent = jnp.clip(jnp.abs(jnp.mod(turned, 6) - 3) - 1, 0, 1)
    return low[..., None] + chroma[..., None] * tent


def gaussian_blur(image: Float[Array, "h w 3"], sigma: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """Gaussian blur with `sigma` in pixels; at the border the kernel is cut and renormalised."""

    # Two small matmuls: on a CPU sixteen times faster than a convolution with a kernel per image.
    def band(n: int) -> Array:
        place = jnp.arange(n, dtype=jnp.float32)
        distance = place[:, None] - place[None]
        weight = jnp.exp(-0.5 * jnp.square(distance / sigma))
        return weight / weight.sum(1, keepdims=True)

    return jnp.einsum("yh,hwc,xw->yxc", band(image.shape[0]), image, band(image.shape[1]))


def _maybe(p: float, key: PRNGKeyArray, changed: Array, same: Array) -> Array:
    return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 0), p), changed, same)


def _blend(factor: float | Array, image: Array, other: Array) -> Array:
    """torchvision's adjustment: `factor` of the image, the rest of the other."""
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def _luma(image: Float[Array, "h w 3"]) -> Float[Array, "h w 1"]:
    return (image @ jnp.array([0.299, 0.587, 0.114]))[..., None]
