"""I-JEPA: the law of its masks, what each network sees, and the equalities that every method must pass."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import views

from abx import parallel, train
from abx.methods import Method
from abx.methods.ijepa import IJEPA, normalised, spread
from abx.methods.masks import MultiBlock, block_sizes
from abx.nn import PredictorConfig, ViTConfig
from abx.optim import EMA, AdamW

KEY = jax.random.key(0)
BLOCKS = MultiBlock(min_keep=3)
GRID = 6
BACKBONE = ViTConfig(width=32, depth=2, heads=2, mlp=64, patch=4, size=24)
TINY = IJEPA(BACKBONE, PredictorConfig(width=16, depth=2, heads=2, mlp=32), BLOCKS)


@partial(jax.jit, static_argnums=(0, 1, 2))
def draw(blocks, grid, b, key):
    return blocks.batch(grid, b, key)


@partial(jax.jit, static_argnums=0)
def evaluate(method, model, target, batch, key):
    return method.loss(model, target, (), batch, key)


def as_published(u, grid, scale, aspect):
    """METHODS §1.6: one number for the area and for the aspect."""
    area = int(grid**2 * (scale[0] + u * (scale[1] - scale[0])))
    ratio = aspect[0] + u * (aspect[1] - aspect[0])
    h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    return min(h, grid - 1), min(w, grid - 1)


spans = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted).map(tuple)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 16), spans, st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted).map(tuple))
def test_the_table_of_sizes_is_the_published_law(grid, scale, aspect):
    """At a thousand numbers, and nothing is in the table that no number gives."""
    sizes = block_sizes(grid, scale, aspect)
    assert sizes.upto[-1] == 1
    assert (np.diff(sizes.upto) > 0).all()
    u = np.random.default_rng(0).random(1000)
    u = u[np.abs(u[:, None] - sizes.upto).min(1) > 1e-9]
    i = np.searchsorted(sizes.upto, u, side="right")
    expected = [as_published(x, grid, scale, aspect) for x in u]
    np.testing.assert_array_equal(np.stack([sizes.height[i], sizes.width[i]], 1), expected)


@pytest.mark.parametrize(
    ("blocks", "grid"),
    [
        (MultiBlock(), 14),
        (MultiBlock(min_keep=4), 8),
        (BLOCKS, GRID),
        (replace(BLOCKS, edges=True), GRID),
        (MultiBlock(targets=2, target_scale=(0.3, 0.6), context_scale=(0.3, 0.7), min_keep=3), 5),
    ],
)
def test_padding_has_room_for_every_mask_and_not_more(blocks, grid):
    """By going through all sizes, and all places of a context and of targets upon each other or apart."""
    reach, longest = grid if blocks.edges else grid - 1, 0
    contexts, targets = blocks.context_sizes(grid), blocks.target_sizes(grid)

    def placed(h, w):
        for y in range(reach - h + 1):
            for x in range(reach - w + 1):
                mask = np.zeros((grid, grid), bool)
                mask[y : y + h, x : x + w] = True
                yield mask

    for th, tw in set(zip(targets.height, targets.width, strict=True)):
        for ch, cw in set(zip(contexts.height, contexts.width, strict=True)):
            # The longest context is left when all targets coincide.
            for target in placed(th, tw):
                left = [(context & ~target).sum() for context in placed(ch, cw)]
                gives_way = min(left) <= blocks.min_keep
                longest = max(longest, *left, ch * cw if gives_way else 0)
    assert blocks.lengths(grid) == (longest, max(targets.height * targets.width))
    assert replace(blocks, context_tokens=2).lengths(grid)[0] == 2


CASES = st.sampled_from(
    [
        (BLOCKS, GRID),
        (replace(BLOCKS, edges=True), GRID),
        (replace(BLOCKS, context_tokens=7), GRID),
        (MultiBlock(targets=3, target_scale=(0.3, 0.6), context_scale=(0.3, 0.7), min_keep=3), 5),
        (MultiBlock(targets=1, target_aspect=(1.0, 1.0), target_scale=(0.3, 0.3)), 8),
        (MultiBlock(), 14),
    ]
)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 2**31 - 1))
def test_masks(case, seed):
    """Blocks are rectangles of one size in the batch; a context is a part of a block and more than min_keep patches."""
    blocks, grid = case
    masks = jax.device_get(draw(blocks, grid, 8, jax.random.key(seed)))
    c, s = blocks.lengths(grid)
    assert masks.context.shape == masks.context_valid.shape == (8, c)
    assert masks.targets.shape == masks.target_valid.shape == (8, blocks.targets, s)
    assert masks.context.min() >= 0 <= masks.targets.min()
    assert max(masks.context.max(), masks.targets.max()) < grid**2
    sizes, last = set(), grid - (not blocks.edges)
    for context, valid, targets, wanted in zip(*masks, strict=True):
        kept = context[valid]
        assert len(set(kept)) == len(kept)
        assert len(kept) > min(blocks.min_keep, c - 1)
        for places in (t[w] for t, w in zip(targets, wanted, strict=True)):
            rows, columns = np.unique(places // grid), np.unique(places % grid)
            assert set(places) == {r * grid + x for r in rows for x in columns}
            assert np.ptp(rows) == len(rows) - 1
            assert np.ptp(columns) == len(columns) - 1
            assert max(rows.max(), columns.max()) < last
            assert len(places) > blocks.min_keep
            sizes.add((len(rows), len(columns)))
        assert max(kept // grid) < last
        assert max(kept % grid) < last
    assert len(sizes) == 1


def test_targets_give_way_from_the_last():
    """On ground of 4 x 4 patches, all context, targets are two columns wide: two side by side leave too little."""
    blocks = MultiBlock(3, target_scale=(0.33, 0.33), target_aspect=(2.0, 2.0), context_scale=(0.65, 0.65), min_keep=3)
    assert (blocks.target_sizes(5).height, blocks.target_sizes(5).width) == (4, 2)
    masks, given = jax.device_get(draw(blocks, 5, 300, KEY)), set()
    for context, valid, targets, wanted in zip(*masks, strict=True):
        left = [{r * 5 + x for r in range(4) for x in range(4)}]
        for places, w in zip(targets, wanted, strict=True):
            left.append(left[-1] - set(places[w].tolist()))
        cut = max(i for i, x in enumerate(left) if len(x) > 3)
        given.add(3 - cut)
        assert set(context[valid].tolist()) == left[cut]
    assert given == {0, 1, 2}
    crowded = replace(blocks, target_scale=(0.65, 0.65), target_aspect=(1.0, 1.0))
    assert (draw(crowded, 5, 8, KEY).context_valid.sum(1) == 16).all()  # a target covers all, so all give way


def test_at_the_papers_size_no_context_contains_a_target():
    """14 x 14 patches: there is always enough left, so that no target gives way."""
    masks = draw(MultiBlock(), 14, 512, KEY)
    held = lambda places, valid: jnp.zeros(196, bool).at[places].max(valid)
    context = jax.vmap(held)(masks.context, masks.context_valid)
    target = jax.vmap(held)(masks.targets.reshape(512, -1), masks.target_valid.reshape(512, -1))
    assert not (context & target).any()
    # As published: the context block is 13 x 13 in the corner, and what is no target in it is context.
    inside = np.zeros((14, 14), bool)
    inside[:13, :13] = True
    np.testing.assert_array_equal(context, inside.reshape(-1) & ~np.asarray(target))


def test_a_capped_context_is_any_part_of_it():
    """Every patch of the block as often as any other as far as the targets allow, and no longer than the cap."""
    capped = draw(MultiBlock(context_tokens=30), 14, 4000, KEY)
    whole = draw(MultiBlock(), 14, 4000, KEY)
    assert capped.context.shape == (4000, 30)
    assert capped.context_valid.all()
    often = lambda m: jax.vmap(lambda p, v: jnp.zeros(196).at[p].add(v.astype(jnp.float32)))(m.context, m.context_valid)
    share = 30 / whole.context_valid.sum(1)
    expected, got = (often(whole) * share[:, None]).mean(0), often(capped).mean(0)
    np.testing.assert_allclose(got, expected, atol=4.5 * 0.5 / 4000**0.5)


def test_sizes_are_shared_and_places_are_not():
    masks = [draw(MultiBlock(), 14, 64, jax.random.key(i)) for i in range(8)]
    assert len({int(m.target_valid[0, 0].sum()) for m in masks}) > 1
    assert all(len(set(np.asarray(m.targets[:, 0, 0]).tolist())) > 10 for m in masks)


def test_the_backbone_sees_the_context_alone(rng):
    """Other pixels elsewhere change no prediction; other pixels in it do, and padding's do not."""
    model, _ = TINY.init(KEY)
    masks = jax.tree.map(lambda x: x[0], draw(BLOCKS, GRID, 8, KEY))
    predict = jax.jit(lambda image: model(image, masks))
    image = rng.integers(0, 256, (24, 24, 3), np.uint8)
    patches = image.reshape(6, 4, 6, 4, 3).transpose(0, 2, 1, 3, 4).reshape(36, -1)
    kept = set(np.asarray(masks.context)[np.asarray(masks.context_valid)].tolist())
    assert not masks.context_valid.all()
    other = np.array([p if i in kept else 255 - p for i, p in enumerate(patches)])
    picture = lambda x: np.ascontiguousarray(x.reshape(6, 6, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(24, 24, 3))
    np.testing.assert_array_equal(picture(patches), image)
    wanted = np.asarray(masks.target_valid)
    once = np.asarray(predict(image))[wanted]
    np.testing.assert_array_equal(once, np.asarray(predict(picture(other)))[wanted])
    assert not np.allclose(once, np.asarray(predict(picture(255 - other)))[wanted], atol=1e-3)


def test_the_loss_is_that_of_a_plain_loop(rng):
    """Row by row and block by block without padding; targets from the whole view by the target network."""
    model, target = TINY.init(KEY)[0], TINY.init(jax.random.key(1))[0]
    batch = views(rng, 3, 1, size=24)
    masks = jax.device_get(draw(BLOCKS, GRID, 3, jax.random.split(KEY)[0]))
    whole = np.asarray(jax.jit(jax.vmap(target.backbone))(batch.images[:, 0]))
    predict, yes = jax.jit(model.predictor.__call__), lambda *shape: jnp.ones(shape, bool)
    pred, goal = [], []
    for i, image in enumerate(batch.images[:, 0]):
        places = masks.context[i][masks.context_valid[i]]
        seen = model.backbone.encode(model.backbone.embed(image)[places])
        for block, wanted in zip(masks.targets[i], masks.target_valid[i], strict=True):
            asked = block[wanted]
            pred.append(
                predict(seen, jnp.asarray(places), yes(len(places)), jnp.asarray(asked[None]), yes(1, len(asked)))[0]
            )
            x = whole[i, asked]
            goal.append((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5))
    pred, goal = np.stack(pred), np.stack(goal)
    smooth = lambda e: np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5).mean()
    loss, aux = evaluate(TINY, model, target, batch, KEY)
    np.testing.assert_allclose(loss, smooth(pred - goal), rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["ijepa/chance"], smooth(goal.mean((0, 1)) - goal), rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["ijepa/target"], goal.shape[1])
    np.testing.assert_allclose(aux.metrics["ijepa/context"], masks.context_valid.sum(1).mean())


def test_no_gradient_to_the_target_network_and_some_to_every_part(rng):
    learned = replace(TINY, backbone=replace(BACKBONE, position="learned"))
    model, _ = learned.init(KEY)
    batch = views(rng, 8, 1, size=24)
    f = lambda model, target: learned.loss(model, target, (), batch, KEY)[0]
    online, lagging = jax.jit(jax.grad(f, (0, 1)))(model, model)
    assert not any(x.any() for x in jax.tree.leaves(lagging))
    assert all(x.any() for x in jax.tree.leaves(online))


def test_targets_are_normalised_and_their_spread_tells_collapse(rng):
    x = normalised(jnp.asarray(3 + 5 * rng.normal(size=(2, 4, 6, 64)), jnp.float32))
    np.testing.assert_allclose(x.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(-1), 1, atol=1e-4)
    valid = jnp.asarray(rng.random((2, 4, 6)) < 0.7)
    mean, std = spread(x, valid, None)
    np.testing.assert_allclose(mean, x[valid].mean(0), atol=1e-5)
    np.testing.assert_allclose(std, jnp.sqrt(x[valid].var(0).mean()), rtol=1e-5)
    same = jnp.broadcast_to(x[:1, :1, :1], x.shape)
    assert spread(same, valid, None)[1] < 1e-3


def run(method, batch, steps, tx, mesh=None):
    state = train.init(method, tx, 0, batch)
    step = train.make_step(method, tx, EMA(tau=0.002).schedule(steps), 0, mesh)
    rows = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        rows.append(jax.device_get(metrics))
    return state, rows, step


def test_eight_devices_equal_one(rng):
    method, batch = replace(TINY, masks=replace(BLOCKS, context_tokens=14)), views(rng, 16, 1, size=24)
    (one, m1, _), (eight, m8, _) = (run(method, batch, 3, optax.sgd(1e-3), mesh) for mesh in (None, parallel.mesh()))
    for a, b in zip(jax.tree.leaves((one, m1)), jax.tree.leaves((eight, m8)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_compile_and_it_learns_a_batch(rng):
    """Views of one colour each: from any part of it, what is elsewhere."""
    colours = np.broadcast_to(rng.integers(0, 256, (8, 1, 1, 1, 3), np.uint8), (8, 1, 24, 24, 3))
    tx = AdamW(lr=1e-2, warmup=0.1, weight_decay=0.0, weight_decay_end=0.0).build(100)
    _, rows, step = run(TINY, views(rng, 8, 1, size=24)._replace(images=colours), 100, tx)
    assert rows[0]["ijepa/loss"] > rows[0]["ijepa/chance"]
    assert rows[-1]["ijepa/loss"] < 0.3 * rows[-1]["ijepa/chance"]
    assert rows[-1]["ijepa/target_std"] > 0.5  # and not because all targets look alike
    assert step._cache_size() == 1
    assert len({float(r["ijepa/target"]) for r in rows}) > 1


def test_bfloat16_activations(rng):
    batch, found = views(rng, 8, 1, size=24), []
    for method in (TINY, replace(TINY, backbone=replace(BACKBONE, dtype="bfloat16"))):
        model, _ = method.init(KEY)
        f = lambda model, target, method=method: method.loss(model, target, (), batch, KEY)[0]
        loss, gradient = jax.jit(jax.value_and_grad(f))(model, model)
        assert all(x.dtype == jnp.float32 and np.isfinite(x).all() for x in jax.tree.leaves((loss, gradient)))
        found.append(loss)
    np.testing.assert_allclose(*found, rtol=0.02)


def test_mistakes_are_named():
    assert isinstance(TINY, Method)
    assert TINY.problems() == IJEPA().problems() == []
    assert replace(TINY, masks=MultiBlock()).problems() == [
        "masks.target_scale must give blocks of more than 10 patches (min_keep), but of "
        "6 x 6 a target block may have 2 x 2"
    ]
    wrong = MultiBlock(0, (0.3, 0.2), (0.0, 1.0), (0.5, 1.5), -1, -1)
    assert wrong.problems(14) == [
        "masks.target_scale must be 0 < low <= high <= 1, not 0.3 0.2",
        "masks.context_scale must be 0 < low <= high <= 1, not 0.5 1.5",
        "masks.target_aspect must be 0 < low <= high, not 0.0 1.0",
        "masks.targets must be at least 1, not 0",
        "masks.min_keep must be at least 0, not -1",
        "masks.context_tokens must be at least 0, not -1",
    ]
    assert replace(TINY, backbone=replace(BACKBONE, pool="map")).problems() == [
        "backbone.pool must be gap, not map: nothing here trains another"
    ]
    assert MultiBlock(min_keep=0).problems(1)
