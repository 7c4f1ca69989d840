"""The head of the value function: what an action from a view is expected to show, and what annotations fit that."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from abx.methods.batches import over
from abx.nn import ActionDecoder, unit
from abx.nn.layers import Linear


class ValueHead(eqx.Module):
    """Q(x, a, l) = sigmoid(exp(log_scale) phi(x, a) . psi(l) + bias): equation 4."""

    decoder: ActionDecoder
    head: Linear
    annotation_head: eqx.Module
    log_scale: Float[Array, ""]
    bias: Float[Array, ""]

    def phi(self, tokens: Float[Array, "b n t d"], actions: Float[Array, "b n a 4"]) -> Float[Array, "b n a e"]:
        """Unit embeddings of what each action is expected to show."""
        return unit(self.head(over(self.decoder, 2, self.decoder.config.chunk)(tokens, actions)))

    def logits(self, phi: Float[Array, "b n a e"], psi: Float[Array, "l e"]) -> Float[Array, "b n a l"]:
        return self.scale * (phi @ psi.T) + self.bias

    @property
    def scale(self) -> Float[Array, ""]:
        return jnp.exp(self.log_scale)


def bias_for_unit_sum(logits: Float[Array, "b i j l"]) -> Float[Array, ""]:
    """The b for which the mean over pairs of sum_l sigmoid(logits + b) is 1, by bisection."""

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = jax.nn.sigmoid(logits + middle).sum(-1).mean() > 1
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, 60, halve, (jnp.float32(-100), jnp.float32(100)))
    return (low + high) / 2
