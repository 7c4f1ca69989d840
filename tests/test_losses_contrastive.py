"""Contrastive losses: against loops in float64, by hand where the answer is known, and on eight devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_twins
from hypothesis import given, settings
from hypothesis import strategies as st
from over_devices import ALL, ROWS, assert_the_same

from abx import losses, parallel


def f32(x):
    return jnp.asarray(x, jnp.float32)


def clip(u, v):
    return losses.clip_loss(u, v, f32(100))


def siglip(u, v):
    return losses.siglip_loss(u, v, f32(10), f32(-5))


@pytest.mark.parametrize(("b", "e"), [(1, 3), (5, 7), (7, 13)])
def test_each_equals_its_twin(rng, b, e):
    u, v = rng.normal(size=(2, b, e))
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(losses.simclr_loss(f32(u), f32(v), 0.2), slow_twins.simclr_loss(u, v, 0.2))
    for scale in (1, 14.3, 100.0):
        close(losses.clip_loss(f32(u), f32(v), scale), slow_twins.clip_loss(u, v, scale), atol=1e-5)
    close(losses.clip_loss(f32(u), f32(v), 3.0, smoothing=0.1), slow_twins.clip_loss(u, v, 3.0, 0.1))
    close(losses.siglip_loss(f32(u), f32(v), 10.0, -5.0), slow_twins.siglip_loss(u, v, 10.0, -5.0))


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_smoothed_labels_equal_their_twin_with_and_without_a_mask(smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, positives, mask = 5 * rng.normal(size=(3, 7)), rng.integers(0, 7, 3), rng.random((3, 7)) < 0.4
    mask[np.arange(3), positives] = False
    for m in (None, mask):
        loss = losses.info_nce(f32(logits), jnp.asarray(positives), None if m is None else jnp.asarray(m), smoothing)
        np.testing.assert_allclose(loss, slow_twins.info_nce(logits, positives, m, smoothing), rtol=1e-5, atol=1e-5)


def test_what_is_masked_gets_no_gradient(rng):
    logits, mask = f32(rng.normal(size=(2, 5))), jnp.zeros((2, 5), bool).at[:, 3].set(True)
    g = jax.grad(losses.info_nce)(logits, jnp.array([0, 1]), mask, 0.1)
    assert np.isfinite(g).all()
    assert not g[:, 3].any()
    assert g[:, [0, 1, 2, 4]].all()


def test_simclr_special_cases():
    assert losses.simclr_loss(f32([[1, 2]]), f32([[2, -1]])) == 0  # one pair: nobody else to pick
    same = jnp.ones((6, 4))
    np.testing.assert_allclose(losses.simclr_loss(same, same), np.log(11), rtol=1e-6)  # all alike: chance
    apart = jnp.eye(6)
    assert losses.simclr_loss(apart, apart, 0.01) < 1e-6  # identical views, T -> 0


def test_clip_special_cases():
    assert losses.clip_loss(f32([[1, 2]]), f32([[2, -1]]), 50.0) == 0  # one pair: nobody else to pick
    same = jnp.ones((7, 4))
    np.testing.assert_allclose(losses.clip_loss(same, same, 20.0), np.log(7), rtol=1e-6)  # all alike: chance
    np.testing.assert_allclose(losses.clip_loss(same, same, 20.0, smoothing=0.3), np.log(7), rtol=1e-6)
    apart = jnp.eye(7)
    assert losses.clip_loss(apart, apart, 100.0) < 1e-6
    # cosines 1 and 0: (1 - s) of the weight on the right key and s / 7 on each lose s * 6 / 7 * scale
    np.testing.assert_allclose(losses.clip_loss(apart, apart, 100.0, smoothing=0.1), 0.1 * 6 / 7 * 100, rtol=1e-5)


def test_siglip_special_cases():
    u = jnp.eye(3)
    no_say = losses.siglip_loss(u, u, 0.0, 0.0)  # every pair is as likely as not: a sum over texts, not a mean
    np.testing.assert_allclose(no_say, 3 * np.log(2), rtol=1e-6)
    # Sure and right; the loss is e^-20 a pair, far below float32's grain at 20.
    np.testing.assert_allclose(losses.siglip_loss(u, u, 40.0, -20.0), 3 * np.exp(-20), rtol=1e-4)
    np.testing.assert_allclose(losses.siglip_loss(u, u, 0.0, 200.0), 2 * 200, rtol=1e-6)  # sure and wrong


def test_length_does_not_matter(rng):
    u, v = f32(rng.normal(size=(2, 5, 4)))
    longer = f32(rng.uniform(0.01, 100, (5, 1)))
    for loss in (losses.simclr_loss, clip, siglip):
        np.testing.assert_allclose(loss(u * longer, v / longer), loss(u, v), rtol=1e-5)


def test_gradients_are_those_of_the_twins(rng):
    u, v = rng.normal(size=(2, 3, 4))
    smoothed = lambda f: lambda u, v, scale: f(u, v, scale, smoothing=0.2)
    cases = [
        (losses.simclr_loss, slow_twins.simclr_loss, (u, v, 0.5)),
        (losses.clip_loss, slow_twins.clip_loss, (u, v, 5.0)),
        (smoothed(losses.clip_loss), smoothed(slow_twins.clip_loss), (u, v, 5.0)),
        (losses.siglip_loss, slow_twins.siglip_loss, (u, v, 5.0, -2.0)),
    ]
    for loss, twin, args in cases:
        for i, g in enumerate(jax.jit(jax.grad(loss, range(len(args))))(*map(f32, args))):
            np.testing.assert_allclose(g, slow_twins.gradient(twin, args, i), rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_at_zero():
    zero, one, scale = jnp.zeros((3, 4)), jnp.ones((3, 4)), jnp.float32(10)
    assert np.isfinite(jax.grad(losses.simclr_loss)(zero, one)).all()
    assert np.isfinite(jax.grad(losses.clip_loss)(zero, one, scale)).all()
    assert np.isfinite(jax.grad(losses.siglip_loss)(zero, one, scale, -scale)).all()


def test_over_a_mesh_they_are_the_same(rng):
    u, v, scale, bias = f32(rng.normal(size=(16, 5))), f32(rng.normal(size=(16, 5))), f32(7.0), f32(-2.0)
    axis = parallel.DATA
    assert_the_same(partial(losses.simclr_loss, axis=axis), (ROWS, ROWS), (u, v), (0, 1), losses.simclr_loss)
    specs, args = (ROWS, ROWS, ALL, ALL), (u, v, scale, bias)
    smoothed = partial(losses.clip_loss, smoothing=0.1)
    assert_the_same(partial(smoothed, axis=axis), specs[:3], args[:3], (0, 1, 2), smoothed)
    assert_the_same(partial(losses.siglip_loss, axis=axis), specs, args, (0, 1, 2, 3), losses.siglip_loss)


def test_bfloat16_in_float32_out(rng):
    u, v = rng.normal(size=(2, 5, 4))
    low = [jnp.asarray(x, jnp.bfloat16) for x in (u, v)]
    for loss in (losses.simclr_loss, clip, siglip):
        value, g = jax.jit(jax.value_and_grad(loss))(*low)
        assert (value.dtype, g.dtype) == (jnp.float32, jnp.bfloat16)
        assert np.isfinite(g.astype(jnp.float32)).all()
        np.testing.assert_allclose(value, loss(*(x.astype(jnp.float32) for x in low)), rtol=1e-6)
