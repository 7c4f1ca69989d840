"""The target network: an exponential moving average of the online one."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

Model = TypeVar("Model")


def update(target: Model, online: Model, tau: float | int | Float[Array, ""]) -> Model:
    """A step of size tau from target to online: (1 - tau) target + tau online, on every inexact array.

    tau is the *step* (0.004 in the paper), one minus what others call momentum; 0 leaves the target, 1 copies. Keep
    both trees in float32: in bfloat16 a step of 0.004 rounds to nothing.
    """
    return jax.tree.map(
        lambda t, o: (1 - tau) * t + tau * o if eqx.is_inexact_array(t) else o,
        target,
        online,
    )
