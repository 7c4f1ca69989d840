"""Towers take one example; these run them over the leading axes of a batch."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from abx.nn import TextEncoder, ViT
from abx.types import AnyArray


def over(f: Callable[..., Any], axes: int, chunk: int = 0) -> Callable[..., Any]:
    """f, mapped over so many leading axes of its arguments.

    Args:
        chunk: examples at a time; 0 = all. Then what f computes on the way is dropped, and computed once more for the
            gradient, a chunk at a time.
    """
    mapped = f
    for _ in range(axes):
        mapped = jax.vmap(mapped)

    def chunked(*args: Any) -> Any:
        lead = jax.tree.leaves(args)[0].shape[:axes]
        if not chunk or math.prod(lead) <= chunk:
            return mapped(*args)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), args)
        found = jax.lax.map(jax.checkpoint(lambda row: f(*row)), rows, batch_size=chunk)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), found)

    return chunked


def tokens_of(
    backbone: ViT, images: UInt8[AnyArray, "*b h w 3"] | Float[AnyArray, "*b h w 3"]
) -> Float[Array, "*b t d"]:
    """Tokens of views, from their pixels."""
    x = jnp.asarray(images)
    return over(backbone, x.ndim - 3, backbone.config.chunk)(x)


def pooled(backbone: ViT, tokens: Float[Array, "*b t d"]) -> Float[Array, "*b d"]:
    """Features of views, from their tokens."""
    return over(backbone.pool, tokens.ndim - 2)(tokens)


def features(
    backbone: ViT,
    images: UInt8[AnyArray, "*b h w 3"] | Float[AnyArray, "*b h w 3"],
    keys: Key[Array, "*b"] | None = None,
) -> Float[Array, "*b d"]:
    """Features of views, from their pixels; with `keys`, branches are left out (`ViTConfig.drop_path`)."""
    x, chunk = jnp.asarray(images), backbone.config.chunk
    if keys is None:
        return over(lambda image: backbone.pool(backbone(image)), x.ndim - 3, chunk)(x)
    return over(lambda image, key: backbone.pool(backbone(image, key=key)), x.ndim - 3, chunk)(x, keys)


def text_features(encoder: TextEncoder, text: Int[AnyArray, "b t"]) -> Float[Array, "b d"]:
    """Features of texts, from their tokens."""
    return over(encoder, 1, encoder.config.chunk)(jnp.asarray(text))
