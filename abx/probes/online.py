"""Cheap probes of a backbone while it trains: k-NN, a small attentive probe, and whether features have collapsed.

All on frozen features of central crops. They tell whether a run learns; for a table use the full probes.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from abx.nn import AttentionPool, ViT, unit
from abx.nn.layers import Linear
from abx.probes.knn import knn
from abx.types import AnyArray


class Labelled(NamedTuple):
    """Central crops with their classes."""

    images: UInt8[np.ndarray, "m h w 3"]
    labels: Int[np.ndarray, " m"]


def tokens_of(
    backbone: ViT, images: UInt8[np.ndarray, "m h w 3"], chunk: int = 256
) -> tuple[Float[np.ndarray, "m t d"], Float[np.ndarray, "m d"]]:
    """Tokens and pooled features of many images, in float32, `chunk` images at a time."""
    tokens, features = [], []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        padded = np.pad(part, [(0, chunk - len(part))] + [(0, 0)] * 3)
        t, f = _encode(backbone, padded)
        tokens.append(np.asarray(t)[: len(part)])
        features.append(np.asarray(f)[: len(part)])
    return np.concatenate(tokens), np.concatenate(features)


@jax.jit
def _encode(backbone: ViT, images: Array) -> tuple[Array, Array]:
    tokens = jax.vmap(backbone)(images)
    features = jax.vmap(backbone.pool)(tokens)
    return tokens.astype(jnp.float32), features.astype(jnp.float32)


def effective_rank(features: Float[AnyArray, "m d"]) -> float:
    """exp of the entropy of the normalised singular values of the centred features: 1 = collapsed, d = full.

    NaN when they are not finite.
    """
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        return math.nan
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    if s.sum() == 0:
        return 1.0
    p = s[s > 0] / s.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def attentive(
    train: Float[AnyArray, "m t d"],
    labels: Int[AnyArray, " m"],
    test: Float[AnyArray, "q t d"],
    *,
    steps: int = 300,
    batch: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> Int[np.ndarray, " q"]:
    """Classes by a MAP head (attention pooling and a linear layer) trained on frozen tokens with AdamW and a cosine."""
    classes, d = int(np.max(labels)) + 1, train.shape[-1]
    kp, kl, kb = jax.random.split(jax.random.key(seed), 3)
    # Tokens of an untrained and of a trained network differ in scale; standardised, one learning rate serves both.
    mean, scale = train.mean((0, 1)), train.std((0, 1)) + 1e-6
    heads = max(1, d // 64)
    heads = heads if d % heads == 0 else 1
    probe = AttentionPool(d, heads, 2 * d, key=kp), Linear(d, classes, key=kl)
    order = jax.random.randint(kb, (steps, min(batch, len(train))), 0, len(train))
    x, y = jnp.asarray((train - mean) / scale), jnp.asarray(labels)
    probe = _train_attentive(probe, order, x, y, lr, weight_decay)
    parts = [_predict(probe, jnp.asarray((test[i : i + 512] - mean) / scale)) for i in range(0, len(test), 512)]
    return np.concatenate([np.asarray(p) for p in parts])


def _logits(probe: tuple[AttentionPool, Linear], tokens: Array) -> Array:
    return jax.vmap(lambda t: probe[1](probe[0](t)))(tokens)


@jax.jit
def _predict(probe: tuple[AttentionPool, Linear], tokens: Array) -> Array:
    return _logits(probe, tokens).argmax(1)


@partial(jax.jit, static_argnums=(4, 5))
def _train_attentive(
    probe: tuple[AttentionPool, Linear], order: Array, x: Array, y: Array, lr: float, weight_decay: float
) -> tuple[AttentionPool, Linear]:
    tx = optax.adamw(optax.cosine_decay_schedule(lr, len(order)), weight_decay=weight_decay)

    def loss(probe: tuple[AttentionPool, Linear], rows: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(_logits(probe, x[rows]), y[rows]).mean()

    def step(state: tuple[Any, Any], rows: Array) -> tuple[tuple[Any, Any], None]:
        probe, opt = state
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, opt = tx.update(jax.grad(loss)(probe, rows), opt, probe)
        return (optax.apply_updates(probe, updates), opt), None

    return jax.lax.scan(step, (probe, tx.init(probe)), order)[0][0]


def probe(backbone: ViT, train: Labelled, test: Labelled) -> dict[str, float]:
    """The online figures: top-1 of k-NN and of the attentive probe, chance, rank and spread of the features."""
    train_tokens, train_features = tokens_of(backbone, train.images)
    test_tokens, test_features = tokens_of(backbone, test.images)
    found_knn = knn(train_features, train.labels, test_features)
    found_attentive = attentive(train_tokens, train.labels, test_tokens)
    return {
        "eval/knn_top1": float((found_knn == test.labels).mean()),
        "eval/attentive_top1": float((found_attentive == test.labels).mean()),
        "eval/chance": float(np.bincount(test.labels).max() / len(test.labels)),
    } | spread(test_features)


def spread(features: Float[AnyArray, "m d"]) -> dict[str, float]:
    """Effective rank, and the mean standard deviation of unit features times sqrt(d): 0 = collapsed, 1 = spread."""
    directions = np.asarray(unit(jnp.asarray(features)))
    return {
        "eval/feature_rank": effective_rank(features),
        "eval/feature_std": float(directions.std(0).mean() * np.sqrt(directions.shape[1])),
    }
