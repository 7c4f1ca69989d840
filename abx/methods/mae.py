"""MAE (He et al. 2022): the pixels of most patches from the few that are left."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx import losses, parallel
from abx.augment import Photometric
from abx.methods.batches import over
from abx.methods.masks import check_view, random_mask
from abx.nn import PixelDecoder, PixelDecoderConfig, ViT, ViTConfig
from abx.types import Aux, Axis, Views

FLIP = Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=0.5)
"""MAE's augmentation: a left-right flip and nothing else."""


class MAEModel(eqx.Module):
    backbone: ViT
    decoder: PixelDecoder

    def __call__(
        self, image: Float[Array, "h w 3"], places: Int[Array, " s"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "t p"]:
        """Normalised pixels of all patches, from the patches at these places. The backbone sees no others."""
        tokens = self.backbone.embed(image)
        first = self.backbone.patches_from
        kept = jnp.concatenate([tokens[:first], tokens[first:][places]])
        return self.decoder(self.backbone.encode(kept, key=key)[first:], places)


@dataclass(frozen=True)
class MAE:
    """One view of each image; a quarter of its patches to the backbone, the pixels of the others to be predicted."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    decoder: PixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    mask_ratio: float = 0.75
    """Share of the patches that are removed."""
    photometric: Photometric = FLIP
    """Augmentation of the view."""

    def problems(self) -> list[str]:
        found = self.backbone.problems() + self.decoder.problems() + self.photometric.problems()
        if self.backbone.pool == "map":
            found.append("backbone.pool must be gap or token, not map: nothing here trains an attention pool")
        if not 0 < self.mask_ratio < 1:
            found.append(f"mask_ratio must be above 0 and below 1, not {self.mask_ratio}")
        elif self.backbone.patch > 0 and not self.kept((self.backbone.size // self.backbone.patch) ** 2):
            grid = self.backbone.size // self.backbone.patch
            found.append(f"mask_ratio must leave a patch of {grid} x {grid}, which {self.mask_ratio} does not")
        return found

    def kept(self, t: int) -> int:
        """How many of t patches the backbone sees."""
        return int(t * (1 - self.mask_ratio))

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[MAEModel, Any]:
        kb, kd = jax.random.split(key)
        c = self.backbone
        decoder = PixelDecoder(self.decoder, c.width, c.size // c.patch, c.patch, key=kd)
        return MAEModel(ViT(c, key=kb), decoder), ()

    def loss(
        self,
        model: MAEModel,
        target: MAEModel,
        carry: Any,
        batch: Views,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """`batch`: one view of each image. MAE has no targets of its own; the EMA copy is kept for evaluation alone."""
        check_view(batch, self.backbone)
        kp, km, kd = jax.random.split(key, 3)
        images = self.photometric.batch(batch.images, kp, axis=axis)[0][:, 0]
        patches = jax.vmap(lambda image: patchify(image, self.backbone.patch))(images)  # b t p
        b, t = patches.shape[:2]
        noise = jax.vmap(lambda k: jax.random.uniform(k, (t,)))(parallel.row_keys(km, b, axis))
        places, mask = jax.vmap(lambda row: random_mask(row, self.kept(t)))(noise)
        row_keys = parallel.row_keys(kd, b, axis)  # for stochastic depth, if there is any
        forward = over(lambda image, at, k: model(image, at, key=k), 1, self.backbone.chunk)
        pred = forward(images, places, row_keys)
        loss = losses.mae_loss(pred, patches, mask)
        # What predicting each patch's mean costs: 1 less 1 / p, or less where patches are of one colour.
        chance = losses.mae_loss(jnp.zeros_like(patches), patches, mask)
        return loss, Aux({"mae/loss": loss, "mae/chance": chance}, carry)


def patchify(image: Float[Array, "h w 3"], patch: int) -> Float[Array, "t p"]:
    """An image's patches row by row, and a patch's pixels row by row, channels last."""
    height, width = (side // patch for side in image.shape[:2])
    x = image.reshape(height, patch, width, patch, 3).transpose(0, 2, 1, 3, 4)
    return x.reshape(height * width, 3 * patch**2)
