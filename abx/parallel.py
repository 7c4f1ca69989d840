"""The only file that knows there is more than one device.

A batch is split over all axes of the mesh. An axis `data` holds the state once on every device, an axis `fsdp` shares
it out; a mesh with both holds a whole state in each of its groups of devices, which can be a host's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PRNGKeyArray

from abx.types import Axis

DATA, SHARDS = "data", "fsdp"
"""Mesh axes: whole copies of the state; parts of it (fully sharded data parallelism)."""
SMALL = 2**16
"""Numbers; an array of fewer is held whole by every device: a message costs more than the memory is worth."""

Kind: TypeAlias = Literal["data", "fsdp", "hybrid"]
Tree = TypeVar("Tree")


def mesh(devices: Sequence[jax.Device] | None = None, kind: Kind = "data", copies: int = 0) -> Mesh:
    """All devices of this process, or these, in their order.

    Args:
        kind: data = each device holds the whole state; fsdp = the state is shared out over all; hybrid = over each of
            several groups of neighbours.
        copies: how many groups, for hybrid; 0 = one.

    Raises: ValueError when the devices cannot be grouped like this.
    """
    found = np.asarray(jax.local_devices() if devices is None else devices)
    axes: tuple[str, ...] = (SHARDS,) if kind == "fsdp" else (DATA,)
    if kind == "hybrid":
        groups = copies or 1
        if len(found) % groups:
            raise ValueError(f"{len(found)} devices cannot be {groups} groups of the same size")
        if 1 < len(found) == groups:
            raise ValueError(f"{groups} groups of one device each share nothing out, which is what data means")
        found, axes = found.reshape(groups, -1), (DATA, SHARDS)
    # Axis type Auto: with Explicit, JAX's default, the patch reshape would have to spell out its sharding.
    return Mesh(found, axes, axis_types=(AxisType.Auto,) * len(axes))


def axis(m: Mesh) -> str | tuple[str, ...]:
    """What collectives over the whole mesh take."""
    return m.axis_names[0] if len(m.axis_names) == 1 else tuple(m.axis_names)


def batched(m: Mesh) -> NamedSharding:
    """Leading axis split over the whole mesh."""
    return NamedSharding(m, PartitionSpec(axis(m)))


def replicated(m: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(m, PartitionSpec())


def shards(tree: Tree, m: Mesh) -> Tree:
    """How parameters, or arrays of their shapes, lie on the mesh: a sharding for each array."""
    return jax.tree.map(lambda x: NamedSharding(m, _spec(x.shape, m)), tree)


def _spec(shape: Sequence[int], m: Mesh) -> PartitionSpec:
    """An array is cut along the longest of its axes that the shards divide, the last of equals."""
    parts = m.shape.get(SHARDS, 1)
    cut = [k for k, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or math.prod(shape) < SMALL or not cut:
        return PartitionSpec()
    longest = max(cut, key=lambda k: (shape[k], k))
    return PartitionSpec(*[None] * longest, SHARDS)


def shard_loss(loss: Callable[..., Any], m: Mesh) -> Callable[..., Any]:
    """Run `loss(model, target, carry, batch, key)` on each device with its rows of the batch and whole networks.

    What it returns must be equal on all devices (`mean`). Differentiate outside: the gradient inside `shard_map` with a
    hand-written sum would come out once per device. Gradients lie on the mesh as the parameters do.
    """
    everyone, rows = PartitionSpec(), PartitionSpec(axis(m))

    def gathered(x: Array, spec: PartitionSpec) -> Array:
        return jax.lax.all_gather(x, SHARDS, axis=spec.index(SHARDS), tiled=True) if SHARDS in spec else x

    def varying(x: Array, spec: PartitionSpec) -> Array:
        # Gradients are summed over devices where parameters begin to vary over them: here, once and in float32. Left to
        # itself `shard_map` does it at every use, in the scan over layers and after the cast to bfloat16.
        # And of what is shared out before it is gathered, so that groups sum each a part and not the whole.
        others = tuple(name for name in m.axis_names if name not in spec)
        return gathered(jax.lax.pcast(x, others, to="varying") if others else x, spec)

    def sharded(model: Any, target: Any, *rest: Any) -> Any:
        ours, theirs = (jax.tree.map(lambda x: _spec(x.shape, m), tree) for tree in (model, target))

        def on_each(model: Any, target: Any, *rest: Any) -> Any:
            return loss(jax.tree.map(varying, model, ours), jax.tree.map(gathered, target, theirs), *rest)

        return jax.shard_map(
            on_each, mesh=m, in_specs=(ours, theirs, everyone, rows, everyone), out_specs=everyone
        )(model, target, *rest)  # fmt: skip

    return sharded


def gather(x: Tree, axis: Axis) -> Tree:
    """Everyone's rows, in device order. Without an axis (a notebook, one device) the identity."""
    if axis is None:
        return x
    return jax.tree.map(lambda a: jax.lax.all_gather(a, axis, tiled=True), x)


def positives(b: int, axis: Axis) -> Int[Array, " b"]:
    """For each of my b rows, its index among the gathered rows."""
    offset = 0 if axis is None else jax.lax.axis_index(axis) * b
    return offset + jnp.arange(b)


def row_keys(key: PRNGKeyArray, b: int, axis: Axis) -> Key[Array, " b"]:
    """A key for each of my b rows, by its place in the whole batch: the same however many devices share it."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(positives(b, axis))


def mean(x: Tree, axis: Axis) -> Tree:
    """The mean over devices; without an axis the identity."""
    return x if axis is None else jax.lax.pmean(x, axis)


def place(tree: Tree, sharding: NamedSharding) -> Tree:
    """Host arrays onto the devices. Of several processes each gives its own rows of what is split, and all of what is
    not."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)
