"""Resumed equals never stopped, bit for bit, for every method."""

import jax
import numpy as np
import pytest
from small import METHODS, program

from abx import parallel
from abx.checkpoint import Checkpoints

ONE = parallel.replicated(parallel.mesh(jax.devices()[:1]))


@pytest.mark.parametrize("name", METHODS)
def test_resumed_equals_never_stopped(name, tmp_path):
    """Two steps, to disk and back, two steps: every array of the state, the carry included, as after four steps."""
    p = program(name)
    state = p.state()
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    for _ in range(2):
        state, _ = p.step(state, p.batch)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, state, {})
    half_way = jax.device_get(state)
    for _ in range(2):
        state, metrics = p.step(state, p.batch)

    with Checkpoints(tmp_path) as checkpoints:
        resumed, _ = checkpoints.restore(2, template, ONE)
    for _ in range(2):
        resumed, again = p.step(resumed, p.batch)

    same(state, resumed)
    same(metrics, again)
    # What is equal because it never changes would prove nothing.
    for part in ("model", "target", "opt", *(["carry"] if jax.tree.leaves(state.carry) else [])):
        before, after = (jax.tree.leaves(getattr(s, part)) for s in (half_way, state))
        assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(before, after, strict=True)), part


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype, jax.tree_util.keystr(path)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["dino", "silc", "ab_dino"])
def test_what_dino_carries_changes_with_every_step(name):
    """The center and the count are saved because they matter: neither stands still."""
    p = program(name)
    state = p.state()
    carry = lambda state: jax.device_get(state.carry.base if name == "ab_dino" else state.carry)
    seen = [carry(state)]
    for _ in range(2):
        state, _ = p.step(state, p.batch)
        seen.append(carry(state))
    assert [int(c.step) for c in seen] == [0, 1, 2]
    assert not seen[0].center.any()
    assert np.abs(seen[2].center - seen[1].center).max() > 0
