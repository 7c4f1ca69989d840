"""A linear layer on pooled features, trained with several learning rates at once (METHODS §5.1).

`abx.probes.logistic` finds the same classifier without a learning rate, from features that are kept.
"""

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx import parallel
from abx.nn.layers import Linear
from abx.optim import AdamW
from abx.probes.batches import Labelled
from abx.probes.standard import Standard
from abx.types import AnyArray, Aux, Axis

OPTIM = AdamW(lr=1e-3, warmup=0.1, weight_decay=0.0, weight_decay_end=0.0)
"""No decay, as MAE and DINO have it."""


class LinearModel(eqx.Module):
    """One linear layer for each learning rate."""

    standard: Standard
    linear: Linear
    """Stacked: its arrays have a leading axis of learning rates."""

    def __call__(self, features: Float[AnyArray, "b d"]) -> Float[Array, "r b c"]:
        """Logits by each of them, in float32."""
        x = self.standard(features)
        return jax.vmap(lambda layer: layer(x))(self.linear)


@dataclass(frozen=True)
class LinearProbe:
    """Linear classifiers side by side, one for each learning rate; none knows of the others."""

    classes: int = 1000
    """Number of classes."""
    rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Learning rates, in those of the optimiser."""

    def problems(self) -> list[str]:
        found = []
        if self.classes < 2:
            found.append(f"classes must be at least 2, not {self.classes}")
        if not self.rates or not all(0 < rate < np.inf for rate in self.rates):
            found.append(f"rates must be one or more numbers above 0, not {self.rates}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[LinearModel, Any]:
        """`batch`: `Labelled` pooled features, as many as one can afford: they are standardised by these."""
        # The same start for all, so that learning rates alone are compared; DINO's deviation.
        linear = Linear(batch.features.shape[-1], self.classes, init=jax.nn.initializers.normal(0.01), key=key)
        stacked = jax.tree.map(lambda x: jnp.stack([x] * len(self.rates)), linear)
        return LinearModel(Standard(batch.features), stacked), ()

    def loss(
        self,
        model: LinearModel,
        target: LinearModel,
        carry: Any,
        batch: Labelled,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """The sum of all the classifiers' losses, so that the gradient of each is its own. The metrics are those of the
        best on this batch."""
        losses, right = _judge(model, batch.features, batch.labels)
        # Averaged before the best is picked: of each device's own best there is no mean.
        # A learning rate may be so high that its classifier's loss is no number; then the others count.
        lowest = jnp.nanmin(parallel.mean(losses, axis))
        best = {"probe/loss": lowest, "probe/top1": parallel.mean(right, axis).max()}
        return losses.sum(), Aux(best, carry)

    def rescale(self, updates: LinearModel, params: Any = None) -> LinearModel:
        """What the optimiser would change, times each classifier's learning rate: `optax.stateless(probe.rescale)` goes
        after the optimiser."""
        rates = jnp.asarray(self.rates, jnp.float32)
        scaled = jax.tree.map(lambda x: jax.vmap(jnp.multiply)(x, rates), updates.linear)
        return eqx.tree_at(lambda m: m.linear, updates, scaled)

    def best(
        self, model: LinearModel, features: Float[AnyArray, "m d"], labels: Int[AnyArray, " m"]
    ) -> tuple[int, list[float]]:
        """The classifier with the highest top-1 on features that none was trained on, by the loss among equals; and the
        top-1 of each."""
        losses, right = (x.tolist() for x in _judge(model, features, labels))
        return max(range(len(right)), key=lambda i: (math.isfinite(losses[i]), right[i], -losses[i])), right

    def scores(self, model: LinearModel, chosen: int, features: Float[AnyArray, "q d"]) -> Float[np.ndarray, "q c"]:
        """Logits by the classifier that was chosen."""
        layer = jax.tree.map(lambda x: x[chosen], model.linear)
        return np.asarray(layer(model.standard(features)))


def _judge(
    model: LinearModel, features: Float[AnyArray, "b d"], labels: Int[AnyArray, " b"]
) -> tuple[Float[Array, " r"], Float[Array, " r"]]:
    """Mean cross-entropy and share that is right, of each classifier."""
    logits, labels = model(features), jnp.asarray(labels, jnp.int32)
    each = jnp.broadcast_to(labels, logits.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, each)
    return losses.mean(1), (logits.argmax(-1) == labels).mean(1, dtype=jnp.float32)
