"""Losses of methods that predict what was taken away: pixels (MAE) or features (I-JEPA).

A mask is 1 (or True) where the loss is taken. These are means over what a mask keeps: under `shard_map` the mean over
devices is the loss of the whole batch as long as the masks keep equally many on each.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from abx.types import AnyArray


def mae_loss(
    pred: Float[AnyArray, "b t p"],
    patches: Float[AnyArray, "b t p"],
    mask: Real[AnyArray, "b t"] | Bool[AnyArray, "b t"],
) -> Float[Array, ""]:
    """Squared error to normalised pixels (He et al. 2022): mean over the pixels of a patch and over removed patches.

    What is predicted is the patch less its own mean and over its own deviation, with torch's unbiased variance.

    Args:
        pred: predicted normalised pixels.
        patches: the pixels themselves, p = 3 * patch² a patch, in any range.
        mask: 1 = removed, to be predicted; 0 = seen by the encoder, not counted.

    Returns: a scalar; about 1 for a prediction of zeros, 0 where nothing is removed.
    """
    pixels = jnp.asarray(patches).astype(jnp.float32)
    mean, variance = pixels.mean(-1, keepdims=True), pixels.var(-1, ddof=1, keepdims=True)
    target = jax.lax.stop_gradient((pixels - mean) * jax.lax.rsqrt(variance + 1e-6))
    error = jnp.square(jnp.asarray(pred).astype(jnp.float32) - target)
    return _masked_mean(error.mean(-1), mask)


def ijepa_loss(
    pred: Float[AnyArray, "*b t d"],
    target: Float[AnyArray, "*b t d"],
    mask: Real[AnyArray, "*b t"] | Bool[AnyArray, "*b t"] | None = None,
) -> Float[Array, ""]:
    """Smooth L1 between predicted and target features (Assran et al. 2023): e²/2 below 1, |e| - 1/2 above.

    The mean is over features and tokens. No gradient reaches the target.

    Args:
        pred: the predictor's features of the target blocks.
        target: the target network's features of the same places, layer-normalised.
        mask: 1 = a token of a block, 0 = padding, which is not counted; None = no padding.

    Returns: a scalar, at least 0; 0 where all is padding.
    """
    goal = jax.lax.stop_gradient(jnp.asarray(target).astype(jnp.float32))
    error = jnp.abs(jnp.asarray(pred).astype(jnp.float32) - goal)
    small = jnp.minimum(error, 1)
    loss = (small * (error - 0.5 * small)).mean(-1)
    return loss.mean() if mask is None else _masked_mean(loss, mask)


def _masked_mean(x: Float[Array, "*b"], mask: Real[AnyArray, "*b"] | Bool[AnyArray, "*b"]) -> Float[Array, ""]:
    keep = jnp.asarray(mask).astype(jnp.float32)
    return (x * keep).sum() / jnp.maximum(keep.sum(), 1)
