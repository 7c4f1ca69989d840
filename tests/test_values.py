"""The value head's figures, on predictions whose figures are known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB, random_views

from abx import losses
from abx.analysis import values
from abx.analysis.value_map import box_grid, value_map
from abx.types import ABBatch


@pytest.fixture
def y(rng):
    return jax.nn.softmax(3 * jnp.asarray(rng.normal(size=(6, 4, 10)), jnp.float32))


def test_a_perfect_head_has_no_excess_and_the_marginal_has_the_entropy_it_misses(y):
    perfect = jnp.broadcast_to(values.logit(y)[:, None], (6, 4, 4, 10))
    np.testing.assert_allclose(values.pair_excess(perfect, y), 0, atol=1e-4)
    mean = jnp.broadcast_to(values.logit(y.mean((0, 1)))[None, None, None], perfect.shape)
    floor = losses.value_loss(perfect, y)
    np.testing.assert_allclose(values.pair_excess(mean, y).mean(), losses.value_loss(mean, y) - floor, rtol=1e-4)


def test_the_shrunk_copy_is_at_least_as_good_as_copy_and_as_mean(y):
    moved = ~jnp.eye(4, dtype=bool)[None] & jnp.ones((6, 1, 1), bool)
    best = values._best_shrunk_copy(y, moved)
    for guess in (y, jnp.broadcast_to(y.mean((0, 1)), y.shape)):
        as_logits = jnp.broadcast_to(values.logit(guess)[:, :, None], (6, 4, 4, 10))
        assert best <= values._mean(values.pair_excess(as_logits, y), moved) + 1e-5


def test_metrics_of_a_fresh_network(rng):
    batches = [jax.device_put(ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3))) for _ in range(2)]
    model, carry = TINY_AB.init(jax.random.key(0), batches[0])
    found = values.value_metrics(TINY_AB, model, model, carry, batches)
    assert found["value/chance"] == pytest.approx(1 / 8)
    assert all(np.isfinite(v) for v in found.values())
    assert found["value/excess"] > 0
    assert found["value/gradient_ratio"] > 0
    bins = [k for k in found if k.startswith("value/accuracy_") and k != "value/accuracy_self"]
    assert 1 <= len(bins) <= 4


def test_one_view_has_no_pairs_and_no_nan(rng):
    batch = jax.device_put(ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 1)))
    model, carry = TINY_AB.init(jax.random.key(0), batch)
    found = values.value_metrics(TINY_AB, model, model, carry, [batch])
    assert {k for k, v in found.items() if not np.isfinite(v)} == {"value/over_copy"}


def test_of_pictures_that_are_all_alike_there_is_nothing_to_tell(rng):
    blank = lambda n: random_views(rng, 8, n)._replace(images=np.zeros((8, n, 16, 16, 3), np.uint8))
    batch = jax.device_put(ABBatch(blank(2), blank(3)))
    rewards_only = replace(TINY_AB, gamma=0.0)  # an untrained Q tells boxes apart, not pictures
    model, carry = rewards_only.init(jax.random.key(0), batch)
    found = values.value_metrics(rewards_only, model, model, carry, [batch])
    assert np.isnan(found["value/explained"])
    assert found["value/marginal_excess"] == pytest.approx(0, abs=1e-4)


def test_value_map_asks_for_the_boxes_it_says(rng):
    batch = jax.device_put(ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3)))
    model, carry = TINY_AB.init(jax.random.key(0), batch)
    source = np.array([0.25, 0.25, 0.75, 0.75], np.float32)
    view = np.asarray(batch.value.images[0, 0])
    grid = box_grid()
    found = value_map(TINY_AB, model, carry, view, source, batch.reward, targets=grid, count=3)
    assert found.values.shape == (3, len(grid))
    assert ((found.values > 0) & (found.values < 1)).all()
    assert (np.diff(found.values.max(1)) <= 0).all()  # the most valuable first
    # The value of one box by hand: its action is the box in the frame of the source.
    action = (grid[5] - np.tile(source[:2], 2)) / 0.5
    tokens = model.backbone(view)[None, None]
    phi = model.value.phi(tokens, jnp.asarray(action)[None, None, None])
    encoded = TINY_AB.base.encode_target(model.base, batch.reward)
    psi = TINY_AB.base.annotations(model.value.annotation_head, encoded)
    q = jax.nn.sigmoid(model.value.logits(phi, psi))[0, 0, 0]
    np.testing.assert_allclose(found.values[:, 5], q[found.chosen], rtol=1e-4)
