"""CLIP and the methods that add to it: who gets gradient, what the reward is, and what is refused."""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CLIP_, METHODS, PLAIN, TEXT, B, pairs, views

from abx import train
from abx.methods import CLIP, CLIPAug, Reward
from abx.optim import EMA, AdamW
from abx.types import Pairs, WeakStrong

KEY = jax.random.key(0)
SLIP_, SILC, AUG = (METHODS[name].method for name in ("slip", "silc", "clip_aug"))
PLAINLY = {"slip": ("photometric",), "silc": ("global1", "global2", "local")}
"""What augments where: switched off, for what augmentation takes to compile is no matter here."""
TRAINED = ("backbone", "head", "text", "text_head", "scale")


def size(tree):
    return sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))


class Ready(NamedTuple):
    """A method with two networks of different parameters, and its loss: compiled once for all tests."""

    method: Any
    model: Any
    target: Any
    carry: Any
    batch: Any
    loss: Any
    """(model, target, batch) to loss, metrics, new carry."""
    gradients: Any
    """(model, target, batch) to the gradients of both losses, each in both networks."""


@cache
def ready(name):
    batch = jax.device_put(METHODS[name].batch(np.random.default_rng(0)))
    method = METHODS[name].method
    if name in PLAINLY:
        method = replace(method, ssl_weight=3.0, **dict.fromkeys(PLAINLY[name], PLAIN))
    model, carry = jax.jit(method.init)(KEY, batch)
    target, _ = jax.jit(method.init)(jax.random.key(1), batch)

    @jax.jit
    def loss(model, target, batch):
        loss, aux = method.loss(model, target, carry, batch, KEY)
        return loss, aux.metrics, aux.carry

    @jax.jit
    def gradients(model, target, batch):
        def losses(model, target):
            metrics = loss(model, target, batch)[1]
            return metrics["reward/loss"], metrics["ssl/loss"]

        _, back = jax.vjp(losses, model, target)
        one, none = jnp.ones(()), jnp.zeros(())
        return back((one, none)), back((none, one))

    return Ready(method, model, target, carry, batch, loss, gradients)


@pytest.fixture(scope="module")
def scored():
    """Rewards of twelve views, as a function of the model, and what they are made from."""
    rng = np.random.default_rng(0)
    model, _ = jax.jit(CLIP_.init)(KEY)
    batch, seen = pairs(rng), views(rng, 3, 4).images

    @jax.jit
    def reward(model):
        tokens, annotated = jax.vmap(jax.vmap(model.backbone))(seen), CLIP_.encode_target(model, batch)
        return CLIP_.reward(model, (), tokens, annotated), tokens, annotated.annotations

    return model, reward


def test_a_view_is_scored_against_every_text(scored):
    """p(l | x) of METHODS §2.2 for a view, as if it were compared with each text by hand."""
    model, reward = scored
    assert isinstance(CLIP_, Reward)
    found, tokens, texts = reward(model)
    assert found.shape == (3, 4, B)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)

    psi = np.asarray(texts) @ np.asarray(model.text_head.weight)
    phi = np.asarray(tokens[2, 1]).mean(0) @ np.asarray(model.head.weight)
    cosines = psi @ phi / np.linalg.norm(psi, axis=1) / np.linalg.norm(phi)
    wanted = np.exp(cosines / 0.07)
    np.testing.assert_allclose(found[2, 1], wanted / wanted.sum(), rtol=1e-4)


def test_a_larger_scale_is_a_surer_reward(scored):
    model, reward = scored
    at = lambda scale: eqx.tree_at(lambda m: m.scale.log, model, jnp.log(jnp.float32(scale)))
    surest = [float(reward(at(scale))[0].max(-1).mean()) for scale in (1, 10, 100)]
    assert 1 / B < surest[0] < surest[1] < surest[2] < 1


def test_a_step_bounds_the_scale_and_the_target_lags():
    """An untrained network wants a smaller scale, and gets none below 1; the text tower lags, too (A-14)."""
    method, batch = replace(CLIP_, scale=1.2), ready("clip").batch
    tx = AdamW(lr=0.5, warmup=0.0, weight_decay=0.0, weight_decay_end=0.0).build(10)
    state = jax.jit(lambda batch: train.init(method, tx, 0, batch))(batch)
    step = train.make_step(method, tx, EMA(tau=0.25, shape="constant").schedule(10), 0)
    before, scales = jax.tree.map(np.asarray, state.model.text), []
    for i in range(4):
        state, _ = step(state, batch)
        scales.append(float(state.model.scale()))
        if i == 0:
            after = jax.tree.map(np.asarray, (state.model.text, state.target.text))
    for old, online, target in zip(*map(jax.tree.leaves, (before, *after)), strict=True):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * online, atol=1e-5)
    assert all(1 <= scale <= 100 for scale in scales)
    assert min(scales) == 1  # where it would have gone further


def test_with_texts_that_are_all_alike_there_is_nothing_to_learn():
    """From image to text nobody does better than chance, which the metrics name."""
    x = ready("clip")
    same = x.batch._replace(text=jnp.broadcast_to(x.batch.text[:1], x.batch.text.shape))
    loss, metrics, _ = x.loss(x.model, x.target, same)
    np.testing.assert_allclose(metrics["reward/chance"], np.log(B), rtol=1e-6)
    np.testing.assert_allclose(metrics["reward/accuracy"], 1 / B)  # all are as near: the first is picked
    assert float(loss) > np.log(B) - 1e-5  # and from text to image at best as well as chance, on average


def test_clip_aug_without_augmentation_is_clip():
    """Three views that are one, no smoothing: CLIP's loss of that view."""
    batch = jax.device_put(pairs(np.random.default_rng(0)))
    weak = batch.views
    strong = type(weak)(*(jnp.repeat(x, 2, axis=1) for x in weak))
    method = CLIPAug(AUG.backbone, TEXT, AUG.embed, smoothing=0.0, photometric=PLAIN)
    model, carry = jax.jit(method.init)(KEY)

    @jax.jit
    def losses(model):
        both = Pairs(WeakStrong(weak, strong), batch.text)
        smooth = replace(method, smoothing=0.3)
        return [
            m.loss(model, model, carry, b, KEY)[0] for m, b in ((method.clip, batch), (method, both), (smooth, both))
        ]

    alone, together, smoothed = losses(model)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert float(smoothed) != pytest.approx(float(alone), rel=1e-4)


def test_clip_aug_weighs_its_views_alike():
    """A weak and two strong views: thirds of the loss, not halves."""
    x = ready("clip_aug")
    loss, metrics, _ = x.loss(x.model, x.target, x.batch)
    np.testing.assert_allclose(loss, (metrics["reward/loss"] + 2 * metrics["reward/strong_loss"]) / 3, rtol=1e-5)


@pytest.mark.parametrize("name", ["slip", "silc"])
def test_both_losses_reach_the_backbone_and_one_alone_the_text(name):
    x = ready(name)
    (clip, clip_target), (ssl, ssl_target) = x.gradients(x.model, x.target, x.batch)
    assert size((clip_target, ssl_target)) == 0
    assert all(size(getattr(clip.clip, part)) > 0 for part in TRAINED)
    assert size(clip.head) == 0
    assert size(ssl.backbone) > 0
    assert size(ssl.head) > 0
    assert all(size(getattr(ssl.clip, part)) == 0 for part in TRAINED[1:])


@pytest.mark.parametrize("name", ["slip", "silc"])
def test_the_loss_is_the_weighted_sum(name):
    x = ready(name)
    loss, metrics, _ = x.loss(x.model, x.target, x.batch)
    np.testing.assert_allclose(loss, metrics["reward/loss"] + 3 * metrics["ssl/loss"], rtol=1e-5)


def test_silc_distils_from_its_target_network():
    x = ready("silc")
    assert size(x.gradients(x.model, x.target, x.batch)[1][0].prototypes) > 0
    from_target, from_itself = (x.loss(x.model, network, x.batch)[1] for network in (x.target, x.model))
    assert abs(float(from_target["ssl/loss"] - from_itself["ssl/loss"])) > 1e-5
    np.testing.assert_array_equal(from_target["reward/loss"], from_itself["reward/loss"])


def test_silc_moves_its_center_and_counts_its_steps():
    x = ready("silc")
    _, _, moved = x.loss(x.model, x.target, x.batch)

    @jax.jit
    def outputs(target):
        prepared = x.method.dino.prepare(x.batch.images, jax.random.split(KEY)[1])
        return x.method.dino.encode_target(target.dino, prepared).outputs

    assert size(x.carry.center) == 0
    new = 1 - x.method.center_momentum
    np.testing.assert_allclose(moved.center, new * outputs(x.target).mean((0, 1)), atol=1e-6)
    assert int(moved.step) == 1


def test_mistakes_are_named():
    assert replace(CLIP_, embed=0, scale=0.5).problems() == [
        "embed must be at least 1, not 0",
        "scale must be from 1 to highest_scale, 100.0, not 0.5",
    ]
    assert CLIP(text=replace(TEXT, heads=5)).problems() == ["text.heads must divide the width, 24, which 5 does not"]
    assert replace(AUG, smoothing=1.0).problems() == ["smoothing must be in [0, 1), not 1.0"]
    assert replace(SLIP_, ssl_weight=-1.0, ssl_hidden=0, temperature=0.0).problems() == [
        "ssl_hidden must be at least 1, not 0",
        "temperature must be above 0, not 0.0",
        "ssl_weight must be at least 0, not -1.0",
    ]
    patchy = replace(SILC.backbone, size=15)
    assert replace(SILC, ssl_weight=-1.0, backbone=patchy, prototypes=0).problems() == [
        "backbone.size must be a multiple of the patch, 8, not 15",
        "prototypes must be at least 1, not 0",
        "ssl_weight must be at least 0, not -1.0",
    ]
