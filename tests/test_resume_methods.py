"""Of every method: two steps, a checkpoint, and two more are four steps, in every bit of all that is remembered."""

import jax
import numpy as np
import pytest
from small import METHODS, program

from abx.checkpoint import Checkpoints
from abx.train import TrainState


@pytest.mark.parametrize("name", METHODS)
def test_resumed_equals_never_stopped(name, tmp_path):
    p = program(name)

    def run(state, steps):
        for _ in range(steps):
            state, _ = jax.block_until_ready(p.step(state, p.batch))
        return state

    straight = jax.device_get(run(p.state(), 4))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, run(p.state(), 2), {})
    like = jax.eval_shape(p.state)
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore_newest(like, jax.tree.leaves(p.state())[0].sharding)
    assert found is not None
    resumed = jax.device_get(run(TrainState(*found[0]), 2))

    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    assert int(resumed.step) == 4
    for (path, a), b in zip(jax.tree.leaves_with_path(straight), jax.tree.leaves(resumed), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
