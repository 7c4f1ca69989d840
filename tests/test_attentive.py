"""The attentive probe: finds the token that tells, learns by heart what it is shown, and nothing where nothing is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import assert_eight_devices_equal_one, epochs, sentences, trained

from abx.methods import Method
from abx.probes.attentive import AttentiveProbe
from abx.probes.batches import Labelled

PROBE = AttentiveProbe(classes=4, heads=2, mlp=24)


def oracle(rng, m, classes=4, t=6, d=12):
    """Noise of unlike scales; the class is written in one token, at a random place."""
    labels, tokens = rng.integers(0, classes, m), rng.normal(size=(m, t, d))
    tokens[np.arange(m), rng.integers(0, t, m), labels] += 8
    return Labelled((tokens * 10.0 ** np.linspace(-2, 2, d) + 3).astype(np.float32), labels)


def top1(model, batch):
    return float((jax.vmap(model)(batch.features).argmax(-1) == batch.labels).mean())


def test_an_oracle_is_read(rng):
    train, test = oracle(rng, 600), oracle(rng, 400)
    state, _ = trained(PROBE, epochs(train, 64), 250, optax.adam(3e-3), train)
    assert top1(state.model, test) > 0.95


def test_shuffled_labels_are_learnt_by_heart_and_tell_nothing(rng):
    """All of a tiny set is learnt, and chance is all there is on others."""
    train, test = oracle(rng, 48), oracle(rng, 400)
    shuffled = train._replace(labels=rng.permutation(train.labels))
    state, metrics = trained(PROBE, epochs(shuffled, 48), 200, optax.adam(3e-3), shuffled)
    assert metrics["probe/top1"] == top1(state.model, shuffled) == 1
    assert top1(state.model, test) == pytest.approx(0.25, abs=0.09)


def test_half_precision_features_are_read_as_they_are(rng):
    train = oracle(rng, 32)
    half = train._replace(features=train.features.astype(np.float16))
    whole = half._replace(features=half.features.astype(np.float32))
    a, b = (PROBE.init(jax.random.key(0), batch)[0] for batch in (half, whole))
    np.testing.assert_allclose(jax.vmap(a)(half.features), jax.vmap(b)(whole.features), rtol=1e-5, atol=1e-5)


def test_scale_and_offset_of_features_change_nothing(rng):
    train = oracle(rng, 32)
    other = train._replace(features=1000 * train.features - 70)
    a, b = (PROBE.init(jax.random.key(0), batch)[0] for batch in (train, other))
    np.testing.assert_allclose(jax.vmap(a)(train.features), jax.vmap(b)(other.features), atol=1e-3)


def test_bfloat16_is_close(rng):
    batch = oracle(rng, 16)
    found = [AttentiveProbe(4, dtype=d).init(jax.random.key(0), batch)[0] for d in ("float32", "bfloat16")]
    a, b = (jax.vmap(model)(batch.features) for model in found)
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_heads_that_do_not_divide(rng):
    batch = oracle(rng, 8)
    assert AttentiveProbe(4).init(jax.random.key(0), batch)[0].pool.heads == 1
    with pytest.raises(ValueError, match="heads must divide the tokens' width, 12, which 5 does not"):
        AttentiveProbe(4, heads=5).init(jax.random.key(0), batch)


def test_eight_devices_equal_one(rng):
    assert_eight_devices_equal_one(PROBE, oracle(rng, 16))


def test_problems():
    assert isinstance(PROBE, Method)
    assert PROBE.problems() == []
    assert sentences(PROBE, classes=1, heads=-1, mlp=-1) == ["classes", "heads", "mlp"]
