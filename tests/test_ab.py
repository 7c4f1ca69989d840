"""What must hold of annotation bootstrapping whatever the reward (METHODS 2.11)."""

import math
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import METHODS, SIMCLR, ab, drawn

from abx import losses, train
from abx.augment import Photometric
from abx.methods import AB
from abx.methods.ab import ABCarry, ABModel, Prediction
from abx.optim import EMA, AdamW
from abx.types import ABBatch

KEY = jax.random.key(0)
OWN_HEADS = {
    "clip": ("head", "text_head", "scale"),
    "siglip": ("head", "text_head", "scale", "bias"),
    "simclr": ("head",),
    "dino": ("head", "prototypes"),
}
"""What of a base none but its own loss trains."""
every_base = pytest.mark.parametrize("base", OWN_HEADS)


class Ready(NamedTuple):
    """A method, two networks that differ, a batch."""

    method: AB[Any]
    model: ABModel
    target: ABModel
    carry: ABCarry
    batch: ABBatch

    def predict(self, **change: Any) -> Prediction:
        """With another method or another batch, if so told."""
        return predict(*self._replace(**change))


@partial(jax.jit, static_argnums=0)
def predict(method, model, target, carry, batch):
    return method.predict(model, target, carry, batch, KEY)


@cache
def ready(base):
    case = METHODS[f"ab_{base}"]
    batch = jax.device_put(case.batch(np.random.default_rng(0)))
    model, carry = case.method.init(KEY, batch)
    target, _ = case.method.init(jax.random.key(1), batch)
    return Ready(case.method, model, target, carry, batch)


def size(tree):
    return sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))


@every_base
def test_where_the_value_gradient_reaches(base):
    """To the backbone, the decoder, both value heads, scale and bias, and a text tower if there is one; never to the
    base's own heads, nor to the target network."""
    method, model, target, carry, batch = ready(base)
    value_only = replace(method, reward_weight=0.0)
    loss = lambda m, t: value_only.loss(m, t, carry, batch, KEY)[0]
    online, lagging = jax.jit(jax.grad(loss, (0, 1)))(model, target)
    assert size(lagging) == 0
    for name in OWN_HEADS[base]:
        assert size(getattr(online.base, name)) == 0, name
    parts = [online.base.backbone, *(getattr(online.value, name) for name in online.value.__dataclass_fields__)]
    assert all(size(part) > 0 for part in parts)
    if hasattr(online.base, "text"):
        assert size(online.base.text) > 0


@pytest.mark.parametrize(("base", "tower"), [("clip", "text"), ("simclr", "backbone")])
def test_the_annotations_side_can_be_cut_off(base, tower):
    """Through psi the value loss trains the tower of the annotations and psi's own head, or the head alone (A-13)."""
    _, model, target, carry, batch = ready(base)
    reached = {}
    for flows in (True, False):
        method = replace(ready(base).method, annotation_gradient=flows)
        psi = lambda m, method=method: method.predict(m, target, carry, batch, KEY).psi[:, 0].sum()
        reached[flows] = jax.jit(jax.grad(psi))(model)
        assert size(reached[flows].value.annotation_head) > 0
    assert size(getattr(reached[True].base, tower)) > 0
    assert size(reached[False].base) == 0


@every_base
@pytest.mark.parametrize("self_pairs", [True, False])
def test_chunked_equals_dense(base, self_pairs):
    """Targets, loss and gradients, though the last chunk is not full."""
    r = ready(base)
    p, found = r.predict(), {}
    for chunk in (0, 7):
        method = replace(r.method, chunk=chunk, self_pairs=self_pairs)

        def loss(phi, psi, value, method=method):
            y = method.value_target(r.target, p, r.carry.step)
            model = ABModel(r.model.base, value)
            return method.value_loss(model, p._replace(phi=phi, psi=psi), y), y

        found[chunk] = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(p.phi, p.psi, r.model.value)
    for a, b in zip(*map(jax.tree.leaves, found.values()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert size(found[7][1][0]) > 0


@every_base
def test_the_target_is_of_where_one_lands(base):
    """The target for view j is made of j's pixels alone: it is the same from wherever one came."""
    r = ready(base)
    target = lambda p: r.method.value_target(r.target, p, r.carry.step)
    images = r.batch.value.images.at[:, 0].set(255 - r.batch.value.images[:, 0])
    changed = r.batch._replace(value=r.batch.value._replace(images=images))
    before, after = target(r.predict()), target(r.predict(batch=changed))
    np.testing.assert_allclose(before[:, 1:], after[:, 1:], atol=1e-6)
    assert jnp.abs(before[:, 0] - after[:, 0]).max() > 1e-3


@every_base
def test_the_loss_does_not_ask_where_one_comes_from(base):
    """Sources may change places, targets may not."""
    r = ready(base)
    p, order = r.predict(), np.array([2, 0, 1])
    y = r.method.value_target(r.target, p, r.carry.step)
    loss = lambda phi: r.method.value_loss(r.model, p._replace(phi=phi), y)
    np.testing.assert_allclose(loss(p.phi[:, order]), loss(p.phi), rtol=1e-6)
    assert abs(loss(p.phi[:, :, order]) - loss(p.phi)) > 1e-5


def test_without_self_pairs_only_moves_count():
    """In the loss i = j is left out, in the target's maximum k = j (A-2)."""
    r = ready("simclr")
    p, method = r.predict(), replace(r.method, self_pairs=False)
    q, next_q = r.model.value.logits(p.phi, p.psi), r.target.value.logits(p.target_phi, p.target_psi)
    y = method.value_target(r.target, p, r.carry.step)
    n, terms = q.shape[1], []
    for j in range(n):
        others = [k for k in range(n) if k != j]
        best = jax.nn.sigmoid(next_q[:, j, others].max(1))
        np.testing.assert_allclose(y[:, j], 0.5 * p.reward[:, j] + 0.5 * best, rtol=1e-5)
        terms += [losses.value_loss(q[:, i, None, j, None], y[:, j, None]) for i in others]
    np.testing.assert_allclose(method.value_loss(r.model, p, y), np.mean(terms), rtol=1e-5)
    assert (y < r.method.value_target(r.target, p, r.carry.step) - 1e-4).any()


@every_base
@pytest.mark.parametrize("self_pairs", [True, False])
def test_the_oracle_sees_the_rewards_of_all_crops(base, self_pairs):
    """The one-step target (1 - gamma) p_j + gamma max_k p_k, whatever the network predicts, and in chunks too."""
    r = ready(base)
    p, n = r.predict(), r.batch.value.boxes.shape[1]
    for chunk in (0, 7):
        method = replace(r.method, oracle=True, self_pairs=self_pairs, chunk=chunk)
        y = method.value_target(r.target, p, r.carry.step)
        for j in range(n):
            best = p.reward[:, [k for k in range(n) if self_pairs or k != j]].max(1)
            np.testing.assert_allclose(y[:, j], 0.5 * p.reward[:, j] + 0.5 * best, rtol=1e-5, atol=1e-6)


def test_without_self_pairs_one_view_is_not_enough(rng):
    r = ready("simclr")
    batch = r.batch._replace(value=jax.device_put(drawn(rng, (1, 16))[0]))
    alone = r._replace(method=replace(r.method, self_pairs=False), batch=batch)
    with pytest.raises(ValueError, match="two views"):
        alone.method.loss(*alone[1:], KEY)


def test_ablations_are_what_they_say():
    method, *rest = ready("simclr")
    total = lambda **change: replace(method, **change).loss(*rest, KEY)[0]
    value = total(reward_weight=0.0)
    reward = total(value_weight=0.0, reward_weight=1.0)
    assert (method.reward_weight, method.value_weight) == (2, 1)
    np.testing.assert_allclose(total(value_weight=3.0), 2 * reward + 3 * value, rtol=1e-5)


def test_without_actions_every_target_looks_alike():
    r = ready("simclr")
    blind = r.predict(method=replace(r.method, actions=False)).phi
    np.testing.assert_allclose(blind, jnp.broadcast_to(blind[:, :, :1], blind.shape), atol=1e-6)
    assert np.ptp(np.asarray(r.predict().phi), axis=2).max() > 1e-3


def test_no_target_network_is_the_online_one():
    """tau = 1 makes the target what the online network was made by the last step: the same, as of this step."""
    batch, tx = ready("simclr").batch.reward, AdamW().build(10)
    state = train.init(SIMCLR, tx, 0, batch)
    state, _ = train.make_step(SIMCLR, tx, EMA(tau=1.0, shape="constant").schedule(10), 0)(state, batch)
    for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(state.target), strict=True):
        np.testing.assert_array_equal(a, b)


@every_base
def test_permuting_views_permutes_everything(base):
    r, order = ready(base), np.array([2, 0, 1])
    turned = r.batch._replace(value=type(r.batch.value)(*(x[:, order] for x in r.batch.value)))
    a, b = r.predict(), r.predict(batch=turned)
    np.testing.assert_allclose(a.phi[:, order][:, :, order], b.phi, atol=1e-5)
    np.testing.assert_allclose(a.reward[:, order], b.reward, atol=1e-5)


@every_base
def test_rewards_are_probabilities_of_the_annotations(base):
    """A distribution over all of them; SigLIP's, of each whether it is true."""
    r = ready(base)
    reward = r.predict().reward
    assert reward.shape == (8, 3, r.method.base.annotation_count(r.batch.reward))
    assert reward.min() >= 0
    assert reward.max() <= 1
    if base != "siglip":
        np.testing.assert_allclose(reward.sum(-1), 1, rtol=1e-5)


def test_augmented_views_mirror_their_actions():
    """From a flipped view the same place lies on the other side; photometric changes move nothing."""
    r = ready("simclr")
    flips = replace(r.method, augment_value=True, photometric=Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=1.0))
    images, actions = flips._views(r.batch.value, KEY, None)
    plain_images, plain = r.method._views(r.batch.value, KEY, None)
    np.testing.assert_allclose(actions[..., 1], 1 - plain[..., 3], atol=1e-6)
    np.testing.assert_allclose(images[:, :, :, ::-1], plain_images.astype(jnp.float32) / 127.5 - 1, atol=1e-6)


def test_bias():
    r = ready("simclr")
    start = lambda **change: float(replace(r.method, **change).init(KEY, r.batch)[0].value.bias)
    assert start() == pytest.approx(-math.log(8))
    assert start(value_bias=-3.0) == -3
    method = replace(r.method, value_bias="first-batch")
    model, carry = method.init(KEY, r.batch)
    p = method.predict(model, model, carry, r.batch, jax.random.split(KEY, 5)[4])
    assert float(jax.nn.sigmoid(model.value.logits(p.phi, p.psi)).sum(-1).mean()) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="first-batch"):
        method.init(KEY)


def test_gamma_warms_up():
    method = ab(SIMCLR, gamma=0.8, gamma_warmup=10)
    assert [float(method.discount(jnp.int32(s))) for s in (0, 5, 10, 99)] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert float(ab(SIMCLR).discount(jnp.int32(0))) == 0.5


def test_mistakes_are_named():
    wrong = ab(replace(SIMCLR, temperature=0.0), gamma=1.5, value_weight=-1.0)
    assert wrong.problems() == [
        "base.temperature must be above 0, not 0.0",
        "gamma must be in [0, 1), not 1.5",
        "value_weight must be at least 0, not -1.0",
    ]
    assert [p.split()[0] for p in ab(SIMCLR, value_weight=0.0, reward_weight=0.0).problems()] == ["value_weight"]
