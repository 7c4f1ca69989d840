"""The equalities that every method must pass: eight devices equal one, one compile, and it learns what it is shown."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from small import BACKBONE, METHODS, SIMCLR, STEPS, VARIANTS, ab, program, two, with_values

from abx import parallel, train
from abx.optim import EMA

CASES = [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS)]


@pytest.mark.parametrize("name", CASES)
def test_eight_devices_equal_one(name):
    """All that training remembers after three steps, and the metrics of the third."""
    ends = []
    for devices in (1, 8):
        p = program(name, devices)
        state = p.state()
        for _ in range(3):
            state, metrics = jax.block_until_ready(p.step(state, p.batch))
        ends.append(jax.device_get((state, metrics)))
    (one, m1), (eight, m8) = ends
    assert m1.keys() == m8.keys()
    for k in m1:
        np.testing.assert_allclose(m1[k], m8[k], rtol=1e-4, atol=1e-5, err_msg=k)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", METHODS)
def test_one_compile_and_it_learns(name):
    """One batch, again and again: what should fall falls, nothing is ever NaN, and nothing is compiled anew."""
    p, rows = program(name), []
    state = p.state()
    for _ in range(STEPS):
        state, metrics = p.step(state, p.batch)
        rows.append(figures(jax.device_get(metrics)))
    assert int(state.step) == STEPS
    assert p.step._cache_size() == 1
    for step, row in enumerate(rows):
        assert all(np.isfinite(v) for v in row.values()), (step, row)
    left = {k: rows[-1][k] / rows[0][k] for k in p.case.falls}
    assert left.keys()
    assert all(left[k] < share for k, share in p.case.falls.items()), left


def figures(metrics):
    """With what DINO's loss has above the least it could be, as its targets become softer while the centre settles."""
    found = dict(metrics)
    for part in ("reward", "ssl"):
        if f"{part}/target_entropy" in metrics:
            found[f"{part}/excess"] = metrics[f"{part}/loss"] - metrics[f"{part}/target_entropy"]
    return found


def test_gradients_are_summed_over_devices_once_and_in_float32(rng):
    """Not in bfloat16, and not in the scan over layers: where `shard_map` would put the sum by itself."""
    method, tx = ab(replace(SIMCLR, backbone=replace(BACKBONE, dtype="bfloat16"))), optax.sgd(1e-3)
    batch = with_values(two)(rng)
    state = jax.eval_shape(lambda: train.init(method, tx, 0, batch))
    step = train.make_step(method, tx, EMA().schedule(100), 0, parallel.mesh())
    jaxpr = jax.make_jaxpr(step)(state, batch).jaxpr

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
