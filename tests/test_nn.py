from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from abx.nn import ActionDecoder, DecoderConfig, ViT, ViTConfig
from abx.nn.vit import sincos

KEY = jax.random.key(0)
DECODER = DecoderConfig(width=16, depth=2, heads=2, mlp=32, bins=64)


def image(rng, size=16):
    return jnp.asarray(rng.integers(0, 256, (size, size, 3), np.uint8))


@pytest.mark.parametrize("pool", ["gap", "map", "token"])
@pytest.mark.parametrize("position", ["sincos", "learned"])
def test_vit_shapes(rng, pool, position):
    vit = ViT(replace(TINY, pool=pool, position=position), key=KEY)
    tokens = vit(image(rng))
    assert tokens.shape == (4 + (pool == "token"), 32)
    assert vit.pool(tokens).shape == (32,)


def test_uint8_is_the_float_image_in_minus_one_to_one(rng):
    vit, x = ViT(TINY, key=KEY), image(rng)
    np.testing.assert_allclose(vit(x), vit(x.astype(jnp.float32) / 127.5 - 1), atol=1e-5)


@pytest.mark.parametrize("position", ["sincos", "learned"])
def test_any_size_that_the_patch_divides(rng, position):
    vit = ViT(replace(TINY, position=position), key=KEY)
    assert vit(image(rng, 24)).shape == (9, 32)
    assert vit(jnp.zeros((8, 32, 3), jnp.uint8)).shape == (4, 32)
    with pytest.raises(ValueError, match="8 pixels do not divide"):
        vit(image(rng, 20))


def test_positions_of_another_grid_span_the_same_range():
    small, native = sincos((6, 6), 14, 16), sincos((14, 14), 14, 16)
    # Frequency 1 along x of the first row: sin of the position itself.
    np.testing.assert_allclose(np.sin((np.arange(6) + 0.5) * 14 / 6 - 0.5), small[:6, 0], atol=1e-6)
    np.testing.assert_allclose(np.sin(np.arange(14)), native[:14, 0], atol=1e-5)
    vit = ViT(replace(TINY, position="learned"), key=KEY)
    np.testing.assert_array_equal(vit.positions((2, 2)), vit.pos_embed)
    np.testing.assert_allclose(vit.positions((6, 6)).mean(0), vit.pos_embed.mean(0), atol=1e-2)


@pytest.mark.parametrize("change", [{"remat": "none"}, {"remat": "dots"}, {"unroll": True}])
def test_remat_and_unroll_change_nothing(rng, change):
    x = image(rng)
    f = lambda vit: jnp.square(vit(x)).sum()
    plain, other = ViT(TINY, key=KEY), ViT(replace(TINY, **change), key=KEY)
    for a, b in zip(*(jax.tree.leaves(jax.grad(f)(v)) for v in (plain, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_layers_are_initialised_apart():
    weights = ViT(TINY, key=KEY).blocks.layers.mlp.fc1.weight
    assert not np.allclose(weights[0], weights[1])


def test_bf16_policy(rng):
    """Parameters stay float32; tokens are bfloat16; under strict promotion nothing is promoted in silence."""
    vit = ViT(replace(TINY, dtype="bfloat16"), key=KEY)
    assert {x.dtype for x in jax.tree.leaves(vit)} == {jnp.dtype("float32")}
    tokens = vit(image(rng))
    assert tokens.dtype == vit.pool(tokens).dtype == jnp.bfloat16
    np.testing.assert_allclose(
        tokens.astype(jnp.float32), ViT(TINY, key=KEY)(image(np.random.default_rng(0))), atol=0.2
    )


def test_sizes_are_the_published_ones():
    from abx.nn import vit

    millions = {}
    for name in ("Ti", "S", "B", "L", "H"):
        shapes = jax.eval_shape(lambda key, c=getattr(vit, name): ViT(c, key=key), KEY)
        millions[name] = sum(x.size for x in jax.tree.leaves(shapes)) / 1e6
    assert millions == pytest.approx({"Ti": 5.49, "S": 21.59, "B": 85.65, "L": 303.1, "H": 630.7}, rel=2e-3)


def test_config_names_its_mistakes():
    bad = ViTConfig(width=30, heads=4, size=20, patch=16)
    assert len(bad.problems()) == 3
    with pytest.raises(ValueError, match=r"backbone\.heads"):
        ViT(bad, key=KEY)


def naive(decoder, tokens, actions):
    """Each action on its own copy of the tokens: keys and values again for every pair."""
    return jax.vmap(lambda t, a: decoder(t, a[None])[0])(jnp.tile(tokens[None], (len(actions), 1, 1)), actions)


def test_packed_decoder_equals_one_action_at_a_time(rng):
    decoder = ActionDecoder(DECODER, 24, key=KEY)
    tokens, actions = (
        jnp.asarray(rng.normal(size=(9, 24)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 2, (8, 4)), jnp.float32),
    )
    np.testing.assert_allclose(decoder(tokens, actions), naive(decoder, tokens, actions), atol=1e-5)
    f = lambda run: jax.grad(lambda t: jnp.square(run(decoder, t, actions)).sum())(tokens)
    np.testing.assert_allclose(f(lambda d, t, a: d(t, a)), f(naive), atol=1e-4)


def test_an_action_does_not_see_the_others(rng):
    decoder = ActionDecoder(DECODER, 24, key=KEY)
    tokens, actions = (
        jnp.asarray(rng.normal(size=(9, 24)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 2, (3, 4)), jnp.float32),
    )
    changed = decoder(tokens, actions.at[1].add(0.5))
    np.testing.assert_array_equal(changed[0], decoder(tokens, actions)[0])
    assert not np.allclose(changed[1], decoder(tokens, actions)[1], atol=1e-4)


def test_the_decoder_tells_coordinates_apart(rng):
    """Swapping y and x of an action changes the answer: the four tokens have slots."""
    decoder, tokens = ActionDecoder(DECODER, 24, key=KEY), jnp.asarray(rng.normal(size=(9, 24)), jnp.float32)
    a = decoder(tokens, jnp.array([[0.0, 0.5, 1.0, 2.0], [0.5, 0.0, 2.0, 1.0]]))
    assert not np.allclose(a[0], a[1], atol=1e-3)
