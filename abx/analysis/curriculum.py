"""Which views does the value loss teach most? Norms of its gradient, view by view (paper, Figure 9)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from abx.methods.ab import AB, ABCarry, ABModel, Prediction
from abx.types import ABBatch

QUANTILES = np.linspace(0, 1, 201)


def token_gradients(method: AB[Any], model: ABModel, p: Prediction, y: Float[Array, "b j l"]) -> Float[Array, "b n"]:
    """|d L / d tokens(x_i)| of each view i, where L is its share of the value loss: the sum over j and l.

    The paper writes dL/d phi. Here phi are the tokens that the backbone gives out, t x d of each view: pooled features
    get no gradient from the value loss (our inference, METHODS §5.5).
    """
    pairs, n = method.pairs(p.actions.shape[1]), p.actions.shape[1]
    count = len(p.tokens) * (n * n if pairs is None else int(pairs.sum()))  # value_loss is a mean over so many pairs

    def loss(tokens: Array) -> Array:
        return count * method.value_loss(model, p._replace(phi=model.value.phi(tokens, p.actions)), y)

    gradient = jax.grad(loss)(p.tokens).astype(jnp.float32)
    return jnp.sqrt(jnp.square(gradient).sum((2, 3)))


@partial(jax.jit, static_argnums=0)
def view_gradients(
    method: AB[Any], model: ABModel, target: ABModel, carry: ABCarry, batch: ABBatch, key: Array
) -> Float[Array, "b n"]:
    """`token_gradients` of a batch's value images, to targets by the target network."""
    p = method.predict(model, target, carry, batch, key)
    return token_gradients(method, model, p, method.value_target(target, p, carry.step))


def curriculum(norms: Float[np.ndarray, " v"]) -> dict[str, Any]:
    """How unevenly views are taught.

    Args:
        norms: of the gradients of v views.

    Returns:
        `mean`; `norms`, relative to it, at the 201 `quantiles` from the least to the largest, which is the curve of
        Figure 9; `top_tenth`, the share that the tenth of views with the largest norms has of the sum of all: 0.1 where
        all are taught alike.
    """
    mean = float(norms.mean())
    ordered = np.sort(norms)[::-1]
    part = np.clip(len(norms) / 10 - np.arange(len(norms)), 0, 1)  # of each view, that is in the tenth
    return {
        "views": len(norms),
        "mean": mean,
        "top_tenth": float(part @ ordered / max(float(norms.sum()), 1e-30)),
        "quantiles": QUANTILES.tolist(),
        "norms": (np.quantile(norms, QUANTILES) / max(mean, 1e-30)).tolist(),
    }


def ends(norms: Float[np.ndarray, "m n"], count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The images and views with the least norms and those with the largest, up to `count` each; one of an image."""
    rows = np.arange(len(norms))
    least, largest = norms.argmin(1), norms.argmax(1)
    low = np.argsort(norms[rows, least], kind="stable")[:count]
    high = np.argsort(-norms[rows, largest], kind="stable")[:count]
    return [(int(m), int(least[m])) for m in low], [(int(m), int(largest[m])) for m in high]
