"""The regression of one batch, number by number: what each value should have been, and why (equation 5)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from abx.methods.ab import AB, ABCarry, ABModel
from abx.types import ABBatch, AnyArray


class Targets(NamedTuple):
    """Of all n² pairs of views of b images, and l annotations. From these the loss can be computed anew: `loss_of`."""

    boxes: Float[AnyArray, "b n 4"]
    """Of the views, in the image."""
    actions: Float[AnyArray, "b i j 4"]
    reward: Float[AnyArray, "b j l"]
    """p(l | x_j) by the target network."""
    next_value: Float[AnyArray, "b j l"]
    """max_k Q(x_j, a_jk, l) by the target network."""
    chosen: Int[AnyArray, "b j l"]
    """The k that has it."""
    gamma: Float[AnyArray, ""]
    target: Float[AnyArray, "b j l"]
    """y_j(l) = (1 - gamma) reward + gamma next_value."""
    logits: Float[AnyArray, "b i j l"]
    """Of the online network's values Q(x_i, a_ij, l)."""
    counted: Bool[AnyArray, "i j"]
    """Which pairs the loss is the mean of."""

    @property
    def value(self) -> Float[np.ndarray, "b i j l"]:
        """Q(x_i, a_ij, l), by the online network."""
        q = np.asarray(self.logits, np.float64)
        return (1 / (1 + np.exp(-q))).astype(np.float32)

    @property
    def error(self) -> Float[np.ndarray, "b i j l"]:
        """target - value: what one would have to add."""
        return np.asarray(self.target)[:, None] - self.value


@partial(jax.jit, static_argnums=0)
def targets_of(method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batch: ABBatch, key: Array) -> Targets:
    """What a training step with this batch and key would have the values be.

    Holds b n² l numbers twice: cut the batch for large n or l.
    """
    p = method.predict(model, target, carry, batch, key)
    n = p.actions.shape[1]
    pairs = method.pairs(n)
    counted = np.ones((n, n), bool) if pairs is None else pairs
    next_q = jnp.where(jnp.asarray(counted)[..., None], method.next_q(target, p), -jnp.inf)
    return Targets(
        boxes=jnp.asarray(batch.value.boxes),
        actions=p.actions,
        reward=p.reward.astype(jnp.float32),
        next_value=jax.nn.sigmoid(next_q.max(2)),
        chosen=next_q.argmax(2),
        gamma=method.discount(carry.step),
        target=method.value_target(target, p, carry.step),
        logits=model.value.logits(p.phi, p.psi),
        counted=jnp.asarray(counted),
    )


def pair_losses(found: Targets) -> Float[np.ndarray, "b i j"]:
    """The value loss of each pair: cross-entropy of the values to the targets, summed over annotations."""
    q, y = np.asarray(found.logits, np.float64), np.asarray(found.target, np.float64)[:, None]
    return np.asarray((np.logaddexp(0, q) - y * q).sum(-1))


def loss_of(found: Targets) -> float:
    """The value loss, as the mean of `pair_losses` over the pairs that count: what the method reports for the batch."""
    return float(pair_losses(found)[:, np.asarray(found.counted)].mean())


def floor_of(found: Targets) -> float:
    """The loss of values that were their targets exactly: the targets' entropy, below which none can be."""
    y = np.clip(np.asarray(found.target, np.float64), 1e-12, 1 - 1e-12)
    entropy = -(y * np.log(y) + (1 - y) * np.log1p(-y)).sum(-1)[:, None]
    n = entropy.shape[2]
    return float(np.broadcast_to(entropy, (len(y), n, n))[:, np.asarray(found.counted)].mean())


class Error(NamedTuple):
    """Where a value is far from its target."""

    image: int
    source: int
    """View i."""
    view: int
    """View j, which the action leads to."""
    annotation: int


def largest_errors(found: Targets, count: int = 10) -> list[Error]:
    """The largest |target - value| of pairs that count, one of each image and annotation at most."""
    size = np.where(np.asarray(found.counted)[..., None], np.abs(found.error), -1)  # b i j l
    worst = size.max((1, 2))  # b l
    order = np.argsort(-worst, axis=None, kind="stable")[:count]
    places = np.stack(np.unravel_index(order, worst.shape), 1).tolist()
    pairs = [np.unravel_index(int(size[b, ..., l].argmax()), size.shape[1:3]) for b, l in places]
    return [Error(b, int(i), int(j), l) for (b, l), (i, j) in zip(places, pairs, strict=True)]
