"""Features brought to mean 0 and standard deviation 1, for one learning rate to serve every network."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from abx.types import AnyArray


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
        self.mean, deviation = x.mean(0), x.std(0)
        # A number that is the same everywhere tells nothing; divided by almost 0 it would drown what does.
        self.deviation = jnp.where(deviation > 1e-6, deviation, 1.0)

    def __call__(self, x: Float[AnyArray, "*s d"]) -> Float[Array, "*s d"]:
        """In float32, whatever the features were kept in."""
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        return (jnp.asarray(x).astype(jnp.float32) - mean) / deviation
