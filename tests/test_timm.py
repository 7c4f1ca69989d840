"""Parameters under timm's names: one to one, there and back, and by a plain torch-like forward pass of our own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from abx.nn import ViT
from abx.nn.timm import from_timm, to_timm
from abx.nn.vit import S

CONFIGS = [
    replace(TINY, pool=pool, position=position)
    for pool in ("gap", "map", "token")
    for position in ("sincos", "learned")
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.pool}-{c.position}")
def test_there_and_back(config):
    vit = ViT(config, key=jax.random.key(0))
    again = from_timm(to_timm(vit), config)
    assert jax.tree.structure(vit) == jax.tree.structure(again)
    for a, b in zip(jax.tree.leaves(vit), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_and_shapes_are_those_of_vit_small_patch16_224():
    """As `timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()` has them."""
    shapes = jax.eval_shape(lambda: ViT(replace(S, pool="token"), key=jax.random.key(0)))
    state = {k: v.shape for k, v in to_timm(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)).items()}
    block = {
        "norm1.weight": (384,),
        "norm1.bias": (384,),
        "attn.qkv.weight": (1152, 384),
        "attn.qkv.bias": (1152,),
        "attn.proj.weight": (384, 384),
        "attn.proj.bias": (384,),
        "norm2.weight": (384,),
        "norm2.bias": (384,),
        "mlp.fc1.weight": (1536, 384),
        "mlp.fc1.bias": (1536,),
        "mlp.fc2.weight": (384, 1536),
        "mlp.fc2.bias": (384,),
    }
    expected = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 197, 384),
        "patch_embed.proj.weight": (384, 3, 16, 16),
        "patch_embed.proj.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    } | {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in block.items()}
    assert state == expected


def as_timm_computes(state, image, heads):
    """timm's forward pass in numpy float64, from the state alone: a kernel per patch, qkv as (3, heads, width)."""
    s = {k: v.astype(np.float64) for k, v in state.items()}
    p, d = s["patch_embed.proj.weight"].shape[-1], s["pos_embed"].shape[-1]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * s[f"{name}.weight"] + s[f"{name}.bias"]

    def linear(x, name):
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    grid = image.shape[0] // p
    x = np.empty((grid * grid, d))
    for row, column in np.ndindex(grid, grid):
        patch = image[row * p : (row + 1) * p, column * p : (column + 1) * p].transpose(2, 0, 1)
        kernel = s["patch_embed.proj.weight"]
        x[row * grid + column] = (kernel * patch[None]).sum((1, 2, 3)) + s["patch_embed.proj.bias"]
    if "cls_token" in s:
        x = np.concatenate([s["cls_token"][0], x])
    x = x + s["pos_embed"][0]
    for i in range(sum(name.endswith("norm1.bias") for name in s)):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").reshape(len(x), 3, heads, d // heads)
        q, k, v = qkv.transpose(1, 2, 0, 3)
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(d // heads))
        x = x + linear(
            (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), d), f"blocks.{i}.attn.proj"
        )
        hidden = linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        x = x + linear(hidden, f"blocks.{i}.mlp.fc2")
    return norm(x, "norm")


@pytest.mark.parametrize("pool", ["gap", "token"])
def test_the_same_tokens_by_timms_arithmetic(rng, pool):
    config = replace(TINY, pool=pool, position="learned")
    vit = ViT(config, key=jax.random.key(0))
    image = rng.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(vit(jnp.asarray(image)), as_timm_computes(to_timm(vit), image, config.heads), atol=1e-4)


def test_a_cls_token_with_a_position_keeps_it(rng):
    config = replace(TINY, pool="token", position="learned")
    state = to_timm(ViT(config, key=jax.random.key(0)))
    state["pos_embed"] = rng.normal(size=state["pos_embed"].shape).astype(np.float32)
    image = rng.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    tokens = from_timm(state, config)(jnp.asarray(image))
    np.testing.assert_allclose(tokens, as_timm_computes(state, image, config.heads), atol=1e-4)


def test_what_does_not_fit_is_named():
    state = to_timm(ViT(TINY, key=jax.random.key(0)))
    state["head.weight"] = np.zeros((10, 32), np.float32)
    from_timm(state, TINY)
    state["norm.bias"] = np.zeros(7, np.float32)
    state["fc_norm.weight"] = np.zeros(32, np.float32)
    del state["blocks.1.mlp.fc1.bias"]
    with pytest.raises(ValueError, match=r"mlp.fc1.bias is missing; fc_norm.weight is unexpected; norm.bias has shape"):
        from_timm(state, TINY)
    state = to_timm(ViT(TINY, key=jax.random.key(0)))
    state["pos_embed"] = state["pos_embed"] + 1
    with pytest.raises(ValueError, match="sine-cosine"):
        from_timm(state, TINY)
