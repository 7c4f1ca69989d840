"""Contrastive losses: who belongs to whom among everyone's rows.

Embeddings may be raw or of unit length: these functions normalise. With `axis`, the name of a mesh axis under
`shard_map`, rows are gathered from all devices and the result is the mean over *this device's* rows; its mean over the
axis is the loss of the whole batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from abx import parallel
from abx.types import AnyArray, Axis


def info_nce(
    logits: Float[Array, "b l"],
    positives: Int[Array, " b"],
    mask: Bool[Array, "b l"] | None = None,
    smoothing: float | int = 0.0,
) -> Float[Array, ""]:
    """One direction of InfoNCE: row i should pick column positives[i]; mean over rows, in float32.

    Args:
        logits: similarities over temperature; queries by keys.
        positives: index of the right key of each query.
        mask: True where a key may not be picked nor counted (a query's own row).
        smoothing: share of the wanted probability that is spread evenly over all keys which may be picked, the right
            one among them (torch's label smoothing).
    """
    logits = logits.astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, -jnp.inf, logits)
    wanted = jnp.take_along_axis(logits, positives[:, None], axis=1)[:, 0]
    if smoothing:
        anyone = jnp.mean(logits, axis=1, where=None if mask is None else ~mask)
        wanted = (1 - smoothing) * wanted + smoothing * anyone
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - wanted)


def clip_loss(
    image: Float[AnyArray, "b e"],
    text: Float[AnyArray, "b e"],
    scale: float | int | Float[Array, ""],
    *,
    smoothing: float | int = 0.0,
    axis: Axis = None,
) -> Float[Array, ""]:
    """InfoNCE of Radford et al. 2021: images pick their texts, texts their images; mean of both directions.

    The paper's algorithms print the *sum* of the two; that factor is AB's `reward_weight` (A-12).

    Args:
        image, text: embeddings of b pairs, in the same order.
        scale: cosines are multiplied by it; the number itself, not its logarithm.
        smoothing: of the labels, as in `info_nce`; 0.1 in CLIP+Aug (Fini et al. 2023), 0 in CLIP.
        axis: mesh axis over which the negatives are gathered.

    Returns: a scalar, at least 0 without smoothing; ln b at chance.
    """
    u, v = _unit(image), _unit(text)
    all_u, all_v = parallel.gather((u, v), axis)
    mine = parallel.positives(len(u), axis)
    to_text = info_nce(scale * _cosines(u, all_v), mine, smoothing=smoothing)
    to_image = info_nce(scale * _cosines(v, all_u), mine, smoothing=smoothing)
    return 0.5 * (to_text + to_image)


def siglip_loss(
    image: Float[AnyArray, "b e"],
    text: Float[AnyArray, "b e"],
    scale: float | int | Float[Array, ""],
    bias: float | int | Float[Array, ""],
    *,
    axis: Axis = None,
) -> Float[Array, ""]:
    """Sigmoid loss (Zhai et al. 2023): of each image and each text, are they a pair? Sum over texts, mean over images.

    Args:
        image, text: embeddings of b pairs, in the same order.
        scale, bias: the logit of a pair is scale * cosine + bias; numbers, not logarithms.
        axis: mesh axis over which the texts are gathered.
    """
    u, everyone = _unit(image), parallel.gather(_unit(text), axis)
    logits = scale * _cosines(u, everyone) + bias
    pair = jnp.arange(len(everyone)) == parallel.positives(len(u), axis)[:, None]
    # The sign inside, not softplus(z) - y z: a sure pair costs e^-z, which that difference rounds away.
    return jnp.mean(jax.nn.softplus(jnp.where(pair, -logits, logits)).sum(1))


def simclr_loss(
    view1: Float[AnyArray, "b e"],
    view2: Float[AnyArray, "b e"],
    temperature: float | int | Float[Array, ""] = 0.1,
    *,
    axis: Axis = None,
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
        logits = jnp.concatenate([_cosines(queries, partners), _cosines(queries, siblings)], axis=1) / temperature
        return info_nce(logits, mine, mask)

    return 0.5 * (direction(u, all_v, all_u) + direction(v, all_u, all_v))


def _unit(x: Float[AnyArray, "b e"]) -> Float[Array, "b e"]:
    # Not abx.nn.unit: losses and towers do not see one another, and two lines are cheaper than a floor between them.
    x = jnp.asarray(x).astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-12)


def _cosines(queries: Float[Array, "b e"], keys: Float[Array, "l e"]) -> Float[Array, "b l"]:
    # Accelerators multiply float32 in fewer bits unless told (TF32 on a GPU: 10, bfloat16 on a TPU: 7). At CLIP's scale
    # of 100 an error of 1e-3 in a cosine is 0.1 in a logit; and this matmul is small beside those of the towers.
    return jnp.matmul(queries, keys.T, precision=jax.lax.Precision.HIGHEST)
