"""The paper in two functions (equation 5 and algorithm 2), and the same two without the large array.

`q` is logits of Q(x_i, a_ij, l): axis i is the view acted from, j the view acted to, l the annotation.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from abx.types import AnyArray


def value_target(
    reward: Float[AnyArray, "*b j l"],
    next_q: Float[AnyArray, "*b j k l"],
    gamma: float | int | Float[Array, ""],
    pairs: Bool[AnyArray, "j k"] | None = None,
) -> Float[Array, "*b j l"]:
    """y_j(l) = (1 - gamma) p(l | x_j) + gamma max_k Q(x_j, a_jk, l), in [0, 1]; stops the gradient.

    The target does not depend on the view i that is left: where we land is what counts. Both terms come from the
    target network (the paper's algorithm 1 has the reward from the online one; equation 5 and algorithm 2 do not: A-3).

    Args:
        reward: probabilities p(l | x_j).
        next_q: logits of Q for every action k that can leave view j; k = j is among them (A-2).
        gamma: discount in [0, 1].
        pairs: from j, may the maximum be at k? At least one of every row; None = all.
    """
    # max before sigmoid: the same number, one sigmoid instead of k.
    best = jax.nn.sigmoid(_best(jnp.asarray(next_q), pairs))
    return jax.lax.stop_gradient((1 - gamma) * jnp.asarray(reward).astype(jnp.float32) + gamma * best)


def value_loss(
    q: Float[AnyArray, "*b i j l"], target: Float[AnyArray, "*b j l"], pairs: Bool[AnyArray, "i j"] | None = None
) -> Float[Array, ""]:
    """Binary cross-entropy of sigmoid(q) to the target: *sum* over annotations, mean over everything else.

    The paper prints "BinaryCE" without a reduction. Under a mean over l the gradient would be 1/l of the reward
    loss's and the value term would have no say in the backbone at "loss ratio 1" (A-1).

    Args:
        pairs: which pairs the mean is over; at least one. None = all.

    Returns: a scalar, at least the summed entropy of the target, which is where it would be for a perfect q.
    """
    return _sum_bce(jnp.asarray(q), jnp.asarray(target)).mean(where=pairs)


def chunked_value_target(
    reward: Float[Array, "*b j l"],
    actions: Float[Array, "*b j k e"],
    annotations: Float[Array, "l e"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    gamma: float | int | Float[Array, ""],
    pairs: Bool[AnyArray, "j k"] | None = None,
    *,
    chunk: int = 512,
) -> Float[Array, "*b j l"]:
    """`value_target` from embeddings, `chunk` annotations at a time: never holds an array "b j k l".

    Args:
        actions: unit embeddings phi(x_j, a_jk) of the target network.
        annotations: unit embeddings psi(l) of the target network.
        scale, bias: next_q = scale * actions . annotations + bias.
    """
    psi, _ = _chunks(annotations, chunk)

    def best(psi: Array) -> Array:
        return _best(scale * _similarity(actions, psi) + bias, pairs)

    parts = jax.lax.map(best, psi)  # c *b j m
    joined = jnp.moveaxis(parts, 0, -2).reshape(*reward.shape[:-1], -1)[..., : reward.shape[-1]]
    return value_target(reward, joined[..., None, :], gamma)


def chunked_value_loss(
    actions: Float[Array, "*b i j e"],
    annotations: Float[Array, "l e"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    target: Float[Array, "*b j l"],
    pairs: Bool[AnyArray, "i j"] | None = None,
    *,
    chunk: int = 512,
) -> Float[Array, ""]:
    """`value_loss(scale * actions . annotations + bias, target, pairs)`, `chunk` annotations at a time.

    The same number and gradients (to float32 rounding) without an array "b i j l": each chunk's logits are made,
    summed and dropped, and made again in the backward pass.

    Args:
        actions: unit embeddings phi(x_i, a_ij) of the online network.
        annotations: unit embeddings psi(l).
        scale, bias: of the value head, as numbers (not logs).
        target: as `value_target` returns it.
        chunk: annotations at a time; need not divide l.
    """
    psi, real = _chunks(annotations, chunk)
    padded = jnp.pad(target, [(0, 0)] * (target.ndim - 1) + [(0, psi.shape[0] * psi.shape[1] - target.shape[-1])])
    y = jnp.moveaxis(padded.reshape(*target.shape[:-1], *psi.shape[:2]), -2, 0)  # c *b j m

    @partial(jax.checkpoint, prevent_cse=False)
    def body(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        psi, y, real = part
        return total + _sum_bce(scale * _similarity(actions, psi) + bias, y, real), None

    # The running sum starts from the data, not from zeros: under shard_map it varies over devices like the rest.
    start = 0 * actions[..., 0].astype(jnp.float32)
    return jax.lax.scan(body, start, (psi, y, real))[0].mean(where=pairs)


def _best(next_q: Float[Array, "*b j k l"], pairs: Bool[AnyArray, "j k"] | None) -> Float[Array, "*b j l"]:
    next_q = next_q.astype(jnp.float32)
    return next_q.max(-2) if pairs is None else next_q.max(-2, where=jnp.asarray(pairs)[..., None], initial=-jnp.inf)


def _sum_bce(
    q: Float[Array, "*b i j l"], target: Float[Array, "*b j l"], real: Bool[Array, " l"] | None = None
) -> Float[Array, "*b i j"]:
    # softplus(q) - y q is exact at any logit; log(sigmoid(q)) is not.
    q = q.astype(jnp.float32)
    bce = jax.nn.softplus(q) - target.astype(jnp.float32)[..., None, :, :] * q
    return (bce if real is None else jnp.where(real, bce, 0)).sum(-1)


def _similarity(actions: Float[Array, "*b i j e"], psi: Float[Array, "l e"]) -> Float[Array, "*b i j l"]:
    return jnp.einsum("...e,le->...l", actions, psi, preferred_element_type=jnp.float32)


def _chunks(annotations: Float[Array, "l e"], chunk: int) -> tuple[Float[Array, "c m e"], Bool[Array, "c m"]]:
    """Annotations in equal chunks, the last padded with zeros, and which rows are real."""
    count = -(-len(annotations) // chunk)
    chunk = -(-len(annotations) // count)  # of one size, and never more than there are
    padded = jnp.pad(annotations, ((0, count * chunk - len(annotations)), (0, 0)))
    real = jnp.arange(count * chunk) < len(annotations)
    return padded.reshape(count, chunk, -1), real.reshape(count, chunk)
