"""A number for every array of a pytree that changes when the array does: what was saved is what came back.

Computed where the arrays are, and the same however they lie over devices and processes.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves by their dotted paths: the same for a state and for what Orbax says of a saved one."""
    piece = lambda key: str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))
    return {".".join(map(piece, path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def checksums(tree: Any) -> dict[str, int]:
    """A number in [0, 2^32) for each array, by its path. Every process of a run must ask, and all get the same.

    Another value of one element of up to 32 bits is another number for certain; of several, and elements that change
    places, with a probability of 1 - 2^-32. Types and shapes are not looked at.
    """
    # An array at a time and not all in one program: most of a state are a few shapes again and again.
    found = {path: _checksum(x, _everywhere(x)) for path, x in by_path(tree).items()}
    return {path: int(x) for path, x in jax.device_get(found).items()}


def _everywhere(x: Any) -> NamedSharding | None:
    """On all devices that `x` lies over. A process can read what others hold only where it is the same on all."""
    lies = getattr(x, "sharding", None)
    return NamedSharding(lies.mesh, PartitionSpec()) if isinstance(lies, NamedSharding) else None


@partial(jax.jit, static_argnames="everywhere")
def _checksum(x: Any, everywhere: NamedSharding | None) -> UInt32[Array, ""]:
    """The sum of m(bits ^ m(position)) modulo 2^32, where m is one-to-one and scatters."""
    bits, place = _words(x), jnp.uint32(0)
    for axis, size in enumerate(bits.shape):
        # Counted along each axis, and not once over all elements, so that no device makes more than its part. With
        # more than 2^32 elements the count begins again, and still what changes is seen.
        place = place * np.uint32(size & 0xFFFFFFFF) + lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    found = jnp.sum(_scattered(bits ^ _scattered(place)), dtype=jnp.uint32)
    return found if everywhere is None else lax.with_sharding_constraint(found, everywhere)


def _words(x: Any) -> UInt32[Array, "..."]:
    """The bits of each element; one of 64 bits makes two words."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    if x.dtype == bool:
        return jnp.asarray(x).astype(jnp.uint32)
    width = jax.dtypes.itemsize_bits(x.dtype)
    return lax.bitcast_convert_type(x, f"uint{min(width, 32)}").astype(jnp.uint32)


def _scattered(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The last part of MurmurHash3: one-to-one, and each bit of the result depends on every bit of `x`.

    With the bits as they are the highest one, a sign, would count 2^31 at every place: two of them would make nothing.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
