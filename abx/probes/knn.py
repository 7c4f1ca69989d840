"""k nearest neighbours: classes voted by the training features that are most like a feature (METHODS §5.1)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from abx.nn import unit
from abx.probes.standard import power_of_two
from abx.types import AnyArray


def knn_scores(
    train: Float[AnyArray, "m d"],
    labels: Int[AnyArray, " m"],
    test: Float[AnyArray, "q d"],
    classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    keys: int = 65_536,
    queries: int = 1_024,
) -> Float[np.ndarray, "q c"]:
    """Votes for each class: the k nearest by cosine, each with weight exp(similarity / temperature) (DINO's).

    Args:
        labels: in [0, classes).
        classes: c. A class without a neighbour has a score of 0, as many others may.
        k: cut to the number of training features.
        keys, queries: training and test features that are compared at once; they bound the memory and nothing else.
    """
    m, q = len(train), len(test)
    k = min(k, m)
    keys, queries = min(max(keys, k), m), min(queries, max(q, 1))
    # Chunks of one size, for one compiled program; what fills the last is as far away as can be.
    chunks = -(-m // keys)
    spare = chunks * keys - m
    known = jnp.pad(_directions(jnp.asarray(train)), [(0, spare), (0, 0)]).reshape(chunks, keys, -1)
    voters = jnp.pad(jnp.asarray(labels, jnp.int32), (0, spare)).reshape(chunks, keys)
    real = (jnp.arange(chunks * keys) < m).reshape(chunks, keys)
    found = []
    for start in range(0, q, queries):
        part = np.asarray(test[start : start + queries], np.float32)
        padded = np.pad(part, [(0, queries - len(part)), (0, 0)])
        votes = _votes(padded, known, voters, real, classes, k, jnp.float32(temperature))
        found.append(np.asarray(votes)[: len(part)])
    return np.concatenate(found) if found else np.zeros((0, classes), np.float32)


def knn(
    train: Float[AnyArray, "m d"],
    labels: Int[AnyArray, " m"],
    test: Float[AnyArray, "q d"],
    k: int = 20,
    temperature: float = 0.07,
) -> Int[np.ndarray, " q"]:
    """The class with the most votes, by `knn_scores`."""
    return knn_scores(train, labels, test, int(np.max(labels)) + 1, k=k, temperature=temperature).argmax(1)


@jax.jit
def _directions(x: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """Of length 1 whatever the features' own, which may be far from it."""
    x = x.astype(jnp.float32)
    return unit(x / power_of_two(jnp.abs(x).max(-1, keepdims=True)))


@partial(jax.jit, static_argnames=("classes", "k"))
def _votes(
    test: Array, known: Array, voters: Array, real: Array, classes: int, k: int, temperature: Array
) -> Float[Array, "q c"]:
    queries = _directions(test)

    def nearer(best: tuple[Array, Array], chunk: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        keys, labels, here = chunk
        # In full precision: where accelerators round the inputs of a matmul, neighbours change places.
        similarity = jnp.where(here, jnp.matmul(queries, keys.T, precision="highest"), -jnp.inf)
        top, index = jax.lax.top_k(similarity, k)
        both = jnp.concatenate([best[0], top], 1), jnp.concatenate([best[1], labels[index]], 1)
        top, index = jax.lax.top_k(both[0], k)
        return (top, jnp.take_along_axis(both[1], index, 1)), None

    none = jnp.full((len(test), k), -jnp.inf), jnp.zeros((len(test), k), jnp.int32)
    (similarity, labels), _ = jax.lax.scan(nearer, none, (known, voters, real))
    rows = jnp.arange(len(test))[:, None]
    return jnp.zeros((len(test), classes)).at[rows, labels].add(jnp.exp(similarity / temperature))
