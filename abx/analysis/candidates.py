"""What is said of one picture, by a few annotations, while training goes on (paper, Figure 7)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from abx.analysis.rewards import rewarding
from abx.methods.ab import AB
from abx.methods.base import Method
from abx.methods.siglip import SigLIP
from abx.types import AnyArray

ZOOM_OUT = (-0.5, -0.5, 1.5, 1.5)
"""An action: twice as high and wide about the same middle. The paper says "zooming out" and no number."""


class Predictions(NamedTuple):
    rewards: Float[Array, " c"]
    """p(l | x) among the candidates; SigLIP's are each for itself."""
    values: Float[Array, " c"] | None
    """Q(x, zoom out, l); None for what is not AB."""


@partial(jax.jit, static_argnums=0)
def predictions(
    method: Method,
    model: Any,
    carry: Any,
    view: UInt8[AnyArray, "h w 3"],
    annotated: Any,
    chosen: Int[AnyArray, " c"],
    action: Float[AnyArray, "4"] = np.array(ZOOM_OUT, np.float32),
) -> Predictions:
    """Of the candidates `chosen` among the annotations of the reward batch `annotated`.

    Rewards that are a distribution are made one over the candidates alone, as if there were no other annotation.

    Raises: ValueError for a method without rewards.
    """
    base = rewarding(method, model, carry)
    encoded = base.method.encode_target(base.model, base.method.prepare(annotated, None))
    tokens = model.backbone(jnp.asarray(view))[None, None]  # one image, one view
    rewards = base.method.reward(base.model, base.carry, tokens, encoded)[0, 0]
    rewards = rewards[chosen]
    if not isinstance(base.method, SigLIP):
        rewards = rewards / rewards.sum().clip(1e-30)
    if not isinstance(method, AB):
        return Predictions(rewards, None)
    whole = jnp.array([0.0, 0.0, 1.0, 1.0])
    taken = jnp.asarray(action) if method.actions else whole  # without actions it was trained on this one alone
    phi = model.value.phi(tokens, taken[None, None, None])
    psi = base.method.annotations(model.value.annotation_head, encoded)
    return Predictions(rewards, jax.nn.sigmoid(model.value.logits(phi, psi))[0, 0, 0][chosen])
