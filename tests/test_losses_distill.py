"""DINO's loss and center: against loops in float64, by hand where the answer is known, and on eight devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_twins
from jax.extend import core
from over_devices import ALL, VIEWS, assert_the_same

from abx import losses, parallel


def f32(x):
    return jnp.asarray(x, jnp.float32)


def outputs(rng, g, v, b, k):
    """Of both networks, about as far apart as cosines are."""
    return rng.uniform(-1, 1, (v, b, k)), rng.uniform(-1, 1, (g, b, k)), rng.uniform(-0.2, 0.2, k)


@pytest.mark.parametrize(("g", "v", "b", "k"), [(2, 5, 3, 13), (2, 2, 1, 7), (1, 3, 7, 2), (3, 4, 2, 5), (2, 1, 2, 3)])
def test_equals_its_twin(rng, g, v, b, k):
    args = outputs(rng, g, v, b, k)
    np.testing.assert_allclose(losses.dino_loss(*map(f32, args)), slow_twins.dino_loss(*args), rtol=1e-5)
    warm = losses.dino_loss(*map(f32, args), f32(0.2), f32(0.07))
    np.testing.assert_allclose(warm, slow_twins.dino_loss(*args, 0.2, 0.07), rtol=1e-5)


def test_equal_logits_give_chance():
    np.testing.assert_allclose(
        losses.dino_loss(f32(np.ones((5, 3, 13))), f32(np.ones((2, 3, 13))), jnp.zeros(13)), np.log(13), rtol=1e-6
    )


def test_a_view_is_never_compared_with_itself():
    """Two views of which each shows another prototype: the same pairs would cost nothing, the crossed ones 1 / 0.1."""
    views = f32(np.eye(2)[:, None])  # 2 1 2
    np.testing.assert_allclose(losses.dino_loss(views, views, jnp.zeros(2)), 10, rtol=1e-4)
    np.testing.assert_allclose(losses.dino_loss(views[::-1], views, jnp.zeros(2)), 0, atol=1e-4)
    with pytest.raises(ValueError, match="two different views"):
        losses.dino_loss(views[:1], views[:1], jnp.zeros(2))


def test_the_center_is_taken_off_before_the_temperature(rng):
    student, teacher, center = map(f32, outputs(rng, 2, 4, 3, 5))
    moved = losses.dino_loss(student, teacher + center, center)
    np.testing.assert_allclose(moved, losses.dino_loss(student, teacher, jnp.zeros(5)), rtol=1e-5)


def test_only_the_student_learns(rng):
    args = outputs(rng, 2, 3, 2, 5)
    student, teacher, center = jax.grad(losses.dino_loss, (0, 1, 2))(*map(f32, args))
    np.testing.assert_allclose(student, slow_twins.gradient(slow_twins.dino_loss, args, 0), rtol=1e-4, atol=1e-5)
    assert not teacher.any()
    assert not center.any()


def test_nothing_is_as_large_as_all_pairs():
    g, v, b, k = 2, 10, 4, 64
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
    fn = jax.make_jaxpr(jax.grad(losses.dino_loss))(shape(v, b, k), shape(g, b, k), shape(k))
    sizes = [out.aval.size for equation in _equations(fn.jaxpr) for out in equation.outvars]
    assert max(sizes) == v * b * k


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


def test_over_a_mesh_it_is_the_same(rng):
    args = tuple(map(f32, outputs(rng, 2, 4, 16, 7)))
    assert_the_same(losses.dino_loss, (VIEWS, VIEWS, ALL), args, (0,))


def test_the_center_follows_the_mean(rng):
    teacher, center = rng.normal(size=(2, 3, 5)), rng.normal(size=5)
    expected = [0.9 * center[k] + 0.1 * sum(teacher[t, i, k] for t in range(2) for i in range(3)) / 6 for k in range(5)]
    np.testing.assert_allclose(losses.update_center(f32(center), f32(teacher)), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.update_center(f32(center), f32(teacher), 1.0), center, rtol=1e-6)
    constant = jnp.full((2, 3, 5), 4.0)
    c = jnp.zeros(5)
    for _ in range(3):
        c = losses.update_center(c, constant, 0.5)
    np.testing.assert_allclose(c, 4 * (1 - 0.5**3), rtol=1e-6)


def test_the_center_stops_the_gradient(rng):
    for g in jax.grad(lambda c, t: losses.update_center(c, t).sum(), (0, 1))(jnp.ones(5), jnp.ones((2, 3, 5))):
        assert not g.any()


def test_the_center_is_everyones(rng):
    center, teacher = f32(rng.normal(size=5)), f32(rng.normal(size=(2, 16, 5)))
    fn = jax.shard_map(
        partial(losses.update_center, axis=parallel.DATA), mesh=parallel.mesh(), in_specs=(ALL, VIEWS), out_specs=ALL
    )
    np.testing.assert_allclose(
        jax.jit(fn)(center, teacher), losses.update_center(center, teacher), rtol=1e-5, atol=1e-7
    )


def test_bfloat16_in_float32_out(rng):
    student, teacher, center = (jnp.asarray(x, jnp.bfloat16) for x in outputs(rng, 2, 4, 3, 5))
    value, g = jax.value_and_grad(losses.dino_loss)(50 * student, 50 * teacher, f32(center))
    assert (value.dtype, g.dtype) == (jnp.float32, jnp.bfloat16)
    assert np.isfinite(value)
    assert np.isfinite(g.astype(jnp.float32)).all()
    assert losses.update_center(f32(center), teacher).dtype == jnp.float32
