"""A backbone as a program: StableHLO with its parameters inside, for any number of pictures."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from abx.nn import ViT

PLATFORMS = ("cpu", "cuda", "tpu")


def program_of(backbone: ViT, platforms: tuple[str, ...] = PLATFORMS) -> bytes:
    """From pixels, uint8 "b h w 3" of the backbone's size, to features, float32 "b d", as `jax.export` writes it.

    In float32 unless the configuration says otherwise, and by plain matmuls: what a device would choose is not known.
    """
    config = backbone.config
    dtype = "float32" if config.dtype == "auto" else config.dtype
    plain = _with(backbone, replace(config, dtype=dtype, attention="plain", remat="none"))

    def features(pixels: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: plain.pool(plain(image)))(pixels).astype(jnp.float32)

    (count,) = jax.export.symbolic_shape("b")
    pixels = jax.ShapeDtypeStruct((count, config.size, config.size, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(features), platforms=platforms)(pixels)
    return bytes(exported.serialize())


def archive_of(backbone: ViT, header: Mapping[str, Any]) -> bytes:
    """A zip archive: `about.json`, what it is, and `network`, the program."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in (("about.json", json.dumps(header).encode()), ("network", program_of(backbone))):
            archive.writestr(name, content)
    return whole.getvalue()


def _with(backbone: ViT, config: Any) -> ViT:
    """The same parameters in a ViT that computes otherwise."""
    like = jax.eval_shape(lambda: ViT(config, key=jax.random.key(0)))
    found: ViT = jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(backbone))
    return found
