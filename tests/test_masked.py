"""Less than everything: attention to some of the tokens, and blocks without some of their branches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from abx.nn import ViT
from abx.nn.attention import attend
from abx.nn.layers import drop_path

KEY = jax.random.key(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_masked_attention_is_attention_over_what_is_kept(rng):
    q, k, v = normal(rng, 5, 8), normal(rng, 7, 8), normal(rng, 7, 8)
    k = k.at[2].set(1e4)  # hidden, and larger than everything
    kept = jnp.asarray([1, 1, 0, 1, 0, 0, 1], bool)
    expected = attend(q, k[kept], v[kept], 2)
    np.testing.assert_allclose(attend(q, k, v, 2, kept), expected, atol=1e-6)
    by_query = rng.integers(0, 2, (5, 7)).astype(bool)
    by_query[:, 2], by_query[:, 0] = False, True
    got = attend(q, k, v, 2, jnp.asarray(by_query))
    for i, row in enumerate(by_query):
        np.testing.assert_allclose(got[i], attend(q[i : i + 1], k[row], v[row], 2)[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_who_may_look_at_nothing_reads_zeros(rng, dtype):
    q, k, v = (normal(rng, t, 8).astype(dtype) for t in (3, 4, 4))
    mask = jnp.ones((3, 4), bool).at[1].set(False)
    out = attend(q, k, v, 2, mask)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[1], jnp.zeros(8, dtype))
    f = lambda *args: jnp.square(attend(*args, 2, mask).astype(jnp.float32)).sum()
    gradients = jax.grad(f, (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g.astype(jnp.float32)).all() for g in gradients)
    np.testing.assert_array_equal(gradients[0][1], jnp.zeros(8, dtype))
    assert jnp.abs(gradients[0][0]).max() > 0


@pytest.mark.parametrize("pool", ["gap", "token"])
def test_encoding_some_of_the_tokens(rng, pool):
    """What the mask hides might as well not be there; and nothing hidden is the whole ViT."""
    vit = ViT(replace(TINY, pool=pool, position="learned"), key=KEY)
    tokens = vit.embed(jnp.asarray(rng.integers(0, 256, (24, 24, 3), np.uint8)))
    kept = jnp.asarray(rng.permutation(len(tokens))[:4])
    some = vit.encode(tokens[kept])
    masked = vit.encode(tokens, jnp.zeros(len(tokens), bool).at[kept].set(True))
    np.testing.assert_allclose(masked[kept], some, atol=1e-5)
    everything = vit.norm(vit.blocks(tokens))
    np.testing.assert_allclose(vit.encode(tokens, jnp.ones(len(tokens), bool)), everything, atol=1e-5)
    assert not np.allclose(everything[kept], some, atol=1e-2)


def test_gradients_of_a_masked_stack_are_finite(rng):
    """Also where nothing may be looked at, through every layer, under remat."""
    vit, tokens = ViT(TINY, key=KEY), normal(rng, 4, 32)
    f = lambda vit, tokens: jnp.square(vit.encode(tokens, jnp.zeros(4, bool))).sum()
    for gradient in jax.tree.leaves(jax.grad(f, (0, 1))(vit, tokens)):
        assert np.isfinite(gradient).all()


def test_drop_path_rises_with_depth_and_keeps_the_mean():
    factors = jax.vmap(lambda key: drop_path(key, 5, 0.4))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose((factors == 0).mean((0, 2)), [0, 0.1, 0.2, 0.3, 0.4], atol=0.025)  # 4 deviations
    np.testing.assert_allclose(factors.mean((0, 2)), 1, atol=0.04)
    np.testing.assert_allclose(factors[..., -1, :].max(), 1 / 0.6, rtol=1e-5)
    assert 0.9 < np.corrcoef(factors[:, 4].T == 0)[0, 1] + 1 < 1.1  # attention and MLP fall apart


def test_stochastic_depth_on_average_drops_nothing(rng):
    """One block's output is linear in its attention's factor, so the mean over keys is the output without a key."""
    vit = ViT(replace(TINY, depth=2, drop_path=0.5), key=KEY)
    tokens, layer = normal(rng, 4, 32), jax.tree.map(lambda x: x[1], vit.blocks.layers)
    means = []
    for factor in ([0.0, 0.0], [2.0, 0.0], [1.0, 0.0]):
        means.append(layer(tokens, None, jnp.asarray(factor)))
    np.testing.assert_array_equal(means[0], tokens)
    np.testing.assert_allclose((means[0] + means[1]) / 2, means[2], atol=1e-5)
    np.testing.assert_allclose(layer(tokens, None, jnp.ones(2)), layer(tokens), atol=1e-6)


def test_a_key_drops_branches_and_no_key_none(rng):
    image, keys = jnp.asarray(rng.integers(0, 256, (16, 16, 3), np.uint8)), jax.random.split(KEY, 16)
    plain, dropping = ViT(TINY, key=KEY), ViT(replace(TINY, drop_path=0.5), key=KEY)
    np.testing.assert_array_equal(dropping(image), plain(image))
    np.testing.assert_array_equal(plain(image, key=KEY), plain(image))
    several = jax.vmap(lambda key: dropping(image, key=key))(keys)
    first, second = (jax.tree.map(lambda x, i=i: x[i], plain.blocks.layers) for i in (0, 1))
    tokens = first(plain.embed(image))  # with rate 0 at the first block
    for key, got in zip(keys, several, strict=True):
        factors = drop_path(key, 2, 0.5)[1]
        np.testing.assert_allclose(got, plain.norm(second(tokens, None, factors)), atol=1e-5)
    assert 1 < len(np.unique(several.reshape(16, -1).round(3), axis=0)) <= 4


def test_a_rate_of_one_is_a_mistake():
    assert replace(TINY, drop_path=1.0).problems() == ["backbone.drop_path must be a probability below 1, not 1.0"]
