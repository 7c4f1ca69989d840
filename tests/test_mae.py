"""MAE: what the backbone sees, what is asked of it, and the equalities that every method must pass."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import PLAIN, views

from abx import losses, parallel, train
from abx.methods import Method
from abx.methods.mae import FLIP, MAE, patchify
from abx.methods.masks import random_mask
from abx.nn import PixelDecoderConfig, ViTConfig
from abx.nn.vit import sincos
from abx.optim import EMA, AdamW

KEY = jax.random.key(0)
BACKBONE = ViTConfig(width=32, depth=2, heads=2, mlp=64, patch=4, size=16)
TINY = MAE(BACKBONE, PixelDecoderConfig(width=16, depth=2, heads=2, mlp=32), photometric=PLAIN)


forward = jax.jit(lambda model, image, places: model(image, places))


@partial(jax.jit, static_argnums=0)
def evaluate(method, model, batch):
    return method.loss(model, model, (), batch, KEY)


def run(method, batch, steps, tx, mesh=None):
    state = train.init(method, tx, 0, batch)
    step = train.make_step(method, tx, EMA().schedule(steps), 0, mesh)
    rows = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        rows.append(jax.device_get(metrics))
    return state, rows, step


masked = jax.jit(random_mask, static_argnums=1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=16, max_size=16), st.sampled_from([1, 4, 15])
)
def test_every_patch_is_kept_or_removed(noise, kept):
    """Also where two have the same noise (XLA may round subnormal numbers to 0); what is kept has the lowest."""
    noise = np.array(noise, np.float32)
    places, mask = (np.asarray(x) for x in masked(noise, kept))
    assert len(set(places)) == kept
    assert set(places) | set(np.flatnonzero(mask)) == set(range(16))
    assert mask.sum() == 16 - kept
    assert noise[places].max() <= noise[mask == 1].min()


def test_a_quarter_is_kept_and_each_patch_as_often():
    kept = TINY.kept(196)
    assert kept == 49
    _, mask = jax.vmap(lambda noise: random_mask(noise, kept))(jax.random.uniform(KEY, (4000, 196)))
    np.testing.assert_allclose(mask.mean(0), 0.75, atol=4.5 * (0.75 * 0.25 / 4000) ** 0.5)


def test_patches_are_what_the_backbone_embeds(rng):
    """Row by row, and within a patch as `ViT.embed` has it: one pixel changes one patch, and its token."""
    image = rng.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    patches = patchify(jnp.asarray(image), 4)
    for i, patch in enumerate(patches):
        y, x = 4 * (i // 4), 4 * (i % 4)
        np.testing.assert_array_equal(patch, image[y : y + 4, x : x + 4].reshape(-1))
    vit = TINY.init(KEY)[0].backbone
    np.testing.assert_allclose(vit.patch_embed(patches) + vit.positions((4, 4)), vit.embed(image), atol=1e-5)


@pytest.mark.parametrize("pool", ["gap", "token"])
def test_forward_equals_a_plain_loop(rng, pool):
    """The kept patches one by one, every block in turn, mask tokens elsewhere."""
    model, _ = replace(TINY, backbone=replace(BACKBONE, pool=pool)).init(KEY)
    model = jax.tree.map(lambda x: x + 0.1 * jnp.asarray(rng.normal(size=x.shape), jnp.float32), model)
    vit, decoder, places = model.backbone, model.decoder, [6, 1, 15, 8]
    image = jnp.asarray(rng.uniform(-1, 1, (16, 16, 3)), jnp.float32)
    x = [] if vit.cls_token is None else [vit.cls_token]
    for p in places:
        y0, x0 = 4 * (p // 4), 4 * (p % 4)
        x.append(vit.patch_embed(image[y0 : y0 + 4, x0 : x0 + 4].reshape(-1)) + sincos((4, 4), 4, 32)[p])
    kept = vit.norm(one_by_one(vit.blocks, jnp.stack(x)))[-4:]
    y = [decoder.fc_in(kept[places.index(p)]) if p in places else decoder.mask_token for p in range(16)]
    expected = decoder.fc_out(decoder.norm(one_by_one(decoder.blocks, jnp.stack(y) + sincos((4, 4), 4, 16))))
    np.testing.assert_allclose(forward(model, image, jnp.asarray(places)), expected, rtol=1e-4, atol=1e-4)


def one_by_one(stack, x):
    for i in range(stack.depth):
        x = jax.tree.map(lambda leaf, i=i: leaf[i], stack.layers)(x)
    return x


def test_removed_patches_cannot_be_seen(rng):
    """Other pixels there change the target alone."""
    model, _ = TINY.init(KEY)
    image, places = jnp.asarray(rng.uniform(-1, 1, (16, 16, 3)), jnp.float32), jnp.asarray([0, 1, 4, 5])
    once = forward(model, image, places)
    np.testing.assert_array_equal(once, forward(model, image.at[8:].set(0.5), places))
    assert not np.allclose(once, forward(model, image.at[:4].set(0.5), places), atol=1e-3)


def test_no_gradient_to_the_target_network_and_some_to_every_part(rng):
    model, carry = replace(TINY, backbone=replace(BACKBONE, position="learned", pool="token")).init(KEY)
    method = replace(TINY, backbone=model.backbone.config)
    batch = jax.device_put(views(rng, 8, 1))
    f = lambda model, target: method.loss(model, target, carry, batch, KEY)[0]
    online, lagging = jax.jit(jax.grad(f, (0, 1)))(model, model)
    assert not any(x.any() for x in jax.tree.leaves(lagging))
    assert all(x.any() for x in jax.tree.leaves(online))


def test_chance_is_the_loss_of_predicting_the_mean(rng):
    """With noise for pixels 1 - 1 / p, whatever is removed; with patches of one colour nothing."""
    model, _ = TINY.init(KEY)
    metrics = lambda images: evaluate(TINY, model, views(rng, 8, 1)._replace(images=images))[1].metrics
    noise = metrics(rng.integers(0, 256, (8, 1, 16, 16, 3), np.uint8))
    np.testing.assert_allclose(noise["mae/chance"], 1 - 1 / 48, rtol=1e-3)
    assert noise["mae/loss"] > noise["mae/chance"]
    assert metrics(np.full((8, 1, 16, 16, 3), 99, np.uint8))["mae/chance"] < 1e-6


def test_flip_moves_pixels_and_patches_alike(rng):
    """The loss is of the pixels that the backbone was shown."""
    model, _ = TINY.init(KEY)
    batch = views(rng, 8, 1)
    flipped = replace(TINY, photometric=replace(FLIP, flip=1.0))
    mirrored = batch._replace(images=batch.images[:, :, :, ::-1])
    loss = lambda method, batch: evaluate(method, model, batch)[0]
    np.testing.assert_allclose(loss(flipped, batch), loss(TINY, mirrored), rtol=1e-5)
    assert abs(loss(flipped, batch) - loss(TINY, batch)) > 1e-4


def test_eight_devices_equal_one(rng):
    """With flips, dropped paths, and masks by row."""
    method, batch = replace(TINY, photometric=FLIP, backbone=replace(BACKBONE, drop_path=0.3)), views(rng, 16, 1)
    (one, m1, _), (eight, m8, _) = (run(method, batch, 3, optax.sgd(1e-3), mesh) for mesh in (None, parallel.mesh()))
    for a, b in zip(jax.tree.leaves((one, m1)), jax.tree.leaves((eight, m8)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_compile_and_it_learns_a_batch(rng):
    """Views of one patch over and over: the kept ones say what the others are, their means alone do not."""
    images = np.tile(rng.integers(0, 256, (8, 1, 4, 4, 3), np.uint8), (1, 1, 4, 4, 1))
    tx = AdamW(lr=1e-2, warmup=0.1, weight_decay=0.0, weight_decay_end=0.0).build(150)
    _, rows, step = run(TINY, views(rng, 8, 1)._replace(images=images), 150, tx)
    assert rows[0]["mae/loss"] > 0.9 * rows[0]["mae/chance"]
    assert rows[-1]["mae/loss"] < 0.1 * rows[-1]["mae/chance"]
    assert step._cache_size() == 1


def test_bfloat16_activations(rng):
    batch = views(rng, 8, 1)
    half = replace(TINY, backbone=replace(BACKBONE, dtype="bfloat16"))
    losses_ = []
    for method in (TINY, half):
        model, carry = method.init(KEY)
        f = lambda model, method=method, carry=carry: method.loss(model, model, carry, batch, KEY)[0]
        loss, gradient = jax.jit(jax.value_and_grad(f))(model)
        assert all(x.dtype == jnp.float32 and np.isfinite(x).all() for x in jax.tree.leaves((loss, gradient)))
        losses_.append(loss)
    np.testing.assert_allclose(*losses_, rtol=0.02)


def test_views_of_another_size_or_number_are_refused(rng):
    model, carry = TINY.init(KEY)
    for batch in (views(rng, 2, 1, size=32), views(rng, 2, 2)):
        with pytest.raises(ValueError, match=r"one view of 16 x 16 pixels \(backbone.size\)"):
            TINY.loss(model, model, carry, batch, KEY)


def test_mistakes_are_named():
    assert isinstance(TINY, Method)
    assert TINY.problems() == []
    wrong = MAE(
        replace(BACKBONE, pool="map"), PixelDecoderConfig(width=0), mask_ratio=1.0, photometric=replace(FLIP, flip=2.0)
    )
    assert wrong.problems() == [
        "decoder.width must be at least 1, not 0",
        "photometric.flip must be a probability, in [0, 1], not 2.0",
        "backbone.pool must be gap or token, not map: nothing here trains an attention pool",
        "mask_ratio must be above 0 and below 1, not 1.0",
    ]
    assert replace(TINY, mask_ratio=0.95).problems() == ["mask_ratio must leave a patch of 4 x 4, which 0.95 does not"]


def test_its_loss_is_the_one_of_abx_losses(rng):
    """Of the model's pixels, on what the row's noise removes."""
    model, _ = TINY.init(KEY)
    batch = views(rng, 8, 1)
    keys = parallel.row_keys(jax.random.split(KEY, 3)[1], 8, None)
    pred, patches, masks = [], [], []
    for image, key in zip(jnp.asarray(batch.images[:, 0], jnp.float32) / 127.5 - 1, keys, strict=True):
        places, mask = masked(jax.random.uniform(key, (16,)), 4)
        pred.append(forward(model, image, places))
        patches.append(patchify(image, 4))
        masks.append(mask)
    expected = losses.mae_loss(*(jnp.stack(x) for x in (pred, patches, masks)))
    np.testing.assert_allclose(evaluate(TINY, model, batch)[0], expected, rtol=1e-5)
