"""I-JEPA (Assran et al. 2023): the target network's features of some blocks of a view, from the rest of it."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from abx import losses, parallel
from abx.methods.batches import over, tokens_of
from abx.methods.masks import Masks, MultiBlock, check_view
from abx.nn import Predictor, PredictorConfig, ViT, ViTConfig
from abx.types import Aux, Axis, Views

MOST = 128
"""Patches along a side; listing the sizes of blocks takes as long as their cube."""


class IJEPAModel(eqx.Module):
    backbone: ViT
    predictor: Predictor

    def __call__(
        self, image: UInt8[Array, "h w 3"], masks: Masks, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "m s d"]:
        """What is expected at the targets, from the context. The backbone sees nothing else."""
        tokens = self.backbone.embed(image)[masks.context]
        seen = self.backbone.encode(tokens, masks.context_valid, key=key)
        return self.predictor(seen, masks.context, masks.context_valid, masks.targets, masks.target_valid)


@dataclass(frozen=True)
class IJEPA:
    """One view of each image, not augmented: the target network sees it whole, the online network a part of it."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    masks: MultiBlock = field(default_factory=MultiBlock)
    """Which patches are context and which are targets."""

    def problems(self) -> list[str]:
        found = self.backbone.problems() + self.predictor.problems()
        if self.backbone.pool != "gap":
            found.append(f"backbone.pool must be gap, not {self.backbone.pool}: nothing here trains another")
        grid = self.backbone.size // max(self.backbone.patch, 1)
        if grid > MOST:
            found.append(f"backbone.size must be at most {MOST} patches, not {grid}: all sizes of a block are listed")
        return found + (self.masks.problems(grid) if not found else [])

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[IJEPAModel, Any]:
        kb, kp = jax.random.split(key)
        predictor = Predictor(self.predictor, self.backbone.width, self.backbone.size // self.backbone.patch, key=kp)
        return IJEPAModel(ViT(self.backbone, key=kb), predictor), ()

    def loss(
        self,
        model: IJEPAModel,
        target: IJEPAModel,
        carry: Any,
        batch: Views,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """`batch`: one view of each image."""
        check_view(batch, self.backbone)
        km, kd = jax.random.split(key)
        images = jnp.asarray(batch.images)[:, 0]
        b, grid = len(images), self.backbone.size // self.backbone.patch
        masks = self.masks.batch(grid, b, km, axis=axis)
        row_keys = parallel.row_keys(kd, b, axis)  # for stochastic depth, if there is any
        forward = over(lambda image, mask, k: model(image, mask, key=k), 1, self.backbone.chunk)
        pred = forward(images, masks, row_keys)  # b m s d
        features = normalised(tokens_of(target.backbone, images))  # b t d
        goal = jax.lax.stop_gradient(jax.vmap(lambda x, places: x[places])(features, masks.targets))  # b m s d
        loss = losses.ijepa_loss(pred, goal, masks.target_valid)
        mean, std = spread(goal, masks.target_valid, axis)
        metrics = {
            "ijepa/loss": loss,
            # What predicting the mean of all targets costs, whatever the view and the place.
            "ijepa/chance": losses.ijepa_loss(jnp.broadcast_to(mean, goal.shape), goal, masks.target_valid),
            "ijepa/context": masks.context_valid.sum(-1).mean(dtype=jnp.float32),
            "ijepa/target": masks.target_valid.sum(-1).mean(dtype=jnp.float32),
            "ijepa/target_std": std,
        }
        return loss, Aux(metrics, carry)


def normalised(features: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Mean 0 and variance 1 over the features of each token, in float32 (epsilon 1e-5, torch's)."""
    x = features.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def spread(
    goal: Float[Array, "b m s d"], valid: Bool[Array, "b m s"], axis: Axis
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Each feature's mean over everyone's targets, and the root mean square of what they deviate from it.

    The second is at most 1, as the features are normalised, and 0 where all tokens look alike: collapse.
    """
    share = valid.astype(jnp.float32) / valid.sum(dtype=jnp.float32)
    mean, square = (parallel.mean(jnp.einsum("bms,bmsd->d", share, x), axis) for x in (goal, jnp.square(goal)))
    return mean, jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0).mean())
