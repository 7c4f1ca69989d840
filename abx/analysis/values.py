"""What the value head knows, with the baselines that make its numbers mean something (METHODS §8.7, TRIAL §2).

Agreement alone must not be read as "predicts other views": copying the reward of the view one stands in agrees more
often. What tells is the excess of the value loss over its entropy floor, beside that of predictors that know less.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from abx import boxes, losses
from abx.analysis.gradients import alignment
from abx.methods.ab import AB, ABCarry, ABModel
from abx.types import ABBatch

BINS = {"disjoint": (-1.0, 0.05), "far": (0.05, 0.2), "mid": (0.2, 0.4), "near": (0.4, 1.01)}
"""Ranges of the IoU of source and target box."""


def value_metrics(
    method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batches: Iterable[ABBatch]
) -> dict[str, float]:
    """Figures of the value head on a few batches of the training sizes (l must not change: chance would move).

    Returns, all under "value/": accuracy (argmax_l Q(x_i, a_ij, l) = argmax_l p(l | x_j), i != j), copy_accuracy
    (argmax_l p(l | x_i) instead: pure invariance), both also by IoU bin, accuracy_self (i = j), chance (1 / l);
    entropy_floor, excess (value loss above it), marginal_excess (that of the best constant per annotation),
    explained (1 - excess / marginal_excess), over_copy (share of the best shrunk copy's excess that the head removes,
    i != j), rotated_rise (relative rise of the excess when actions are handed round among targets: 0 = boxes unused);
    sum_q, sum_y; target_entropy (of the rewards, where they are a distribution, which SigLIP's are not);
    gradient_ratio and gradient_cosine of the two weighted losses on the backbone (first batch). Shares are NaN where
    all targets are alike, those over i != j where n = 1.
    """
    rows = []
    for i, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(0), i)
        row = _metrics(method, model, target, carry, batch, key)
        if i == 0 and method.reward_weight and method.value_weight:
            row |= _gradients(method, model, target, carry, batch, key)
        rows.append({k: float(v) for k, v in jax.device_get(row).items()})
    sums = {k: sum(row[k] for row in rows if k in row) / sum(k in row for row in rows) for k in rows[0]}
    excess, marginal = sums["excess"], sums["marginal_excess"]
    sums["explained"] = 1 - _ratio(excess, marginal)
    sums["rotated_rise"] = _ratio(sums.pop("rotated_excess"), excess) - 1
    sums["over_copy"] = 1 - _ratio(sums.pop("moved_excess"), sums.pop("copy_excess"))
    for name in BINS:
        pairs = sums.pop(f"pairs_{name}")
        for what in ("accuracy", "copy_accuracy"):
            hits = sums.pop(f"{what}_{name}")
            if pairs:
                sums[f"{what}_{name}"] = hits / pairs
    return {f"value/{k}": v for k, v in sums.items()}


def _ratio(a: float, b: float) -> float:
    """NaN where there is nothing to compare with (in nats): targets all alike, or no pair of different views."""
    return a / b if b > 1e-3 else math.nan


@partial(jax.jit, static_argnums=0)
def _metrics(
    method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batch: ABBatch, key: Array
) -> dict[str, Array]:
    p = method.predict(model, target, carry, batch, key)
    gamma = method.discount(carry.step)
    pairs = method.pairs(p.actions.shape[1])
    y = losses.value_target(p.reward, method.next_q(target, p), gamma, pairs)  # b j l
    q = model.value.logits(p.phi, p.psi)  # b i j l
    # Each source is told the way to the next target over.
    rotated = model.value.logits(model.value.phi(p.tokens, jnp.roll(p.actions, 1, axis=2)), p.psi)

    n, count = q.shape[1], q.shape[-1]
    moved = ~jnp.eye(n, dtype=bool)[None] & jnp.ones((len(q), 1, 1), bool)  # b i j
    overlap = boxes.iou(*jnp.broadcast_arrays(batch.value.boxes[:, :, None], batch.value.boxes[:, None]))
    there = p.reward.argmax(-1)[:, None]  # b 1 j
    hit, copied = q.argmax(-1) == there, p.reward.argmax(-1)[:, :, None] == there
    loss = lambda logits: losses.value_loss(jnp.broadcast_to(logits, q.shape), y, pairs)
    floor = loss(logit(y)[:, None])
    mean = jnp.broadcast_to(y.mean((0, 1)), y.shape)
    row = {
        "chance": jnp.float32(1 / count),
        "accuracy": _mean(hit, moved),
        "accuracy_self": _mean(hit, ~moved),
        "copy_accuracy": _mean(copied, moved),
        "entropy_floor": floor,
        "excess": loss(q) - floor,
        "marginal_excess": loss(logit(mean)[:, None]) - floor,
        "rotated_excess": loss(rotated) - floor,
        "moved_excess": _mean(pair_excess(q, y), moved),
        "copy_excess": _best_shrunk_copy(y, moved),
        "sum_q": jax.nn.sigmoid(q).sum(-1).mean(),
        "sum_y": y.sum(-1).mean(),
        "target_entropy": -(p.reward * jnp.log(p.reward + 1e-12)).sum(-1).mean(),
    }
    for name, (low, high) in BINS.items():
        inside = moved & (overlap >= low) & (overlap < high)
        row[f"pairs_{name}"] = inside.mean(dtype=jnp.float32)
        row[f"accuracy_{name}"] = (hit & inside).mean(dtype=jnp.float32)
        row[f"copy_accuracy_{name}"] = (copied & inside).mean(dtype=jnp.float32)
    return row


@partial(jax.jit, static_argnums=0)
def _gradients(
    method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batch: ABBatch, key: Array
) -> dict[str, Array]:
    """Which of the two losses shapes the backbone: ratio of the norms of their gradients, as weighted, and cosine."""

    def both(backbone: Any) -> tuple[Array, Array]:
        whole = eqx.tree_at(lambda m: m.base.backbone, model, backbone)
        p = method.predict(whole, target, carry, batch, key)
        value_loss = method.value_loss(whole, p, method.value_target(target, p, carry.step))
        return method.reward_weight * p.reward_loss, method.value_weight * value_loss

    found = alignment(both, model.backbone)
    return {"gradient_ratio": found.second / found.first, "gradient_cosine": found.cosine}


def logit(y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Logits whose sigmoid is y; clipped where float32 could not hold them."""
    y = jnp.clip(y, 1e-12, 1 - 1e-6)
    return jnp.log(y) - jnp.log1p(-y)


def pair_excess(q: Float[Array, "b i j l"], y: Float[Array, "b j l"]) -> Float[Array, "b i j"]:
    """Value loss above the entropy of the target, pair by pair."""
    bce = jax.nn.softplus(q) - y[:, None] * q
    own = logit(y)
    entropy = jax.nn.softplus(own) - y * own
    return bce.sum(-1) - entropy.sum(-1)[:, None]


def _best_shrunk_copy(y: Float[Array, "b n l"], moved: Bool[Array, "b i j"]) -> Float[Array, ""]:
    """Smallest excess of predicting a y_i + (1 - a) mean for every target j != i, over a: needs no box at all."""
    mean = y.mean((0, 1), keepdims=True)

    def excess(a: Array) -> Array:
        guess = jnp.broadcast_to(logit(a * y + (1 - a) * mean)[:, :, None], (*moved.shape, y.shape[-1]))
        return _mean(pair_excess(guess, y), moved)

    return jax.lax.map(excess, jnp.linspace(0, 1, 11)).min()


def _mean(x: Array, where: Bool[Array, "b i j"]) -> Float[Array, ""]:
    # n = 1 has no pair of different views: nothing, not NaN.
    return jnp.where(where, x.astype(jnp.float32), 0).sum() / jnp.maximum(where.sum(dtype=jnp.float32), 1)
