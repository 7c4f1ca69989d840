"""DINO: what moves, and what stays."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import BACKBONE, DECODER, METHODS, PLAIN, multi
from small import DINO_ as SMALL

from abx import losses, train
from abx.augment import Photometric
from abx.experiment.monitor import within_memory
from abx.methods import AB, Reward
from abx.optim import EMA, AdamW
from abx.types import ABBatch, Views

KEY = jax.random.key(0)
DINO_ = replace(SMALL, center_momentum=0.9, teacher_temperature=0.07, teacher_temperature_start=0.04)
TINY = replace(DINO_, backbone=replace(BACKBONE, depth=1), global1=PLAIN, global2=PLAIN, local=PLAIN)
"""Without augmentation, which takes long to compile."""


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [jax.device_put(multi(rng)) for _ in range(2)]


@pytest.fixture(scope="module")
def ready(batches):
    """Online and target network differ, as after a while; so does the center from zero."""
    init = jax.jit(lambda key: TINY.init(key))
    (model, carry), (target, _) = init(KEY), init(jax.random.key(1))
    return model, target, carry._replace(center=jnp.linspace(-0.1, 0.1, 30), step=jnp.int32(5)), batches[0]


def size(tree):
    return sum(float(np.abs(x).sum()) for x in jax.device_get(jax.tree.leaves(tree)))


@jax.jit
def outputs(network, images):
    """By hand, of views "b v h w 3": "v b k"."""
    one = lambda image: network.outputs(network.backbone.pool(network.backbone(image)))
    return jax.vmap(jax.vmap(one))(images).swapaxes(0, 1)


def test_it_is_a_reward():
    assert isinstance(DINO_, Reward)


def test_the_target_network_and_the_center_get_no_gradient(ready):
    model, target, carry, batch = ready
    loss = lambda m, t, center: TINY.loss(m, t, carry._replace(center=center), batch, KEY)[0]
    learning, lagging, center = jax.jit(jax.grad(loss, (0, 1, 2)))(model, target, carry.center)
    assert size(lagging) == size(center) == 0
    for part in (learning.backbone, learning.head, learning.prototypes):
        assert size(part) > 0


def test_the_loss_is_dinos_on_views_of_both_sizes(ready):
    """Large views in front, in the order of the target network's; the center and the temperature of this step."""
    model, target, carry, batch = ready
    method = replace(TINY, teacher_temperature_start=0.04, temperature_warmup=10)  # 0.055 at step 5, of 0.07
    student = np.concatenate([outputs(model, views.images) for views in batch])
    teacher = outputs(target, batch.globals.images)
    assert (student.shape, teacher.shape) == ((5, 8, 30), (2, 8, 30))
    loss, aux = jax.jit(lambda m, t, c: method.loss(m, t, c, batch, KEY))(model, target, carry)
    expected = losses.dino_loss(student, teacher, carry.center, 0.1, 0.055)
    wanted = np.asarray(jax.nn.softmax((teacher - carry.center) / 0.055), np.float64)
    entropy = lambda p: -(p * np.log(p)).sum(-1)
    found = {name.removeprefix("reward/"): float(value) for name, value in aux.metrics.items()}
    assert found == {
        "loss": pytest.approx(float(expected), rel=1e-5),
        "chance": pytest.approx(math.log(30)),
        "accuracy": pytest.approx((student[0].argmax(-1) == wanted[1].argmax(-1)).mean()),
        "target_entropy": pytest.approx(entropy(wanted).mean(), rel=1e-4),
        "mean_target_entropy": pytest.approx(entropy(wanted.mean((0, 1))), rel=1e-4),
        "temperature": pytest.approx(0.055),
    }
    assert loss == aux.metrics["reward/loss"]
    np.testing.assert_allclose(aux.carry.center, 0.9 * carry.center + 0.1 * teacher.mean((0, 1)), atol=1e-6)
    assert aux.carry.step == 6


def test_the_center_over_two_steps(ready, batches):
    model, target, *_ = ready
    means = [np.asarray(outputs(target, b.globals.images)).mean((0, 1)) for b in batches]
    assert np.abs(means[0] - means[1]).max() > 1e-4
    step = jax.jit(lambda carry, batch: TINY.loss(model, target, carry, batch, KEY)[1].carry)
    carry = TINY.init(KEY)[1]
    np.testing.assert_array_equal(carry.center, 0)
    for batch, expected in zip(batches, (0.1 * means[0], 0.9 * 0.1 * means[0] + 0.1 * means[1]), strict=True):
        carry = step(carry, batch)
        np.testing.assert_allclose(carry.center, expected, atol=1e-6)
    assert carry.step == 2


def test_frozen_prototypes_turn_only_afterwards(batches):
    """Weight decay shortens them all the while, which is without effect; all else is trained from the first step."""
    method, batch = replace(TINY, freeze_prototypes=2), batches[0]
    tx = AdamW(lr=1e-3, warmup=0.0, weight_decay=1.0).build(10)
    step = train.make_step(method, tx, EMA(tau=0.1, shape="constant").schedule(10), 0)
    state = train.init(method, tx, 0, batch)
    vectors = lambda model: np.asarray(model.prototypes.vectors())
    start, before = vectors(state.model), np.asarray(state.model.prototypes.linear.weight)
    head = np.asarray(state.model.head.fc1.weight)
    for _ in range(2):
        state, _ = step(state, batch)
        for network in (state.model, state.target):
            np.testing.assert_allclose(vectors(network), start, atol=1e-6)
    assert np.abs(np.asarray(state.model.prototypes.linear.weight) - before).max() > 1e-6
    assert np.abs(np.asarray(state.model.head.fc1.weight) - head).max() > 1e-4
    state, _ = step(state, batch)
    assert np.abs(vectors(state.model) - start).max() > 1e-3


def test_the_targets_temperature_warms_up():
    method = replace(DINO_, teacher_temperature=0.07, teacher_temperature_start=0.04, temperature_warmup=10)
    found = [float(method.temperature(jnp.int32(step))) for step in (0, 5, 10, 1000)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert float(DINO_.temperature(jnp.int32(0))) == pytest.approx(0.07)


def test_without_small_views(ready):
    model, target, carry, batch = ready
    few = batch._replace(locals=type(batch.locals)(batch.locals.images[:, :0], batch.locals.boxes[:, :0]))
    for key in (None, KEY):
        assert [x.shape for x in TINY.prepare(few, key).views] == [(8, 2, 16, 16, 3)]
    loss, _ = jax.jit(lambda m: TINY.loss(m, target, carry, few, KEY))(model)
    both = outputs(model, batch.globals.images), outputs(target, batch.globals.images)
    np.testing.assert_allclose(loss, losses.dino_loss(*both, carry.center, 0.1, 0.07), rtol=1e-5)


def test_each_kind_of_view_is_augmented_its_own_way(batches):
    batch = batches[0]
    invert, mirror = replace(PLAIN, solarize=1.0), replace(PLAIN, flip=1.0)
    method = replace(DINO_, global1=PLAIN, global2=invert, local=mirror)
    large, small = jax.jit(lambda b: method.prepare(b, KEY).views)(batch)
    plain = lambda x: x.astype(jnp.float32) / 127.5 - 1
    first, second = plain(batch.globals.images[:, 0]), plain(batch.globals.images[:, 1])
    np.testing.assert_allclose(large[:, 0], first, atol=1e-6)
    np.testing.assert_allclose(large[:, 1], jnp.where(second > 0, -second, second), atol=1e-6)
    np.testing.assert_allclose(small, plain(batch.locals.images[:, :, :, ::-1]), atol=1e-6)


def test_prepared_without_a_key_they_stay_as_they_are(batches):
    batch = batches[0]
    prepared = replace(DINO_, backbone=replace(BACKBONE, drop_path=0.5)).prepare(batch, None)
    assert prepared.keys is None
    np.testing.assert_array_equal(prepared.views[0], batch.globals.images)
    np.testing.assert_array_equal(prepared.views[1], batch.locals.images)


def test_only_the_online_network_leaves_out_branches(batches):
    method = replace(TINY, backbone=replace(BACKBONE, drop_path=0.9))
    network, _ = jax.jit(lambda key: method.init(key))(KEY)
    one, two, none = (method.prepare(batches[0], key) for key in (*jax.random.split(KEY), None))
    assert [keys.shape for keys in one.keys] == [(8, 2), (8, 3)]
    encode = jax.jit(lambda prepared: (method.encode(network, prepared), method.encode_target(network, prepared)))
    (first, target1), (second, target2), (whole, target) = (encode(prepared) for prepared in (one, two, none))
    differ = lambda a, b: np.abs(np.asarray(a.embedded) - np.asarray(b.embedded)).max((1, 2)) > 1e-4
    assert differ(first, whole).all()  # views of both sizes
    assert differ(first, second).all()
    for left_out in (target1, target2):
        np.testing.assert_allclose(left_out.outputs, target.outputs, atol=1e-5)


def test_the_reward_is_the_centered_and_sharpened_distribution(ready):
    _, target, carry, batch = ready
    method = replace(TINY, teacher_temperature=0.05)
    tokens = jax.jit(jax.vmap(jax.vmap(target.backbone)))(batch.globals.images)
    reward = method.reward(target, carry, tokens, None)
    assert reward.shape == (8, 2, 30)
    np.testing.assert_allclose(reward.sum(-1), 1, rtol=1e-5)
    # In numpy, from embedding and prototypes.
    x = np.asarray(tokens, np.float64).mean(2)
    embedding = np.asarray(target.head(jnp.asarray(x, jnp.float32)), np.float64)
    weight = np.asarray(target.prototypes.linear.weight, np.float64)
    logits = (embedding @ (weight / np.linalg.norm(weight, axis=0)) - np.asarray(carry.center)) / 0.05
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(reward, expected / expected.sum(-1, keepdims=True), atol=1e-4)


def test_the_value_head_scores_prototypes_by_vectors_of_its_own(rng):
    """And its loss reaches neither DINO's prototypes nor DINO's head."""
    case = METHODS["ab_dino"]
    method = replace(case.method, base=TINY, decoder=replace(DECODER, depth=1), reward_weight=0.0)
    batch = jax.device_put(case.batch(rng))
    model, carry = jax.jit(lambda key: method.init(key, batch))(KEY)
    psi = method.base.annotations(model.value.annotation_head, None)
    assert psi.shape == (30, 20)
    np.testing.assert_allclose(jnp.linalg.norm(psi, axis=-1), 1, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda m: method.loss(m, model, carry, batch, KEY)[0]))(model)
    assert size(gradient.base.prototypes) == size(gradient.base.head) == 0
    for part in (gradient.base.backbone, gradient.value.annotation_head, gradient.value.decoder):
        assert size(part) > 0
    assert float(model.value.bias) == pytest.approx(-math.log(30))


def test_the_figures_of_many_prototypes_are_taken_on_fewer_images(rng):
    """Values of all pairs take 4 b n² l bytes: at 3 views and 65,536 prototypes 2.25 MiB for each image."""
    images, placed = np.zeros((100, 3, 1, 1, 3), np.uint8), np.zeros((100, 3, 4), np.float32)
    batch = ABBatch(multi(rng), Views(images, placed))
    cut = lambda count: within_memory(AB(replace(DINO_, prototypes=count)), batch)
    assert len(cut(30).value.images) == len(cut(30).value.boxes) == 64
    assert len(cut(65_536).value.images) == len(cut(65_536).value.boxes) == 56
    assert len(cut(10**8).value.images) == 1
    assert cut(65_536).reward is batch.reward


def test_mistakes_are_named():
    assert DINO_.problems() == []
    wrong = replace(
        DINO_,
        prototypes=0,
        student_temperature=0.0,
        teacher_temperature=math.nan,
        temperature_warmup=-1,
        freeze_prototypes=-2,
        center_momentum=1.5,
        local=Photometric(flip=2.0),
    )
    assert wrong.problems() == [
        "prototypes must be at least 1, not 0",
        "student_temperature must be above 0, not 0.0",
        "teacher_temperature must be above 0, not nan",
        "temperature_warmup must be at least 0, not -1",
        "freeze_prototypes must be at least 0, not -2",
        "center_momentum must be in [0, 1], not 1.5",
        "local.flip must be a probability, in [0, 1], not 2.0",
    ]
