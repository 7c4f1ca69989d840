"""MAE's and I-JEPA's losses: against loops in float64, by hand where the answer is known, and on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_twins
from hypothesis import given, settings
from hypothesis import strategies as st
from over_devices import ROWS, assert_the_same

from abx import losses


def f32(x):
    return jnp.asarray(x, jnp.float32)


def some(rng, *shape):
    """A mask that keeps about half, and the first."""
    mask = rng.random(shape) < 0.5
    mask.flat[0] = True
    return mask


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 7), (2, 13, 48)])
@pytest.mark.parametrize("dtype", [bool, np.float32, np.int32])
def test_mae_equals_its_twin(rng, shape, dtype):
    pred, patches, mask = rng.normal(size=shape), rng.uniform(-1, 1, shape), some(rng, *shape[:2])
    loss = losses.mae_loss(f32(pred), f32(patches), jnp.asarray(mask, dtype))
    np.testing.assert_allclose(loss, slow_twins.mae_loss(pred, patches, mask), rtol=1e-5)


def test_mae_is_zero_where_the_prediction_is_the_normalised_patch(rng):
    patches = rng.uniform(0, 1, (2, 3, 12))
    right = (patches - patches.mean(-1, keepdims=True)) / patches.std(-1, ddof=1, keepdims=True)
    assert losses.mae_loss(f32(right), f32(patches), jnp.ones((2, 3))) < 1e-6
    # What the encoder saw does not count, however wrong.
    mask = f32([[1, 0, 0], [0, 1, 1]])
    assert losses.mae_loss(jnp.where(mask[..., None] == 0, 1e3, f32(right)), f32(patches), mask) < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 2), st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_mae_does_not_see_brightness_or_contrast(contrast, brightness, seed):
    rng = np.random.default_rng(seed)
    pred, patches, mask = f32(rng.normal(size=(2, 3, 12))), rng.uniform(-1, 1, (2, 3, 12)), jnp.ones((2, 3))
    once = losses.mae_loss(pred, f32(patches), mask)
    np.testing.assert_allclose(losses.mae_loss(pred, f32(contrast * patches + brightness), mask), once, rtol=1e-4)


def test_mae_of_a_flat_patch_is_finite():
    """A patch of one colour has nothing to predict; 1e-6 keeps its deviation from zero."""
    value, g = jax.value_and_grad(losses.mae_loss)(
        jnp.full((1, 2, 3), 2.0), jnp.full((1, 2, 3), 0.25), jnp.ones((1, 2))
    )
    assert value == 4
    np.testing.assert_allclose(g, 2 * 2 / 6)


def test_mae_gradient(rng):
    pred, patches, mask = rng.normal(size=(2, 3, 5)), rng.uniform(-1, 1, (2, 3, 5)), some(rng, 2, 3)
    to_pred, to_patches = jax.grad(losses.mae_loss, (0, 1))(f32(pred), f32(patches), jnp.asarray(mask))
    twin = lambda pred: slow_twins.mae_loss(pred, patches, mask)
    np.testing.assert_allclose(to_pred, slow_twins.gradient(twin, [pred], 0), rtol=1e-4, atol=1e-6)
    assert not to_patches.any()
    assert not to_pred[~mask].any()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (1, 7, 2), (2, 3, 5, 13)])
def test_ijepa_equals_its_twin(rng, shape):
    pred, target = 2 * rng.normal(size=(2, *shape))
    np.testing.assert_allclose(
        losses.ijepa_loss(f32(pred), f32(target)), slow_twins.ijepa_loss(pred, target), rtol=1e-5
    )
    mask = some(rng, *shape[:-1])
    for dtype in (bool, np.float32, np.int32):
        loss = losses.ijepa_loss(f32(pred), f32(target), jnp.asarray(mask, dtype))
        np.testing.assert_allclose(loss, slow_twins.ijepa_loss(pred, target, mask), rtol=1e-5)


def test_ijepa_special_cases(rng):
    x = f32(rng.normal(size=(2, 3, 5)))
    assert losses.ijepa_loss(x, x) == 0
    assert not jax.grad(losses.ijepa_loss)(x, x).any()
    e = f32([[0.5, -0.5, 1.0, -3.0]])
    np.testing.assert_allclose(losses.ijepa_loss(e, jnp.zeros((1, 4))), (0.125 + 0.125 + 0.5 + 2.5) / 4)
    np.testing.assert_allclose(jax.grad(losses.ijepa_loss)(e, jnp.zeros((1, 4))), f32([[0.5, -0.5, 1, -1]]) / 4)


def test_ijepa_gradient(rng):
    pred, target, mask = *(2 * rng.normal(size=(2, 2, 3, 5))), some(rng, 2, 3)
    to_pred, to_target = jax.grad(losses.ijepa_loss, (0, 1))(f32(pred), f32(target), jnp.asarray(mask))
    twin = lambda pred: slow_twins.ijepa_loss(pred, target, mask)
    np.testing.assert_allclose(to_pred, slow_twins.gradient(twin, [pred], 0), rtol=1e-4, atol=1e-6)
    assert not to_target.any()
    assert not to_pred[~mask].any()


@pytest.mark.parametrize("loss", [losses.mae_loss, losses.ijepa_loss])
def test_nothing_to_predict_costs_nothing(rng, loss):
    value, g = jax.value_and_grad(loss)(*f32(rng.normal(size=(2, 2, 3, 5))), jnp.zeros((2, 3), bool))
    assert value == 0
    assert not g.any()


@pytest.mark.parametrize("loss", [losses.mae_loss, losses.ijepa_loss])
def test_over_a_mesh_they_are_the_same(rng, loss):
    """With equally many tokens to predict in each row."""
    pred, target = f32(rng.normal(size=(2, 16, 8, 5)))
    mask = f32(rng.permuted(np.tile(np.arange(8) < 3, (16, 1)), axis=1))
    assert_the_same(loss, (ROWS, ROWS, ROWS), (pred, target, mask), (0,))


@pytest.mark.parametrize("loss", [losses.mae_loss, losses.ijepa_loss])
def test_bfloat16_in_float32_out(rng, loss):
    pred, target = jnp.asarray(rng.normal(size=(2, 2, 3, 5)), jnp.bfloat16)
    mask = jnp.ones((2, 3), jnp.bfloat16)
    value, g = jax.value_and_grad(loss)(pred, target, mask)
    assert (value.dtype, g.dtype) == (jnp.float32, jnp.bfloat16)
    assert np.isfinite(g.astype(jnp.float32)).all()
    np.testing.assert_allclose(value, loss(*(x.astype(jnp.float32) for x in (pred, target, mask))), rtol=1e-6)
