"""Fine-tuning: which layers learn how fast, how pictures are mixed, what it starts with."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probing import assert_eight_devices_equal_one, epochs, sentences, trained
from small import PLAIN

from abx import train
from abx.methods import Method
from abx.nn import ViT, ViTConfig
from abx.probes.batches import Pictures
from abx.probes.finetune import OPTIM, FineTune, cutmix_box, for_batch, started_from

KEY = jax.random.key(0)
BACKBONE = ViTConfig(width=32, depth=3, heads=2, mlp=64, patch=8, size=16, drop_path=0.2)
METHOD = FineTune(BACKBONE, classes=4)
UNMIXED = replace(METHOD, mixup=0.0, cutmix=0.0, photometric=PLAIN, backbone=replace(BACKBONE, drop_path=0.0))


def coloured(rng, m):
    """The class is a colour, under noise."""
    labels = rng.integers(0, 4, m)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [160, 160, 40]])
    noise = rng.normal(0, 40, (m, 16, 16, 3))
    return Pictures((colours[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8), labels)


def changes(method, state, after):
    """How far each part of the model went, by its depth: embedding, each block, the rest."""
    far = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)), after.model, state.model)
    embed = far.backbone.patch_embed.weight.max()
    blocks = far.backbone.blocks.layers.mlp.fc1.weight.max((1, 2))
    return [embed, *blocks, far.backbone.norm.scale.max(), far.head.weight.max()]


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_early_layers_learn_slowly(rng, decay):
    """By one step of signs, in which every number that has a gradient moves by its learning rate."""
    batch = coloured(rng, 8)
    method = replace(UNMIXED, layer_decay=decay)
    tx = optax.chain(optax.scale_by_sign(), optax.scale(-0.1))
    before = train.init(method, optax.identity(), 0, batch)
    after, _ = trained(method, lambda _: batch, 1, tx)
    np.testing.assert_allclose(changes(method, before, after), [0.1 * decay**k for k in (4, 3, 2, 1, 0, 0)], rtol=1e-4)


def test_decay_scales_with_the_learning_rate():
    """What goes through `rescale` is the whole update, the decay with it."""
    model, _ = METHOD.init(KEY)
    ones = jax.tree.map(jnp.ones_like, model)
    scaled = METHOD.rescale(ones)
    assert jax.tree.structure(scaled) == jax.tree.structure(model)
    for leaf in jax.tree.leaves(scaled.backbone.blocks):
        for i in range(3):
            np.testing.assert_allclose(leaf[i], 0.75 ** (3 - i), rtol=1e-6)
    np.testing.assert_allclose(scaled.backbone.patch_embed.weight, 0.75**4, rtol=1e-6)
    assert (np.asarray(scaled.head.weight) == 1).all()


@pytest.mark.parametrize(("position", "pool"), [("sincos", "gap"), ("learned", "token"), ("learned", "map")])
def test_every_kind_of_backbone_can_be_tuned(rng, position, pool):
    config = replace(BACKBONE, position=position, pool=pool)
    method = replace(METHOD, backbone=config)
    scaled = method.rescale(jax.tree.map(jnp.ones_like, method.init(KEY)[0])).backbone
    for part in (scaled.pos_embed, scaled.cls_token):
        assert part is None or np.allclose(part, 0.75**4)
    _, metrics = trained(method, epochs(coloured(rng, 16), 8), 2, optax.adam(1e-3))
    assert np.isfinite(metrics["probe/loss"])


def test_nothing_is_mixed_without_mixing(rng):
    images, wanted = rng.random((4, 6, 6, 3), np.float32), np.eye(4, dtype=np.float32)
    same = UNMIXED.mix(jnp.asarray(images), jnp.asarray(wanted), KEY)
    np.testing.assert_array_equal(same[0], images)
    np.testing.assert_array_equal(same[1], wanted)


def mixed(method, key):
    """Row i is all of the value i, so that a pixel tells where it came from."""
    images = jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None], (4, 20, 10, 3))
    return tuple(np.asarray(x) for x in method.mix(images, jnp.eye(4), key))


def test_mixup_shows_a_picture_through_its_neighbour():
    shares = []
    for key in jax.random.split(KEY, 40):
        images, wanted = mixed(replace(METHOD, cutmix=0.0), key)
        share = wanted[0, 0]
        np.testing.assert_allclose(wanted, _pairs(share), atol=1e-6)
        np.testing.assert_allclose(
            images, np.broadcast_to((wanted @ np.arange(4.0))[:, None, None, None], images.shape), atol=1e-5
        )
        shares.append(share)
    assert np.std(shares) > 0.15  # of the Beta(.8, .8): 0.31


def test_cutmix_pastes_a_box_and_its_share_of_the_label():
    shares = []
    for key in jax.random.split(KEY, 40):
        images, wanted = mixed(replace(METHOD, mixup=0.0), key)
        own = images[..., 0] == np.arange(4.0)[:, None, None]
        assert set(np.unique(images[:2])) <= {0.0, 1.0}  # never shown through
        np.testing.assert_allclose(own.mean((1, 2)), np.diag(wanted), atol=1e-6)
        np.testing.assert_allclose(wanted, _pairs(wanted[0, 0]), atol=1e-6)
        shares.append(wanted[0, 0])
    assert np.std(shares) > 0.15


def test_the_switch_takes_one_of_the_two():
    cut = [bool(np.isin(mixed(METHOD, key)[0], np.arange(4.0)).all()) for key in jax.random.split(KEY, 60)]
    assert 0.3 < np.mean(cut) < 0.7


def _pairs(share):
    block = np.array([[share, 1 - share], [1 - share, share]])
    return np.kron(np.eye(2), block)


def test_cutmix_box_is_a_box_of_the_picture_s_proportions():
    for share in (0.19, 0.51, 0.75):
        boxes = np.stack([np.asarray(cutmix_box(jnp.float32(share), (40, 20), k)) for k in jax.random.split(KEY, 30)])
        for box in boxes:
            rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
            assert box.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # no holes
        # What is not cut off at an edge covers 1 - share, rounded to whole even sides.
        assert boxes.mean((1, 2)).max() == pytest.approx(1 - share, abs=0.12)


def test_an_odd_number_of_pictures_cannot_be_mixed(rng):
    with pytest.raises(ValueError, match="mixed in pairs, and a device has 3"):
        METHOD.mix(jnp.zeros((3, 4, 4, 3)), jnp.eye(4)[:3], KEY)


def test_starts_from_a_trained_backbone(rng):
    """Whose own stochastic depth does not count; one of another size is refused."""
    state = train.init(METHOD, optax.sgd(0.1), 0)
    backbone = ViT(replace(BACKBONE, drop_path=0.0), key=jax.random.key(7))
    begun = started_from(state, backbone)
    assert jax.tree.structure(begun) == jax.tree.structure(state)
    for model in (begun.model, begun.target):
        for a, b in zip(jax.tree.leaves(model.backbone), jax.tree.leaves(backbone), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="other parameters"):
        started_from(state, ViT(replace(BACKBONE, depth=2), key=KEY))


def test_learns_colours_and_the_backbone_moves(rng):
    whole, test = coloured(rng, 256), coloured(rng, 200)
    state, _ = trained(METHOD, epochs(whole, 32), 150, optax.adam(2e-3))
    found = jax.vmap(state.model)(test.images).argmax(-1)
    assert (np.asarray(found) == test.labels).mean() > 0.95
    fresh = METHOD.init(jax.random.key(0))[0]
    assert np.abs(state.model.backbone.norm.scale - fresh.backbone.norm.scale).max() > 1e-3


def test_eight_devices_equal_one(rng):
    """Also what is drawn: flips, mixing, branches left out."""
    assert_eight_devices_equal_one(METHOD, coloured(rng, 16))


@pytest.mark.parametrize(("batch", "lr"), [(1024, 2e-3), (256, 5e-4), (16, 3.125e-5)])
def test_learning_rates_grow_with_the_batch(batch, lr):
    """MAE's rule, of all learning rates and nothing else."""
    optim = replace(OPTIM, lr_start=OPTIM.lr / 10, lr_end=OPTIM.lr / 100)
    found = for_batch(optim, batch)
    assert (found.lr, found.lr_start, found.lr_end) == pytest.approx((lr, lr / 10, lr / 100))
    assert replace(found, lr=1.0, lr_start=0.0, lr_end=0.0) == replace(optim, lr=1.0, lr_start=0.0, lr_end=0.0)


def test_problems():
    assert isinstance(METHOD, Method)
    assert FineTune().problems() == []
    nan = float("nan")
    wrong = {"classes": 1, "layer_decay": nan, "mixup": nan, "cutmix": -1.0, "switch": 2.0, "smoothing": 1.0}
    assert sentences(FineTune(), **wrong) == list(wrong)
    assert "backbone.depth" in sentences(FineTune(), backbone=replace(BACKBONE, depth=0))
