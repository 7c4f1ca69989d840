"""Trainable probes as small as they get, trained on features that are made up."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from abx import parallel, train


def trained(method, batches, steps, tx, first=None, devices=1, start=lambda state: state):
    """The last state and metrics; one program however many steps. `batches`: step -> batch."""
    rescale = getattr(method, "rescale", None)
    tx = tx if rescale is None else optax.chain(tx, optax.stateless(rescale))
    mesh = parallel.mesh(jax.devices()[:devices])
    state = start(train.init(method, tx, 0, batches(0) if first is None else first))
    state = parallel.place(state, parallel.replicated(mesh))
    step = train.make_step(method, tx, optax.constant_schedule(0.0), 0, mesh if devices > 1 else None)
    metrics = {}
    for i in range(steps):
        state, metrics = step(state, parallel.place(batches(i), parallel.batched(mesh)))
        jax.block_until_ready(state.step)
    assert step._cache_size() == min(steps, 1)
    return state, jax.device_get(metrics)


def assert_eight_devices_equal_one(method, batch):
    """All that training remembers after three steps, and the metrics of the third."""
    ends = [jax.device_get(trained(method, lambda _: batch, 3, optax.sgd(0.1), devices=d)) for d in (1, 8)]
    (one, m1), (eight, m8) = ends
    assert m1.keys() == m8.keys()
    for k in m1:
        np.testing.assert_allclose(m1[k], m8[k], rtol=1e-4, atol=1e-5, err_msg=k)
    fresh = jax.device_get(train.init(method, optax.sgd(0.1), 0, batch))
    moved = 0.0
    for (path, a), b, c in zip(
        jax.tree.leaves_with_path(one.model), jax.tree.leaves(eight.model), jax.tree.leaves(fresh.model), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))
        moved = max(moved, np.abs(a - c).max())
    assert moved > 1e-2  # what never moved would agree with anything


def epochs(whole, size, seed=0):
    """step -> batch of rows drawn from a whole, a pure function of the step."""

    def batch(step):
        rows = np.random.default_rng((seed, step)).choice(len(whole[0]), size, replace=False)
        return type(whole)(*(x[rows] for x in whole))

    return batch


def sentences(method, **wrong):
    """What a method says of wrong values: the field that each sentence begins with."""
    return [s.split()[0] for s in dataclasses.replace(method, **wrong).problems()]


def sklearn():
    return pytest.importorskip("sklearn", reason="scikit-learn is not installed")
