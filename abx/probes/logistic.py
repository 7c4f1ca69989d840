"""Multinomial logistic regression on features that are kept: the linear probe that needs no learning rate."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from abx.probes.standard import Standard
from abx.types import AnyArray

ROWS = 16_384
"""Features whose logits are computed at once, so that those of a million need not be there together."""

ENOUGH = 1_000
"""Held-out rows that are enough to tell penalties, or learning rates, apart. Our choice."""


class Fitted(NamedTuple):
    """A linear classifier, and how it was come by."""

    standard: Standard
    weight: Float[Array, "d c"]
    bias: Float[Array, " c"]
    l2: float
    """The penalty that was chosen."""
    held_out_top1: float
    """Share of the held-out features that this penalty got right; NaN when there was no choice."""
    steps: int
    """Steps that the last fit took."""
    gradient: float
    """Largest number in the gradient where it ended: at most `Logistic.tolerance`, if it converged."""

    def scores(self, features: Float[AnyArray, "q d"]) -> Float[np.ndarray, "q c"]:
        """Logits of each class."""
        return np.asarray(_affine(self.standard(features), (self.weight, self.bias)))


@dataclass(frozen=True)
class Logistic:
    """Logistic regression by L-BFGS on standardised features; the penalty is chosen on a held-out part.

    It minimises the mean cross-entropy plus l2 / 2 times the sum of the squared weights; biases are free. That is
    scikit-learn's with C = 1 / (l2 m), for m features.
    """

    l2: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Penalties to choose among; one = no choice."""
    held_out: float = 0.01
    """Share of each class that penalties are compared on, and more where that would be few (`held_out`). Then all are
    used for the fit."""
    tolerance: float = 1e-5
    """Converged = no number in the gradient is larger."""
    steps: int = 1_000
    """Steps of L-BFGS, at most, for each penalty."""
    seed: int = 0
    """Which features are held out."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        if not self.l2 or not all(0 < l2 < np.inf for l2 in self.l2):
            found.append(f"l2 must be one or more numbers above 0, not {self.l2}")
        if not 0 < self.held_out < 1:
            found.append(f"held_out must be above 0 and below 1, not {self.held_out}")
        if not self.tolerance > 0:
            found.append(f"tolerance must be above 0, not {self.tolerance}")
        if self.steps < 1:
            found.append(f"steps must be at least 1, not {self.steps}")
        if self.seed < 0:
            found.append(f"seed must be at least 0, not {self.seed}")
        return found

    def fit(self, features: Float[AnyArray, "m d"], labels: Int[AnyArray, " m"], classes: int) -> Fitted:
        """`labels` in [0, classes)."""
        standard = Standard(features)
        x, labels = standard(features), np.asarray(labels)
        # Chunks of one size; what fills the last weighs 0.
        size = min(len(labels), ROWS)
        spare = -len(labels) % size
        x = jnp.pad(x, [(0, spare), (0, 0)]).reshape(-1, size, x.shape[1])
        y = jnp.asarray(np.pad(labels, (0, spare)), jnp.int32).reshape(-1, size)

        def fit(rows: Bool[np.ndarray, " m"], l2: float, start: Any) -> tuple[Any, Array, Array]:
            padded = jnp.asarray(np.pad(rows, (0, spare)), jnp.float32).reshape(-1, size)
            return _fit(x, y, padded / padded.sum(), jnp.float32(l2), start, jnp.float32(self.tolerance), self.steps)

        params: Any = (jnp.zeros((x.shape[-1], classes)), jnp.zeros(classes))
        best = (-1.0, -np.inf)
        chosen, l2 = params, self.l2[0]
        if len(self.l2) > 1:
            out = held_out(labels, self.held_out, self.seed)
            rows = standard(np.asarray(features)[out])
            # From the strongest down: what one penalty gave is close to what the next gives.
            for penalty in sorted(self.l2, reverse=True):
                params, _, _ = fit(~out, penalty, params)
                logits = _affine(rows, params)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels[out], jnp.int32))
                right = float((np.asarray(logits).argmax(1) == labels[out]).mean())
                # By what is reported; among equals, of which a small held-out part has many, by the loss.
                if (right, -float(losses.mean())) > best:
                    best, chosen, l2 = (right, -float(losses.mean())), params, penalty
        (weight, bias), steps, gradient = fit(np.ones(len(labels), bool), l2, chosen)
        top1 = best[0] if len(self.l2) > 1 else float("nan")
        return Fitted(standard, weight, bias, l2, top1, int(steps), float(gradient))


def held_out(labels: Int[np.ndarray, " m"], share: float, seed: int) -> Bool[np.ndarray, " m"]:
    """Which rows to hold out, as booleans: this share of each class, at least one, but never a class's only one.

    Of few rows a larger share, up to a fifth: a choice by 1 % of them would be one by chance.
    """
    rng = np.random.default_rng(seed)
    share = max(share, min(ENOUGH / max(len(labels), 1), 0.2))
    out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        out[rng.choice(rows, count, replace=False)] = True
    return out


def _affine(x: Float[Array, "*s d"], params: tuple[Array, Array]) -> Float[Array, "*s c"]:
    # In full precision, as the other linear classifiers that it is compared with.
    return jnp.matmul(x, params[0], precision="highest") + params[1]


@partial(jax.jit, static_argnames="steps")
def _fit(
    x: Float[Array, "n m d"],
    y: Int[Array, "n m"],
    weights: Float[Array, "n m"],
    l2: Float[Array, ""],
    start: tuple[Array, Array],
    tolerance: Float[Array, ""],
    steps: int,
) -> tuple[tuple[Array, Array], Array, Array]:
    """The minimum, the steps taken, and the largest number in the gradient there. `weights`: of the rows; sum 1."""

    @jax.checkpoint
    def part(params: tuple[Array, Array], chunk: tuple[Array, Array, Array]) -> Array:
        features, labels, weights = chunk
        return weights @ optax.softmax_cross_entropy_with_integer_labels(_affine(features, params), labels)

    def objective(params: tuple[Array, Array]) -> Array:
        total = lambda sum, chunk: (sum + part(params, chunk), None)
        loss = jax.lax.scan(total, jnp.zeros(()), (x, y, weights))[0]
        return loss + 0.5 * l2 * jnp.sum(jnp.square(params[0]))

    solver = optax.lbfgs()
    evaluate = optax.value_and_grad_from_state(objective)

    def largest(state: Any) -> Array:
        grads = optax.tree.get(state, "grad")
        return jnp.maximum(jnp.abs(grads[0]).max(), jnp.abs(grads[1]).max())

    def more(at: tuple[Any, Any, Array]) -> Array:
        # The state knows no gradient before the first step.
        return (at[2] == 0) | ((at[2] < steps) & (largest(at[1]) > tolerance))

    def step(at: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        params, state, taken = at
        value, grad = evaluate(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=objective)
        return optax.apply_updates(params, updates), state, taken + 1

    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        found, state, taken = jax.lax.while_loop(more, step, (start, solver.init(start), jnp.zeros((), jnp.int32)))
    return found, taken, largest(state)
