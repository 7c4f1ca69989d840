"""The losses of annotation bootstrapping; the methods' own are tested in test_losses_*.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_twins

from abx import losses


def f32(x):
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 7), (3, 4, 1)])
def test_value_target_equals_its_twin(rng, shape):
    b, n, l = shape
    reward, q = rng.uniform(size=(b, n, l)), 3 * rng.normal(size=(b, n, n, l))
    y = losses.value_target(f32(reward), f32(q), 0.3)
    np.testing.assert_allclose(y, slow_twins.value_target(reward, q, 0.3), rtol=1e-5)


def test_value_target_at_gamma_zero_is_the_reward(rng):
    reward = jax.nn.softmax(f32(rng.normal(size=(2, 3, 5))))
    np.testing.assert_array_equal(losses.value_target(reward, jnp.zeros((2, 3, 3, 5)), 0.0), reward)


def test_value_target_stops_the_gradient(rng):
    reward, q = f32(rng.uniform(size=(2, 3, 5))), f32(rng.normal(size=(2, 3, 3, 5)))
    for g in jax.grad(lambda r, q: losses.value_target(r, q, 0.5).sum(), (0, 1))(reward, q):
        assert not g.any()


def test_the_target_maximises_over_where_one_goes_next(rng):
    """Of next_q[j, k] the target at j looks along k, not along j."""
    q = jnp.full((1, 2, 2, 1), -5.0).at[0, 0, 1, 0].set(5.0)
    y = losses.value_target(jnp.zeros((1, 2, 1)), q, 1.0)[0, :, 0]
    np.testing.assert_allclose(y, jax.nn.sigmoid(jnp.array([5.0, -5.0])), rtol=1e-6)


@pytest.mark.parametrize("start", [0.01, 0.99])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_tabular_fixed_point(rng, start, gamma):
    """Iterated on a table the target reaches (1 - gamma) p_j + gamma max_k p_k, whatever the start (METHODS 2.3)."""
    n, l = 5, 3
    p = rng.uniform(size=(1, n, l)).astype(np.float32)
    y = jnp.full((1, n, l), start)
    for _ in range(300 if gamma == 0.9 else 80):
        q = jnp.broadcast_to(jnp.log(y / (1 - y))[:, None], (1, n, n, l))  # going to k is worth y_k, from anywhere
        y = losses.value_target(f32(p), q, gamma)
    np.testing.assert_allclose(y, (1 - gamma) * p + gamma * p.max(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 7), (3, 4, 1)])
def test_value_loss_equals_its_twin(rng, shape):
    b, n, l = shape
    q, y = 3 * rng.normal(size=(b, n, n, l)), rng.uniform(size=(b, n, l))
    np.testing.assert_allclose(losses.value_loss(f32(q), f32(y)), slow_twins.value_loss(q, y), rtol=1e-5)


def test_value_loss_gradient(rng):
    """d loss / d q = (sigmoid(q) - y_j) / (b n^2): what counts is the view j acted to, not the view i left."""
    q, y = f32(rng.normal(size=(2, 3, 3, 4))), f32(rng.uniform(size=(2, 3, 4)))
    expected = (jax.nn.sigmoid(q) - y[:, None]) / (2 * 9)
    np.testing.assert_allclose(jax.grad(losses.value_loss)(q, y), expected, rtol=1e-5, atol=1e-8)


def test_value_loss_is_exact_at_large_logits():
    q = f32([[[[-200.0, 200.0]]]])
    np.testing.assert_allclose(losses.value_loss(q, f32([[[0.0, 1.0]]])), 0, atol=1e-6)
    np.testing.assert_allclose(losses.value_loss(q, f32([[[1.0, 0.0]]])), 400, rtol=1e-6)


def test_a_broadcast_target_is_refused():
    with pytest.raises(Exception, match="target"):
        losses.value_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 1)))


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_chunked_equals_dense(rng, chunk):
    b, n, l, e = 2, 3, 10, 6
    phi, target_phi = f32(rng.normal(size=(2, b, n, n, e)))
    psi, target_psi = f32(rng.normal(size=(2, l, e)))
    reward, scale, bias = f32(rng.uniform(size=(b, n, l))), jnp.float32(3.0), jnp.float32(-1.0)
    dense_target = losses.value_target(reward, scale * target_phi @ target_psi.T + bias, 0.5)
    target = losses.chunked_value_target(reward, target_phi, target_psi, scale, bias, 0.5, chunk=chunk)
    np.testing.assert_allclose(target, dense_target, rtol=1e-5)

    dense = lambda phi, psi, scale, bias: losses.value_loss(scale * phi @ psi.T + bias, target)
    chunked = lambda *args: losses.chunked_value_loss(*args, target, chunk=chunk)
    args = phi, psi, scale, bias
    for a, b in zip(*(jax.value_and_grad(f, (0, 1, 2, 3))(*args) for f in (dense, chunked)), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_chunked_holds_less_than_a_quarter(rng):
    """At b = 64, n = 4, l = 4096, e = 256 the chunked loss and gradient need under a quarter of the dense's memory."""
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
    args = shape(64, 4, 4, 256), shape(4096, 256), shape(), shape(), shape(64, 4, 4096)
    dense = lambda phi, psi, scale, bias, y: losses.value_loss(scale * phi @ psi.T + bias, y)
    used = {}
    for name, f in {"dense": dense, "chunked": losses.chunked_value_loss}.items():
        compiled = jax.jit(jax.grad(f, (0, 1, 2, 3))).lower(*args).compile()
        used[name] = compiled.memory_analysis().temp_size_in_bytes
    assert used["chunked"] < used["dense"] / 4, used
