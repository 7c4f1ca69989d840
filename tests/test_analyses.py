"""Analyses of training, each on a case whose answer is known."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB, random_views
from small import BACKBONE, FLIPS, METHODS, STEPS, TEXT, drawn, pairs, two

from abx import boxes, train
from abx.analysis import overlap
from abx.analysis.candidates import predictions
from abx.analysis.curriculum import curriculum, ends, token_gradients, view_gradients
from abx.analysis.gradients import alignment, loss_alignment, two_losses
from abx.analysis.paired import Paired, PairedCrops, central, paired_accuracy
from abx.analysis.rewards import reward_of, rewarding
from abx.analysis.values import logit
from abx.data.images import crop_resize
from abx.data.schemes.scenes import Scenes
from abx.data.views import RandomCrops, cut
from abx.methods import AB, CLIP, MAE, SLIP, SimCLR
from abx.optim import EMA, AdamW
from abx.types import ABBatch, PairsAndImages, Views

# --- gradients


def test_identical_losses_have_cosine_one_and_their_negatives_minus_one():
    at = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    loss = lambda m: (m["a"] ** 2).sum() + 4 * m["b"].sum()
    found = alignment(lambda m: (loss(m), 3 * loss(m)), at)
    assert found.cosine == pytest.approx(1)
    assert found.second / found.first == pytest.approx(3)
    assert found.first == pytest.approx(math.sqrt(2**2 + 4**2 + 4**2))
    assert alignment(lambda m: (loss(m), -loss(m)), at).cosine == pytest.approx(-1)


def test_losses_of_other_parameters_are_orthogonal_and_no_gradient_has_no_cosine():
    at = {"a": jnp.ones(3), "b": jnp.ones(2)}
    assert alignment(lambda m: (m["a"].sum(), m["b"].sum()), at).cosine == 0
    assert jnp.isnan(alignment(lambda m: (m["a"].sum(), 0 * m["b"].sum()), at).cosine)


@pytest.mark.whole
def test_slip_aligns_the_gradients_of_its_two_losses_on_the_backbone():
    method = SLIP(BACKBONE, TEXT, 20, ssl_hidden=48, ssl_embed=24, photometric=FLIPS)
    rng = np.random.default_rng(0)
    batch = PairsAndImages(pairs(rng), two(rng))
    model, carry = method.init(jax.random.key(0))
    found = loss_alignment(method, model, model, carry, batch, jax.random.key(1))

    def gradient(ssl_weight):
        only = replace(method, ssl_weight=ssl_weight)
        grads = jax.grad(lambda m: only.loss(m, model, carry, batch, jax.random.key(1))[0])(model)
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(grads.backbone)])

    clip = gradient(0.0)
    ssl = gradient(1.0) - clip
    assert found.cosine == pytest.approx(clip @ ssl / np.linalg.norm(clip) / np.linalg.norm(ssl), abs=1e-3)
    assert found.second == pytest.approx(np.linalg.norm(ssl), rel=1e-3)
    assert two_losses(method) == ("CLIP", "SimCLR")
    assert two_losses(method.clip) is None


# --- by overlap

NEAR_AND_FAR = np.array(
    [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.3, 0.3, 0.8, 0.8], [0, 0, 0.5, 0.25], [0.05, 0, 0.55, 0.5]], np.float32
)
"""Boxes with a pair in each bin of their IoU."""


@pytest.fixture
def rewards(rng):
    return jax.nn.softmax(4 * jnp.asarray(rng.normal(size=(6, 5, 10)), jnp.float32))


def told(q, rotated, reward, y, views=NEAR_AND_FAR):
    return overlap.tally(q, rotated, reward, y, jnp.broadcast_to(views, (len(y), *views.shape)))


def test_an_oracle_has_accuracy_one_in_every_bin_and_no_excess(rewards):
    q = jnp.broadcast_to(logit(rewards)[:, None], (6, 5, 5, 10))
    found = overlap.by_overlap([told(q, jnp.roll(q, 1, 2), rewards, rewards)] * 2)
    assert found["pairs"] == [12 * each for each in (8, 2, 4, 4, 2, 5)]
    assert found["chance"] == pytest.approx([0.1] * 6)
    for reference in ("reward", "target"):
        assert found[reference]["value"] == [1.0] * 6
        assert max(found[reference]["rotated"]) < 1
        assert found[reference]["copy"][-1] == 1.0  # of a view itself
        assert max(found[reference]["copy"][:-1]) < 1
    np.testing.assert_allclose(found["excess"]["value"], 0, atol=1e-4)
    assert min(found["excess"]["shrunk_copy"][:-1]) > 0.1
    assert found["excess"]["shrunk_copy"][-1] == pytest.approx(0, abs=1e-4)
    assert found["share"][-1] == 1


def test_accuracy_is_counted_where_the_boxes_say(rewards):
    """A head that is right from view 0 to view 1 alone, which do not overlap."""
    bad = jax.nn.one_hot((rewards.argmax(-1) + 1) % 10, 10)
    q = jnp.broadcast_to(bad[:, None], (6, 5, 5, 10)).at[:, 0, 1].set(rewards[:, 1])
    found = overlap.by_overlap([told(q, q, rewards, rewards)])
    assert found["reward"]["value"] == pytest.approx([1 / 8, 0, 0, 0, 0, 0])  # of the 8 pairs that are apart
    assert found["reward"]["rotated"] == found["reward"]["value"]


def test_a_bin_without_pairs_says_nothing(rewards):
    apart = np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 1, 1]] * 3, np.float32)[:5]
    q = jnp.broadcast_to(rewards[:, None], (6, 5, 5, 10))
    found = overlap.by_overlap([told(q, q, rewards, rewards, apart)])
    assert found["pairs"][1:4] == [0, 0, 0]
    assert np.isnan(found["reward"]["value"][1:4]).all()
    assert np.isnan(found["share"][1:4]).all()
    assert np.isfinite(found["reward"]["value"][0])


def test_a_method_is_tallied_with_its_own_predictions(ab_batch):
    model, carry = TINY_AB.init(jax.random.key(0), ab_batch)
    found = overlap.tally_of(TINY_AB, model, model, carry, ab_batch, jax.random.key(1))
    assert found.pairs.sum() == 8 * 3 * 3
    assert found.pairs[-1] == 8 * 3
    assert (found.hits <= found.pairs).all()
    assert found.excess.min() >= 0


# --- curriculum


def test_a_view_that_is_predicted_perfectly_is_not_taught():
    """Targets that are what the network says of the first two images: their views get no gradient at all."""
    method, batch = replace(TINY_AB, actions=False), ab(np.random.default_rng(0))
    alike = np.repeat(batch.value.images[:, :1], 3, 1)
    batch = batch._replace(value=batch.value._replace(images=alike))  # all views alike: one prediction for each j
    model, carry = method.init(jax.random.key(0), batch)
    p = jax.jit(method.predict)(model, model, carry, batch, jax.random.key(1))
    y = jax.nn.sigmoid(model.value.logits(p.phi, p.psi))[:, 0]
    y = jnp.concatenate([y[:2], 0.5 * y[2:]])
    found = np.asarray(jax.jit(token_gradients, static_argnums=0)(method, model, p, y))
    assert found[:2].max() < 1e-3 * found[2:].min()


def ab(rng):
    return ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3))


def test_views_without_objects_are_taught_least():
    """Of a built scene: the objects of drawn ones on plain ground. Half of the images look where there is nothing."""
    case = METHODS["ab_simclr"]
    batch = case.batch(np.random.default_rng(0))
    images = np.full_like(batch.value.images, 128)
    b, n, size = images.shape[:3]
    edge = size // 8
    for i, j in itertools.product(range(b // 2, b), range(n)):
        scene = Scenes("test")[i]
        place = scene.objects.boxes[j % len(scene.objects.boxes)]
        images[i, j, edge:-edge, edge:-edge] = crop_resize(scene.image, place, size - 2 * edge)
    batch = batch._replace(value=batch.value._replace(images=images))
    tx = AdamW(lr=3e-3, warmup=0.0, eps=1e-3).build(STEPS)
    step, state = train.make_step(case.method, tx, EMA().schedule(STEPS), 0), train.init(case.method, tx, 0, batch)
    for _ in range(STEPS):
        state, _ = step(state, batch)
    key = jax.random.key(1)
    norms = np.asarray(view_gradients(case.method, state.model, state.target, state.carry, batch, key))
    assert norms[:4].mean(1).max() < 0.6 * norms[4:].mean(1).min()
    least, most = ends(norms, 4)
    assert {image for image, _ in least} == {0, 1, 2, 3}
    assert {image for image, _ in most} == {4, 5, 6, 7}


def test_gradients_of_views_add_up_to_that_of_the_loss(ab_batch):
    model, carry = TINY_AB.init(jax.random.key(0), ab_batch)
    p = jax.jit(TINY_AB.predict)(model, model, carry, ab_batch, jax.random.key(1))
    y = TINY_AB.value_target(model, p, carry.step)

    def loss(tokens):  # of all pairs: 8 images of 3 x 3
        q = model.value.logits(model.value.phi(tokens, p.actions), p.psi)
        return (jax.nn.softplus(q) - y[:, None] * q).sum()

    wanted = jnp.linalg.norm(jax.jit(jax.grad(loss))(p.tokens).reshape(8, 3, -1), axis=-1)
    found = jax.jit(token_gradients, static_argnums=0)(TINY_AB, model, p, y)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_figures_of_the_curriculum():
    even = curriculum(np.full(12, 3.0))
    assert even["top_tenth"] == pytest.approx(0.1)
    assert even["mean"] == 3
    np.testing.assert_allclose(even["norms"], 1)
    one = curriculum(np.array([1.0] * 9 + [91.0]))
    assert one["top_tenth"] == pytest.approx(0.91)
    assert one["norms"][-1] == pytest.approx(9.1)
    assert ends(np.array([[1.0, 5.0], [2.0, 3.0], [9.0, 0.0]]), 2) == ([(2, 1), (0, 0)], [(2, 0), (0, 1)])


# --- whose annotation


def test_the_centre_and_its_crops():
    np.testing.assert_allclose(central((40, 60)), [0, 10 / 60, 1, 50 / 60], rtol=1e-6)
    crops = PairedCrops(RandomCrops(3, 8), RandomCrops(2, 8, (0.2, 1.0)))
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    found = crops.join(cut(crops, picture, np.random.default_rng(1)))
    assert [x.images.shape[0] for x in found] == [1, 3, 2]
    np.testing.assert_array_equal(found.centre.boxes[0], central((40, 60)))
    assert crops.problems("views") == []


def test_a_network_that_tells_all_pictures_apart_has_accuracy_one(rng):
    """SimCLR, untrained, asked for pictures that are their own annotations: the cosine of a thing with itself is 1."""
    method, [views] = TINY_AB.base, drawn(rng, (1, 16))
    model, carry = method.init(jax.random.key(0))
    annotated = Views(np.repeat(views.images, 2, 1), np.repeat(views.boxes, 2, 1))
    same = Paired(views, Views(np.repeat(views.images, 3, 1), np.repeat(views.boxes, 3, 1)), annotated)
    found = paired_accuracy(method, model, carry, same, annotated)
    assert found == {"chance": 1 / 8, "reward": 1, "multi_crop": 1, "multi_crop_best": 1}
    turned = same._replace(moves=Views(np.roll(same.moves.images, 1, 0), same.moves.boxes))
    found = paired_accuracy(method, model, carry, turned, annotated)
    assert found == {"chance": 1 / 8, "reward": 1, "multi_crop": 0, "multi_crop_best": 0}


def test_value_is_that_of_the_best_move(rng):
    model, carry = TINY_AB.init(jax.random.key(0), ab(rng))
    centre, moves = random_views(rng, 6, 1), random_views(rng, 6, 2)
    annotated = random_views(rng, 6, 2)
    found = paired_accuracy(TINY_AB, model, carry, Paired(centre, moves, annotated), annotated)
    tokens = jax.jit(jax.vmap(model.backbone))(centre.images[:, 0])
    around = np.concatenate([centre.boxes, centre.boxes, moves.boxes], 1)  # from the centre: to itself, and to each
    actions = jnp.asarray(boxes.relative_boxes(around)[:, 0, 1:])
    encoded = TINY_AB.base.encode_target(model.base, annotated)
    psi = TINY_AB.base.annotations(model.value.annotation_head, encoded)
    ask = jax.jit(lambda value: value.logits(value.phi(tokens[:, None], actions[:, None]), psi)[:, 0])
    q = np.asarray(ask(model.value))
    assert found["value"] == (q.max(1).argmax(1) == np.arange(6)).mean()
    assert found["value_staying"] == (q[:, 0].argmax(1) == np.arange(6)).mean()
    assert found["shrunk_copy"] >= found["reward"]
    assert set(found) >= {"rotated", "chance"}


# --- candidates, and who has rewards


def test_predictions_of_some_candidates_among_many(rng):
    batch = ab(rng)
    model, carry = TINY_AB.init(jax.random.key(0), batch)
    view = batch.value.images[0, 0]
    asked, all_of_them = (
        np.array([1, 4]),
        jax.jit(
            lambda m: TINY_AB.base.reward(
                m.base, (), m.backbone(view)[None, None], TINY_AB.base.encode(m.base, batch.reward)
            )
        )(model)[0, 0],
    )
    few = predictions(TINY_AB, model, carry, view, batch.reward, asked)
    np.testing.assert_allclose(few.rewards, all_of_them[asked] / all_of_them[asked].sum(), rtol=1e-4)
    staying = np.array([0, 0, 1, 1], np.float32)
    here = predictions(TINY_AB, model, carry, view, batch.reward, asked, staying)
    assert np.abs(here.values - few.values).max() > 1e-5
    np.testing.assert_allclose(here.rewards, few.rewards)
    # Without actions there is but one, on which it was trained.
    without = predictions(replace(TINY_AB, actions=False), model, carry, view, batch.reward, asked)
    np.testing.assert_allclose(without.values, here.values, rtol=1e-5)


def test_where_rewards_are():
    assert isinstance(reward_of(TINY_AB), SimCLR)
    assert isinstance(reward_of(SLIP(BACKBONE, TEXT)), CLIP)
    assert reward_of(MAE(BACKBONE)) is None
    assert isinstance(reward_of(AB(CLIP(BACKBONE, TEXT))), CLIP)
    with pytest.raises(ValueError, match="MAE has no rewards"):
        rewarding(MAE(BACKBONE), None, ())
