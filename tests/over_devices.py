"""A loss as eight devices compute it together."""

import jax
import numpy as np
from jax.sharding import PartitionSpec

from abx import parallel

ALL, ROWS, VIEWS = PartitionSpec(), PartitionSpec(parallel.DATA), PartitionSpec(None, parallel.DATA)
"""How an argument lies over the devices: the same on each; split along the first axis; along the second."""


def assert_the_same(loss, specs, args, wrt, alone=None):
    """The mean over devices of `loss`, and its gradients, are those of `alone` (`loss` itself) on the whole batch."""
    fn = jax.shard_map(
        lambda *args: parallel.mean(loss(*args), parallel.DATA),
        mesh=parallel.mesh(),
        in_specs=specs,
        out_specs=ALL,
    )
    many = jax.jit(jax.value_and_grad(fn, wrt))(*args)
    one = jax.jit(jax.value_and_grad(alone or loss, wrt))(*args)
    np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
    for a, b in zip(many[1], one[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.abs(b).max() > 1e-4  # a gradient of zeros would agree with anything
