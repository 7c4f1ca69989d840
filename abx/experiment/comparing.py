"""Two states, array by array and bit for bit."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from abx.checksum import by_path


class Difference(NamedTuple):
    """How one array of a state differs from its counterpart."""

    leaf: str
    """Its dotted path: model.backbone.norm.scale."""
    kind: str
    """Type and shape, "float32[16, 8]"; both of them, with "and", where they are not the same."""
    elements: int | None
    """How many elements differ; None where type or shape do."""
    of: int
    """How many it has."""
    largest: float | None
    """The largest difference of two elements; 0 where only the sign of a zero or the bits of a NaN differ, None where
    types or shapes do, or where the one is finite and the other is not."""

    @property
    def text(self) -> str:
        if self.elements is None:
            return f"{self.leaf} is {self.kind}"
        by = "one is finite and the other is not" if self.largest is None else f"by {self.largest:.3g} at most"
        return f"{self.leaf} ({self.kind}) in {self.elements:,} of {self.of:,} elements, {by}"


class Comparison(NamedTuple):
    leaves: int
    differ: int
    """How many arrays differ, or are there in one state alone."""
    first: Difference | None
    """The first of them, in the order of the first state; None where all are equal."""


def compare(one: Any, other: Any) -> Comparison:
    """Two states, or any pytrees of arrays that are whole on this process."""
    ours, theirs = _on_host(one), _on_host(other)
    names = [*ours, *(name for name in theirs if name not in ours)]
    found = [d for name in names if (d := _difference(name, ours.get(name), theirs.get(name)))]
    return Comparison(len(names), len(found), found[0] if found else None)


def sha256(state: Any) -> str:
    """Over path, type, shape and bytes of every array, in the order of the paths."""
    found = hashlib.sha256()
    for name, x in sorted(_on_host(state).items()):
        found.update(f"{name} {_kind(x)}\n".encode())
        found.update(x.tobytes())
    return found.hexdigest()


def _on_host(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(jax.device_get(_plain(x))) for name, x in by_path(tree).items()}


def _plain(x: Any) -> Any:
    keys = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if keys else x


def _difference(name: str, one: np.ndarray | None, other: np.ndarray | None) -> Difference | None:
    if one is None or other is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        there = max(0 if x is None else x.size for x in (one, other))
        return Difference(name, f"{_kind(one)} and {_kind(other)}", None, there, None)
    bits = [np.frombuffer(x.tobytes(), np.uint8).reshape(x.size, x.dtype.itemsize) for x in (one, other)]
    differ = (bits[0] != bits[1]).any(axis=1)
    count = int(differ.sum())
    if not count:
        return None
    # As float64, in which the difference of two float32 or bfloat16 is exact enough to be read.
    a, b = (x.ravel()[differ].astype(np.float64) for x in (one, other))
    if (np.isfinite(a) != np.isfinite(b)).any():
        return Difference(name, _kind(one), count, one.size, None)
    finite = np.isfinite(a)
    return Difference(name, _kind(one), count, one.size, float(np.abs(a - b)[finite].max(initial=0.0)))


def _kind(x: np.ndarray | None) -> str:
    return "absent" if x is None else f"{x.dtype}{list(x.shape)}"
