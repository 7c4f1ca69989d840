"""The only file that knows there is more than one device."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PRNGKeyArray

DATA = "data"
"""The mesh axis over which a batch is split."""

Tree = TypeVar("Tree")


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One data axis over all devices (or these)."""
    # Axis type Auto: with Explicit, JAX's default, the patch reshape would have to spell out its sharding.
    return Mesh(np.asarray(devices if devices is not None else jax.devices()), (DATA,), axis_types=(AxisType.Auto,))


def batched(m: Mesh) -> NamedSharding:
    """Leading axis split over the data axis."""
    return NamedSharding(m, PartitionSpec(DATA))


def replicated(m: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(m, PartitionSpec())


def shard_loss(loss: Callable[..., Any], m: Mesh) -> Callable[..., Any]:
    """Run `loss(model, target, carry, batch, key)` on each device with its rows of the batch, the rest replicated.

    What it returns must be equal on all devices (`mean`). Differentiate outside: the gradient inside `shard_map` with a
    hand-written sum would come out once per device.
    """

    def varying(model: Any, *rest: Any) -> Any:
        # Gradients are summed over devices where parameters begin to vary over them: here, once and in float32. Left to
        # itself `shard_map` does it at every use, in the scan over layers and after the cast to bfloat16.
        return loss(jax.tree.map(lambda x: jax.lax.pcast(x, DATA, to="varying"), model), *rest)

    r, b = PartitionSpec(), PartitionSpec(DATA)
    return jax.shard_map(varying, mesh=m, in_specs=(r, r, r, b, r), out_specs=r)


def gather(x: Tree, axis: str | None) -> Tree:
    """Everyone's rows, in device order. Without an axis (a notebook, one device) the identity."""
    if axis is None:
        return x
    return jax.tree.map(lambda a: jax.lax.all_gather(a, axis, tiled=True), x)


def positives(b: int, axis: str | None) -> Int[Array, " b"]:
    """For each of my b rows, its index among the gathered rows."""
    offset = 0 if axis is None else jax.lax.axis_index(axis) * b
    return offset + jnp.arange(b)


def row_keys(key: PRNGKeyArray, b: int, axis: str | None) -> Key[Array, " b"]:
    """A key for each of my b rows, by its place in the whole batch: the same however many devices share it."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(positives(b, axis))


def mean(x: Tree, axis: str | None) -> Tree:
    """The mean over devices; without an axis the identity."""
    return x if axis is None else jax.lax.pmean(x, axis)


def place(tree: Tree, sharding: NamedSharding) -> Tree:
    """Host arrays onto the devices."""
    return jax.device_put(tree, sharding)
