"""Multi-head attention of queries over a memory, for one sequence: written out, or by a kernel that fuses it."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Attention = Literal["plain", "fused"]
"""How to compute it. plain: as matmuls and a softmax, which XLA compiles anywhere. fused: by cuDNN's kernel, which
never holds the table of weights, on a GPU and for what `fits` it; as plain for the rest."""
Mask = Bool[Array, " m"] | Bool[Array, "q m"]
"""True = may be looked at: by every query, or by query q."""


def attend(
    q: Float[Array, "q d"],
    k: Float[Array, "m d"],
    v: Float[Array, "m d"],
    heads: int,
    mask: Mask | None = None,
    *,
    attention: Attention = "plain",
) -> Float[Array, "q d"]:
    """Multi-head softmax attention of queries over a memory; the softmax is float32 whatever the inputs.

    What the mask hides has no weight, however large; a query that may look at nothing reads zeros.
    """
    qh, kh, vh = (y.reshape(y.shape[0], heads, -1) for y in (q, k, v))
    if attention == "fused" and mask is None and fits(qh, kh):
        return jax.nn.dot_product_attention(qh, kh, vh, implementation="cudnn").reshape(q.shape)
    # Not jax.nn.dot_product_attention: its gradient promotes bfloat16 in silence, which strict promotion refuses.
    scores = jnp.einsum("qhc,mhc->hqm", qh, kh, preferred_element_type=jnp.float32) * qh.shape[-1] ** -0.5
    if mask is None:
        weights = jax.nn.softmax(scores)
    else:
        # The lowest finite number and not minus infinity, of which a row without anything else makes NaN.
        weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min)), 0)
    return jnp.einsum("hqm,mhc->qhc", weights.astype(v.dtype), vh).reshape(q.shape)


def fits(q: Float[Array, "q h c"], k: Float[Array, "m h c"]) -> bool:
    """Whether cuDNN's kernel takes these: 16 bits, a head of a multiple of 8 and 128 at most, and, as it must be
    differentiated, sequences of even length: 196 patches, but not 196 and a [CLS]."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    even = q.shape[0] % 2 == k.shape[0] % 2 == 0
    return jax.default_backend() == "gpu" and half and even and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
