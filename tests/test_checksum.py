"""A checksum sees every bit and every place, and not how the arrays lie over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from abx.checksum import _checksum, checksums

TYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "int32", "uint32", "int16", "int8", "uint8", "bool")


def noise(kind: str, *shape: int) -> jax.Array:
    """Random bits, NaNs and infinities among them."""
    rng = np.random.default_rng(0)
    if kind == "bool":
        return jnp.asarray(rng.integers(0, 2, shape) == 1)
    size = jnp.dtype(kind).itemsize
    return jnp.asarray(rng.integers(0, 256, (*shape, size), np.uint8).view(jnp.dtype(kind))[..., 0])


def one(x: jax.Array | np.ndarray) -> int:
    return checksums({"x": x})["x"]


def scattered(x: int) -> int:
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


@pytest.mark.parametrize("kind", TYPES)
def test_it_is_the_sum_over_elements(kind):
    """Also so that what is on disk stays right when the program changes."""
    x = noise(kind, 3, 4, 5)
    bits = np.asarray(x).view(f"uint{8 * x.dtype.itemsize}").reshape(-1).tolist()
    assert one(x) == sum(scattered(b ^ scattered(i)) for i, b in enumerate(bits)) % 2**32


@pytest.mark.parametrize("kind", TYPES)
def test_any_flipped_bit_is_seen(kind):
    raw = np.array(noise(kind, 5, 3))
    flat, width = raw.view(np.uint8).reshape(-1), 1 if kind == "bool" else 8
    found = {one(jnp.asarray(raw))}
    for bit in range(flat.size * 8):
        if bit % 8 < width:
            flat[bit // 8] ^= 1 << bit % 8
            found.add(one(jnp.asarray(raw)))
            flat[bit // 8] ^= 1 << bit % 8
    assert len(found) == 1 + flat.size * width


def test_places_and_signs_are_seen():
    x = noise("float32", 6, 7)
    others = [x[::-1], x[:, ::-1], -x, x.at[0, 0].multiply(-1).at[3, 3].multiply(-1), x.at[0, :2].set(x[0, 1::-1])]
    others += [jnp.zeros_like(x), x.T.reshape(6, 7), jnp.sort(x, axis=None).reshape(6, 7)]
    assert len({one(y) for y in (x, *others)}) == 1 + len(others)


def test_paths_and_odd_arrays():
    tree = {
        "a": (jnp.float32(1), None, [jnp.zeros((0, 3)), np.arange(3, dtype=np.int32)]),
        "key": jax.random.key(3),
        "complex": jnp.asarray([1 + 2j, 3], jnp.complex64),
    }
    found = checksums(tree)
    assert list(found) == ["a.0", "a.2.0", "a.2.1", "complex", "key"]
    assert found["a.2.0"] == 0
    assert found["key"] == one(jax.random.key_data(jax.random.key(3))) != one(jax.random.key(4))
    assert found["complex"] != one(jnp.asarray([1 - 2j, 3], jnp.complex64))
    assert checksums({}) == {}


def test_more_elements_than_numbers():
    """The count of the elements begins again; nothing is computed here."""
    big = jax.ShapeDtypeStruct((2**17, 2**16), jnp.bfloat16)
    assert jax.eval_shape(lambda x: _checksum(x, None), big).dtype == jnp.uint32


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bool"])
def test_the_same_however_it_lies_over_devices(kind):
    x = np.asarray(noise(kind, 16, 8))  # from the host: between CPU devices jax makes other NaNs of bfloat16's
    devices = np.asarray(jax.devices())
    found = {one(x), one(jnp.asarray(x)), one(jax.device_put(x, devices[3]))}
    for spec in ((), ("a",), (None, "a"), ("b", "a"), (("a", "b"),)):
        for grid in (devices.reshape(4, 2), devices[:2].reshape(1, 2), devices[:1].reshape(1, 1)):
            found.add(one(jax.device_put(x, NamedSharding(Mesh(grid, ("a", "b")), PartitionSpec(*spec)))))
    assert len(found) == 1
