"""On an accelerator, `JAX_PLATFORMS=cuda python -m pytest -m gpu`: the bfloat16 step against float32, one compile."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB

from abx import train
from abx.nn import ActionDecoder, DecoderConfig, ViT, ViTConfig
from abx.nn.attention import attend
from abx.nn.layers import compute_dtype
from abx.optim import EMA, AdamW

pytestmark = pytest.mark.gpu


def method(dtype):
    backbone = replace(TINY_AB.base.backbone, dtype=dtype)
    return replace(TINY_AB, base=replace(TINY_AB.base, backbone=backbone))


def test_accelerators_compute_in_bfloat16():
    expected = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    assert compute_dtype("auto") == expected


def test_bfloat16_trains_as_float32_does(ab_batch):
    """Losses of ten steps within 5 %: bfloat16 keeps 8 bits, and the losses are made of float32 sums."""
    losses = {}
    for dtype in ("float32", "bfloat16"):
        tx = AdamW(lr=3e-4, warmup=0.0).build(100)
        state = train.init(method(dtype), tx, 0, ab_batch)
        step = train.make_step(method(dtype), tx, EMA().schedule(100), 0)
        rows = []
        for _ in range(10):
            state, metrics = step(state, ab_batch)
            rows.append([float(metrics[k]) for k in ("reward/loss", "value/loss")])
        assert step._cache_size() == 1
        assert {x.dtype for x in jax.tree.leaves(state.model)} == {np.dtype("float32")}
        losses[dtype] = np.array(rows)
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_vit_s_and_its_decoder_in_bfloat16(rng):
    """At the paper's size, against float32: cosines of tokens and of action features above 0.999."""
    image = rng.integers(0, 256, (224, 224, 3), np.uint8)
    actions = rng.uniform(-1, 2, (16, 4)).astype(np.float32)
    key = jax.random.key(0)
    decoder = ActionDecoder(DecoderConfig(), 384, key=key)
    found = []
    for dtype in ("float32", "bfloat16"):
        vit = ViT(ViTConfig(dtype=dtype), key=key)
        tokens = jax.jit(lambda vit, image: vit(image))(vit, image)
        features = jax.jit(lambda decoder, *args: decoder(*args))(decoder, tokens, actions)
        found.append([np.asarray(x, np.float64) for x in (tokens, features)])
    for exact, rounded in zip(*found, strict=True):
        cosine = (exact * rounded).sum(-1) / np.linalg.norm(exact, axis=-1) / np.linalg.norm(rounded, axis=-1)
        assert cosine.min() > 0.999


@pytest.mark.parametrize("batched", ["one", "vmap", "all but one"])
def test_fused_attention_is_attention(rng, batched):
    """Values and gradients of cuDNN's kernel against float32's: rounding to bfloat16 and no more."""
    q, k, v = (rng.normal(size=(8, t, 384)) for t in (196, 196, 196))

    def loss(q, k, v, attention):
        one = lambda q, k, v: attend(q, k, v, 6, attention=attention)
        out = {"one": lambda: one(q[0], k[0], v[0]), "vmap": lambda: jax.vmap(one)(q, k, v)}
        out["all but one"] = lambda: jax.vmap(one, (0, None, None))(q, k[0], v[0])
        return jnp.square(out[batched]().astype(jnp.float32)).mean()

    with jax.numpy_dtype_promotion("standard"):  # its gradient promotes in silence
        half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
        exact = jax.jit(jax.value_and_grad(partial(loss, attention="plain"), (0, 1, 2)))(
            *(x.astype(jnp.float32) for x in half)
        )
        fused = jax.jit(jax.value_and_grad(partial(loss, attention="fused"), (0, 1, 2)))
        assert "cudnn" in fused.lower(*half).as_text()
        found = fused(*half)
    np.testing.assert_allclose(found[0], exact[0], rtol=0.01)
    for got, expected in zip(found[1], exact[1], strict=True):
        got, expected = np.float32(got), np.float32(expected)
        assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()
