"""How well views are predicted, by how far away they are (paper, Figure 4 right), beside what needs no prediction.

Pairs of views are sorted by the IoU of their boxes. In each bin the value head's first choice among the annotations is
compared with the reward's in the view that was predicted, and with the target's; so are the baselines' (TRIAL §2).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from abx import boxes
from abx.analysis.values import logit, pair_excess
from abx.methods.ab import AB, ABCarry, ABModel
from abx.types import ABBatch, AnyArray

EDGES = (0.0, 0.1, 0.3, 0.5)
BINS = ("0", "(0, 0.1]", "(0.1, 0.3]", "(0.3, 0.5]", "(0.5, 1]", "self")
"""Ranges of the IoU of two views; the last one is of each view with itself, which the paper does not keep apart."""
SHARES = np.linspace(0, 1, 11, dtype=np.float32)
"""Of the own target in a shrunk copy."""
REFERENCES, PREDICTORS = ("reward", "target"), ("value", "copy", "rotated")


class Tally(NamedTuple):
    """Sums over the pairs of each of the 6 bins. Those of several batches are added."""

    pairs: Float[AnyArray, "6"]
    annotations: Float[AnyArray, "6"]
    """Their number, for each pair."""
    hits: Float[AnyArray, "r p 6"]
    """Of `PREDICTORS`, by what the right answer is: `REFERENCES`."""
    excess: Float[AnyArray, "2 6"]
    """Value loss above the entropy of the target: of the value head, and with rotated boxes."""
    shrunk_hits: Float[AnyArray, "r s 6"]
    shrunk_excess: Float[AnyArray, "s 6"]
    """Of shrunk copies, for each of `SHARES`."""


def tally(
    q: Float[Array, "b i j l"],
    rotated: Float[Array, "b i j l"],
    reward: Float[Array, "b j l"],
    y: Float[Array, "b j l"],
    views: Float[Array, "b n 4"],
) -> Tally:
    """Of one batch.

    Args:
        q: logits of the values.
        rotated: the same where each source is told the way to the next target over.
        reward: p(l | x_j) by the target network.
        y: the targets.
        views: boxes of the views.
    """
    overlap = boxes.iou(*jnp.broadcast_arrays(views[:, :, None], views[:, None]))
    bins = jnp.searchsorted(jnp.array(EDGES), overlap, side="left")
    bins = jnp.where(jnp.eye(views.shape[1], dtype=bool), len(EDGES) + 1, bins)  # b i j
    member = jax.nn.one_hot(bins, len(BINS), dtype=jnp.float32)
    total = lambda x: jnp.einsum("bij,bijk->k", x.astype(jnp.float32), member)
    right = [x.argmax(-1)[:, None] for x in (reward, y)]  # b 1 j

    def hits(guess: Array, answer: Array) -> Array:
        return total(guess == answer)

    choices = (q.argmax(-1), rotated.argmax(-1))
    found = [
        jnp.stack([hits(choices[0], answer), hits(own.argmax(-1)[:, :, None], answer), hits(choices[1], answer)])
        for answer, own in zip(right, (reward, y), strict=True)
    ]

    def shrunk(share: Array) -> tuple[Array, Array]:
        guess = share * y + (1 - share) * y.mean((0, 1))
        choice = guess.argmax(-1)[:, :, None]
        spread = jnp.broadcast_to(logit(guess)[:, :, None], q.shape)
        return jnp.stack([hits(choice, answer) for answer in right]), total(pair_excess(spread, y))

    shrunk_hits, shrunk_excess = jax.lax.map(shrunk, jnp.asarray(SHARES))
    pairs = member.sum((0, 1, 2))
    return Tally(
        pairs=pairs,
        annotations=pairs * q.shape[-1],
        hits=jnp.stack(found),
        excess=jnp.stack([total(pair_excess(q, y)), total(pair_excess(rotated, y))]),
        shrunk_hits=shrunk_hits.swapaxes(0, 1),
        shrunk_excess=shrunk_excess,
    )


@partial(jax.jit, static_argnums=0)
def tally_of(method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batch: ABBatch, key: Array) -> Tally:
    """Of what a method makes of a batch. The annotations of its reward part should stay the same between checkpoints,
    or chance moves."""
    p = method.predict(model, target, carry, batch, key)
    q = model.value.logits(p.phi, p.psi)
    rotated = model.value.logits(model.value.phi(p.tokens, jnp.roll(p.actions, 1, axis=2)), p.psi)
    return tally(q, rotated, p.reward, method.value_target(target, p, carry.step), jnp.asarray(batch.value.boxes))


def by_overlap(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Shares and means in each bin, from the tallies of some batches. NaN (None once written) in a bin without pairs.

    Returns:
        `bins`; `pairs`, how many there are in each; `chance`; under `reward` and `target`, after what counts as right,
        accuracies of `value` and of the baselines: `copy` (the first choice at the view one stands in: pure
        invariance), `shrunk_copy` (that of its target mixed with the mean target, by the share that has the least
        excess in the bin) and `rotated` (the value head's, told the way to another target); under `excess` the nats by
        which `value`, `shrunk_copy` and `rotated` exceed the entropy of the target; `share`, that of the shrunk copy.
    """
    sums = Tally(*(np.sum([np.asarray(part, np.float64) for part in parts], 0) for parts in zip(*tallies, strict=True)))
    pairs = np.where(sums.pairs > 0, sums.pairs, math.nan)
    best = sums.shrunk_excess.argmin(0)
    at = np.arange(len(BINS))
    found: dict[str, Any] = {"bins": list(BINS), "pairs": sums.pairs.astype(int).tolist()}
    found["chance"] = (pairs / sums.annotations.clip(1)).tolist()
    for r, reference in enumerate(REFERENCES):
        shares = {name: sums.hits[r, k] / pairs for k, name in enumerate(PREDICTORS)}
        shares["shrunk_copy"] = sums.shrunk_hits[r, best, at] / pairs
        found[reference] = {name: x.tolist() for name, x in shares.items()}
    excess = {"value": sums.excess[0], "shrunk_copy": sums.shrunk_excess[best, at], "rotated": sums.excess[1]}
    found["excess"] = {name: (x / pairs).tolist() for name, x in excess.items()}
    found["share"] = np.where(sums.pairs > 0, SHARES[best], math.nan).tolist()
    return found
