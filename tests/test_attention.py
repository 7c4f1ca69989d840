"""Which attention is computed how. The kernel itself runs on a GPU only: tests/test_gpu.py."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from abx.nn import ViT
from abx.nn.attention import attend

T, D = 6, 32


@pytest.fixture
def calls(monkeypatch):
    """As on a GPU, with XLA's attention in the kernel's place; what it was called with."""
    xla, made = jax.nn.dot_product_attention, []

    def kernel(q, k, v, *, implementation):
        made.append((q.shape, k.shape, implementation))
        with jax.numpy_dtype_promotion("standard"):
            return xla(q, k, v, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return made


def qkv(rng, queries=T, memory=T, d=D, dtype=jnp.bfloat16):
    return [jnp.asarray(rng.normal(size=(t, d)), dtype) for t in (queries, memory, memory)]


def test_the_kernel_is_asked_for_the_same(rng, calls):
    """Rows of queries and heads in its order: within the rounding of bfloat16."""
    q, k, v = qkv(rng, 4, 10)
    fused = attend(q, k, v, 4, attention="fused")
    assert calls == [((4, 4, 8), (10, 4, 8), "cudnn")]
    plain = attend(q, k, v, 4)
    assert len(calls) == 1
    assert fused.dtype == plain.dtype
    np.testing.assert_allclose(np.float32(fused), np.float32(plain), atol=2**-6)


@pytest.mark.parametrize(
    ("unfit", "heads"),
    [({"queries": 5}, 4), ({"memory": 5}, 4), ({"dtype": jnp.float32}, 4), ({}, 8), ({"d": 272}, 2)],
    ids=["odd queries", "odd memory", "float32", "head of 4", "head of 136"],
)
def test_what_does_not_fit_is_plain(rng, calls, unfit, heads):
    q, k, v = qkv(rng, **unfit)
    np.testing.assert_array_equal(
        np.float32(attend(q, k, v, heads, attention="fused")), np.float32(attend(q, k, v, heads))
    )
    assert calls == []


def test_what_is_masked_is_plain(rng, calls):
    q, k, v = qkv(rng)
    mask = jnp.arange(T) < 4
    np.testing.assert_array_equal(
        np.float32(attend(q, k, v, 4, mask, attention="fused")), np.float32(attend(q, k, v, 4, mask))
    )
    assert calls == []


def test_the_backbone_is_told(rng, calls):
    """`attention` of its configuration reaches every block; elsewhere than on a GPU it is plain."""
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    config = replace(TINY, dtype="bfloat16", attention="fused", heads=4)
    fused = ViT(config, key=jax.random.key(0))(image)
    assert set(calls) == {((4, 4, 8), (4, 4, 8), "cudnn")}
    plain = ViT(replace(config, attention="plain"), key=jax.random.key(0))(image)
    np.testing.assert_allclose(np.float32(fused), np.float32(plain), atol=0.05)


def test_no_gpu_no_kernel(rng):
    q, k, v = qkv(rng)
    np.testing.assert_array_equal(np.float32(attend(q, k, v, 4, attention="fused")), np.float32(attend(q, k, v, 4)))
