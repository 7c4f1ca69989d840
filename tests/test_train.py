"""The equalities every method must pass: eight devices equal one, one compile, and it learns."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from conftest import TINY_AB, TINY_SIMCLR, random_views

from abx import parallel, train
from abx.augment import Photometric
from abx.optim import EMA, AdamW
from abx.types import ABBatch

CASES = {
    "simclr": (TINY_SIMCLR, lambda batch: batch.reward),
    "ab": (TINY_AB, lambda batch: batch),
    "ab_chunked_augmented": (replace(TINY_AB, chunk=3, augment_value=True), lambda batch: batch),
    "ab_without_actions": (replace(TINY_AB, actions=False, value_weight=3.0), lambda batch: batch),
}


@pytest.mark.parametrize("name", CASES)
def test_eight_devices_equal_one(name, ab_batch):
    """Three steps of SGD: Adam would blow rounding up wherever a gradient is zero in theory (the bias of the keys)."""
    method, part = CASES[name]
    tx, batch, ends = optax.sgd(1e-3), part(ab_batch), []
    for mesh in (None, parallel.mesh()):
        state = train.init(method, tx, 0, batch)
        step = train.make_step(method, tx, EMA().schedule(100), 0, mesh)
        for _ in range(3):
            state, metrics = jax.block_until_ready(step(state, batch))
        ends.append(jax.device_get((state, metrics)))
    (one, m1), (eight, m8) = ends
    assert m1.keys() == m8.keys()
    for k in m1:
        np.testing.assert_allclose(m1[k], m8[k], rtol=1e-4, atol=1e-5, err_msg=k)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_are_summed_over_devices_once_and_in_float32(ab_batch):
    """Not in bfloat16, and not in the scan over layers: where `shard_map` would put the sum by itself."""
    base = replace(TINY_SIMCLR, backbone=replace(TINY_SIMCLR.backbone, dtype="bfloat16"))
    method, tx = replace(TINY_AB, base=base), optax.sgd(1e-3)
    state = train.init(method, tx, 0, ab_batch)
    step = train.make_step(method, tx, EMA().schedule(100), 0, parallel.mesh())
    jaxpr = jax.make_jaxpr(step)(state, ab_batch).jaxpr

    def sums(jaxpr, inside=False):
        for eqn in jaxpr.eqns:
            if "psum" in eqn.primitive.name:
                yield from ((inside, x.aval.dtype) for x in eqn.outvars)
            for part in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from sums(part, inside or eqn.primitive.name == "scan")

    found = set(sums(jaxpr))
    assert found == {(False, np.dtype("float32"))}


def test_one_compile_and_it_learns(rng):
    colour = rng.integers(0, 256, (8, 1, 1, 1, 3))
    noisy = lambda n: np.clip(colour + rng.integers(-40, 40, (8, n, 16, 16, 3)), 0, 255).astype(np.uint8)
    batch = ABBatch(
        random_views(rng, 8, 2)._replace(images=noisy(2)), random_views(rng, 8, 3)._replace(images=noisy(3))
    )
    still = replace(TINY_SIMCLR, photometric=Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=0.0))
    tx = AdamW(lr=3e-3, warmup=0.0, weight_decay=0.0, weight_decay_end=0.0).build(60)
    method = replace(TINY_AB, base=still)
    state = train.init(method, tx, 0, batch)
    step = train.make_step(method, tx, EMA(tau=0.05).schedule(60), 0)
    rows = []
    for _ in range(60):
        state, metrics = step(state, batch)
        rows.append(jax.device_get(metrics))
    assert rows[-1]["reward/loss"] < 0.5 * rows[0]["reward/loss"]
    assert rows[-1]["reward/accuracy"] == 1
    assert step._cache_size() == 1
    assert int(state.step) == 60
