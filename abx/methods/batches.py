"""Towers take one example; these run them over the leading axes of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from abx.nn import TextEncoder, ViT
from abx.types import AnyArray


def over(f: Callable[..., Any], axes: int) -> Callable[..., Any]:
    """f, mapped over so many leading axes of its arguments."""
    for _ in range(axes):
        f = jax.vmap(f)
    return f


def pooled(backbone: ViT, tokens: Float[Array, "*b t d"]) -> Float[Array, "*b d"]:
    """Features of views, from their tokens."""
    return over(backbone.pool, tokens.ndim - 2)(tokens)


def features(
    backbone: ViT,
    images: UInt8[AnyArray, "*b h w 3"] | Float[AnyArray, "*b h w 3"],
    keys: Key[Array, "*b"] | None = None,
) -> Float[Array, "*b d"]:
    """Features of views, from their pixels; with `keys`, branches are left out (`ViTConfig.drop_path`)."""
    x = jnp.asarray(images)
    if keys is None:
        return over(lambda image: backbone.pool(backbone(image)), x.ndim - 3)(x)
    return over(lambda image, key: backbone.pool(backbone(image, key=key)), x.ndim - 3)(x, keys)


def text_features(encoder: TextEncoder, text: Int[AnyArray, "b t"]) -> Float[Array, "b d"]:
    """Features of texts, from their tokens."""
    return jax.vmap(encoder)(jnp.asarray(text))
