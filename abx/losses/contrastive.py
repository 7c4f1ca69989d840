"""Contrastive losses: who belongs to whom among everyone's rows.

Embeddings may be raw or of unit length: these functions normalise. With `axis`, the name of a mesh axis under
`shard_map`, rows are gathered from all devices and the result is the mean over *this device's* rows; its mean over the
axis is the loss of the whole batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from abx import parallel
from abx.types import AnyArray


def info_nce(
    logits: Float[Array, "b l"], positives: Int[Array, " b"], mask: Bool[Array, "b l"] | None = None
) -> Float[Array, ""]:
    """One direction of InfoNCE: row i should pick column positives[i]; mean over rows, in float32.

    Args:
        logits: similarities over temperature; queries by keys.
        positives: index of the right key of each query.
        mask: True where a key may not be picked nor counted (a query's own row).
    """
    logits = logits.astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, -jnp.inf, logits)
    right = jnp.take_along_axis(logits, positives[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def simclr_loss(
    view1: Float[AnyArray, "b e"],
    view2: Float[AnyArray, "b e"],
    temperature: float | int | Float[Array, ""] = 0.1,
    *,
    axis: str | None = None,
) -> Float[Array, ""]:
    """NT-Xent (Chen et al. 2020): each view picks its partner among the 2b - 1 other views; mean over the 2b rows.

    Args:
        view1, view2: embeddings of two views of the same b images, in the same order.
        temperature: cosines are divided by it.
        axis: mesh axis over which the negatives are gathered.

    Returns: a scalar, at least 0; about ln(2b - 1) at chance, 0 for one pair.
    """
    u, v = _unit(view1), _unit(view2)
    all_u, all_v = parallel.gather((u, v), axis)
    mine = parallel.positives(len(u), axis)
    oneself = jnp.arange(len(all_u))[None] == mine[:, None]
    mask = jnp.concatenate([jnp.zeros_like(oneself), oneself], axis=1)

    def direction(queries: Array, partners: Array, siblings: Array) -> Array:
        logits = jnp.concatenate([queries @ partners.T, queries @ siblings.T], axis=1) / temperature
        return info_nce(logits, mine, mask)

    return 0.5 * (direction(u, all_v, all_u) + direction(v, all_u, all_v))


def _unit(x: Float[AnyArray, "b e"]) -> Float[Array, "b e"]:
    # Not abx.nn.unit: losses and towers do not see one another, and two lines are cheaper than a floor between them.
    x = jnp.asarray(x).astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-12)
