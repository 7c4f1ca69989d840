"""What must hold of annotation bootstrapping whatever the reward (METHODS 2.11)."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB, TINY_SIMCLR

from abx import losses
from abx.methods import AB, Method, Reward

KEY = jax.random.key(0)


@pytest.fixture
def ready(ab_batch):
    model, carry = TINY_AB.init(KEY, ab_batch)
    target, _ = TINY_AB.init(jax.random.key(1), ab_batch)
    return model, target, carry, jax.device_put(ab_batch)


def size(tree):
    return sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))


def test_protocols():
    assert isinstance(TINY_AB, Method)
    assert isinstance(TINY_SIMCLR, Reward)


def test_where_the_value_gradient_reaches(ready):
    """To the backbone, the decoder, both value heads and scale; never to the base's own head, nor to the target."""
    model, target, carry, batch = ready
    value_only = replace(TINY_AB, reward_weight=0.0)
    loss = lambda m, t: value_only.loss(m, t, carry, batch, KEY)[0]
    online, lagging = jax.jit(jax.grad(loss, (0, 1)))(model, target)
    assert size(lagging) == 0
    assert size(online.base.head) == 0
    for part in (online.base.backbone, online.value.decoder, online.value.head, online.value.annotation_head):
        assert size(part) > 0
    assert abs(online.value.log_scale) > 0
    assert abs(online.value.bias) > 0


def test_the_value_gradient_reaches_the_backbone_from_both_sides(ready):
    """Through the tokens of the view and through psi of the annotations (A-13)."""
    model, target, carry, batch = ready

    @jax.jit
    def gradients(model):
        p = TINY_AB.predict(model, target, carry, batch, KEY)
        y = losses.value_target(p.reward, target.value.logits(p.target_phi, p.target_psi), 0.5)
        loss = lambda phi, psi: losses.value_loss(model.value.logits(phi, psi), y)
        return jax.grad(loss, (0, 1))(p.phi, p.psi)

    assert all(size(g) > 0 for g in gradients(model))


def test_ablations_are_what_they_say(ready):
    model, target, carry, batch = ready
    total = lambda **change: replace(TINY_AB, **change).loss(model, target, carry, batch, KEY)[0]
    value = total(reward_weight=0.0)
    reward = total(value_weight=0.0, reward_weight=1.0)
    np.testing.assert_allclose(total(), 2 * reward + value, rtol=1e-5)
    np.testing.assert_allclose(total(value_weight=3.0), 2 * reward + 3 * value, rtol=1e-5)


def test_without_actions_every_target_looks_alike(ready):
    model, target, carry, batch = ready
    predict = lambda method: method.predict(model, target, carry, batch, KEY).phi
    blind = predict(replace(TINY_AB, actions=False))
    np.testing.assert_allclose(blind, jnp.broadcast_to(blind[:, :, :1], blind.shape), atol=1e-6)
    assert np.ptp(np.asarray(predict(TINY_AB)), axis=2).max() > 1e-3


def test_no_target_network_is_the_online_one(ready):
    """tau = 1 makes the target what the online network was made by the last step: the same, as of this step."""
    from abx import train
    from abx.optim import EMA, AdamW

    tx = AdamW().build(10)
    state = train.init(TINY_AB, tx, 0, ready[3])
    state, _ = train.make_step(TINY_AB, tx, EMA(tau=1.0, shape="constant").schedule(10), 0)(state, ready[3])
    for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(state.target), strict=True):
        np.testing.assert_array_equal(a, b)


def test_permuting_views_permutes_everything(ready):
    model, target, carry, batch = ready
    order = np.array([2, 0, 1])
    turned = batch._replace(value=type(batch.value)(*(x[:, order] for x in batch.value)))
    a, b = (TINY_AB.predict(model, target, carry, x, KEY) for x in (batch, turned))
    np.testing.assert_allclose(a.phi[:, order][:, :, order], b.phi, atol=1e-5)
    np.testing.assert_allclose(a.reward[:, order], b.reward, atol=1e-5)


def test_rewards_are_distributions_over_the_annotations(ready):
    model, target, carry, batch = ready
    reward = TINY_AB.predict(model, target, carry, batch, KEY).reward
    assert reward.shape == (8, 3, 8)
    np.testing.assert_allclose(reward.sum(-1), 1, rtol=1e-5)


def test_augmented_views_mirror_their_actions(ready):
    """From a flipped view the same place lies on the other side; photometric changes move nothing."""
    from abx.augment import Photometric

    flips = replace(TINY_AB, augment_value=True, photometric=Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=1.0))
    images, actions = flips._views(ready[3].value, KEY, None)
    plain_images, plain = TINY_AB._views(ready[3].value, KEY, None)
    np.testing.assert_allclose(actions[..., 1], 1 - plain[..., 3], atol=1e-6)
    np.testing.assert_allclose(images[:, :, :, ::-1], plain_images.astype(jnp.float32) / 127.5 - 1, atol=1e-6)


def test_bias(ab_batch):
    ab_batch = jax.device_put(ab_batch)
    start = lambda **change: float(replace(TINY_AB, **change).init(KEY, ab_batch)[0].value.bias)
    assert start() == pytest.approx(-math.log(8))
    assert start(value_bias=-3.0) == -3
    model, carry = replace(TINY_AB, value_bias="first-batch").init(KEY, ab_batch)
    p = TINY_AB.predict(model, model, carry, ab_batch, jax.random.split(KEY, 5)[4])
    assert float(jax.nn.sigmoid(model.value.logits(p.phi, p.psi)).sum(-1).mean()) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="first-batch"):
        replace(TINY_AB, value_bias="first-batch").init(KEY)


def test_gamma_warms_up():
    method = AB(TINY_SIMCLR, gamma=0.8, gamma_warmup=10)
    assert [float(method.discount(jnp.int32(s))) for s in (0, 5, 10, 99)] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert float(AB(TINY_SIMCLR).discount(jnp.int32(0))) == 0.5


def test_mistakes_are_named():
    wrong = AB(replace(TINY_SIMCLR, temperature=0.0), gamma=1.5, value_weight=-1.0)
    assert wrong.problems() == [
        "base.temperature must be above 0, not 0.0",
        "gamma must be in [0, 1), not 1.5",
        "value_weight must be at least 0, not -1.0",
    ]
