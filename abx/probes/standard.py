"""Features brought to mean 0 and standard deviation 1, for one learning rate to serve every network."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from abx.types import AnyArray

ALIKE = 1e-6
"""A number whose deviation is no more than this share of the others' mean deviation, or of its own size, is the same
everywhere up to rounding."""


class Standard(eqx.Module):
    """What is taken off each number of a feature, and what it is then divided by. Never trained.

    Features of an untrained and of a trained network differ in scale by much; so do the numbers of one feature.
    """

    mean: Float[Array, " d"]
    deviation: Float[Array, " d"]

    def __init__(self, features: Float[AnyArray, "m t d"] | Float[AnyArray, "m d"]):
        """`features`: as many as one can afford, of the training data; all tokens of all pictures count alike."""
        x = jnp.asarray(features).astype(jnp.float32)
        x = x.reshape(-1, x.shape[-1])
        # By a power of two, which changes no digit: squares of 1e20 would be no float32 any more, and those of 1e-25 0.
        scale = power_of_two(jnp.abs(x).max())
        x = x / scale
        mean, deviation = x.mean(0), x.std(0)
        # A number that is the same everywhere tells nothing; divided by almost 0 it would drown what does.
        alike = deviation <= ALIKE * jnp.maximum(deviation.mean(), jnp.abs(x).max(0))
        self.mean, self.deviation = mean * scale, jnp.where(alike, 1.0, deviation) * scale

    def __call__(self, x: Float[AnyArray, "*s d"]) -> Float[Array, "*s d"]:
        """In float32, whatever the features were kept in."""
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        return (jnp.asarray(x).astype(jnp.float32) - mean) / deviation


def power_of_two(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The largest that is no more than x; 1 for 0."""
    _, exponent = jnp.frexp(x)
    return jnp.where(x > 0, jnp.ldexp(jnp.ones_like(x), exponent - 1), 1.0)
