"""DINO's head and prototypes, and the scale that the optimiser keeps in bounds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from abx.nn import DINOHead, Prototypes, Scale
from abx.optim import AdamW

KEY = jax.random.key(0)


def test_dino_head_is_three_linears_and_a_norm(rng):
    x = jnp.asarray(rng.normal(size=(5, 12)), jnp.float32)
    head = DINOHead(12, 32, 8, gelu="tanh", key=KEY)
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    y = np.asarray(x, np.float64)
    for fc in (head.fc1, head.fc2):
        y = gelu(y @ np.asarray(fc.weight) + np.asarray(fc.bias))
    y = y @ np.asarray(head.fc3.weight)
    np.testing.assert_allclose(head(x), y / np.linalg.norm(y, axis=-1, keepdims=True), atol=1e-5)


def test_dino_head_by_default_has_the_exact_gelu_and_its_init(rng):
    x = jnp.asarray(rng.normal(size=(5, 384)), jnp.float32)
    head = DINOHead(384, key=KEY)
    assert (head.fc1.weight.shape, head.fc2.weight.shape, head.fc3.weight.shape) == (
        (384, 2048),
        (2048, 2048),
        (2048, 256),
    )
    assert float(head.fc2.weight.std()) == pytest.approx(0.02, rel=0.01)
    assert not any(fc.bias.any() for fc in (head.fc1, head.fc2, head.fc3))
    y = jax.nn.gelu(head.fc2(jax.nn.gelu(head.fc1(x), approximate=False)), approximate=False)
    y = head.fc3(y)
    np.testing.assert_allclose(head(x), y / jnp.linalg.norm(y, axis=-1, keepdims=True), atol=1e-6)


def test_heads_answer_in_float32_to_bfloat16(rng):
    x = jnp.asarray(rng.normal(size=(5, 12)), jnp.bfloat16)
    embedded = DINOHead(12, 32, 8, key=KEY)(x)
    assert embedded.dtype == Prototypes(12, 6, key=KEY)(x).dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(embedded, axis=-1), 1, atol=1e-5)


def test_prototypes_are_unit_vectors_whatever_their_length(rng):
    prototypes = Prototypes(8, 21, key=KEY)
    x = jnp.asarray(rng.normal(size=(3, 4, 8)), jnp.float32)
    vectors = prototypes.vectors()
    assert vectors.shape == (21, 8)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    cosines = prototypes(x)
    for place in np.ndindex(3, 4):
        for k in range(21):
            assert float(cosines[*place, k]) == pytest.approx(float(x[place] @ vectors[k]), abs=1e-5)
    longer = jax.tree.map(lambda w: 7 * w, prototypes)
    np.testing.assert_allclose(longer(x), cosines, atol=1e-5)


def test_a_prototypes_gradient_does_not_change_its_length(rng):
    prototypes = Prototypes(8, 5, key=KEY)
    x = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32)
    gradient = jax.grad(lambda p: jnp.square(p(x)).sum())(prototypes).linear.weight
    assert jnp.abs(gradient).max() > 1
    along = (gradient * prototypes.linear.weight).sum(0) / jnp.linalg.norm(prototypes.linear.weight, axis=0)
    np.testing.assert_allclose(along, 0, atol=1e-3)


def test_a_gain_is_the_prototypes_length(rng):
    """Torch's weight_norm: g v / |v| with g learned, all at 1 to begin with."""
    plain, free = Prototypes(8, 5, key=KEY), Prototypes(8, 5, gain=True, key=KEY)
    x, g = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32), jnp.asarray(rng.uniform(0.5, 2, 5), jnp.float32)
    np.testing.assert_array_equal(free(x), plain(x))
    longer = eqx.tree_at(lambda p: p.gain, free, g)
    weight = g[:, None] * plain.linear.weight.T / jnp.linalg.norm(plain.linear.weight.T, axis=1, keepdims=True)
    np.testing.assert_allclose(longer(x), x @ weight.T, atol=1e-5)
    np.testing.assert_allclose(longer.vectors(), plain.vectors(), atol=1e-6)
    assert jnp.abs(jax.grad(lambda p: jnp.square(p(x)).sum())(longer).gain).min() > 1e-3


def test_a_scale_stays_in_bounds_and_comes_back():
    """A pull that would take it to exp(30) and back leaves it at 100, and the first turned updates already count."""
    model = {"scale": Scale(14.0), "free": jnp.zeros(())}
    tx = AdamW(lr=0.5, warmup=0.0, beta1=0.0, weight_decay=0.0, weight_decay_end=0.0).build(1000)
    state, seen = tx.init(model), []
    for direction in [-1e8] * 20 + [1e8] * 20:
        gradient = jax.tree.map(lambda x, d=direction: jnp.full_like(x, d), model)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(gradient, state, model)
        model = jax.tree.map(jnp.add, model, updates)
        seen.append(float(model["scale"]()))
        assert 1 - 1e-6 <= seen[-1] <= 100 * (1 + 1e-6)
        if len(seen) == 20:
            assert float(model["free"]) > 9  # what isn't a scale goes where it is pulled
    assert seen[19] == pytest.approx(100, rel=1e-6)
    assert seen[20] == pytest.approx(100 * np.exp(-0.5), rel=0.01)
    assert seen[-1] == pytest.approx(1, rel=1e-6)
