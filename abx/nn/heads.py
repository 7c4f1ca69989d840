"""What sits on top of a tower: pooling, projection, unit vectors."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx.nn.layers import MLP, Gelu, LayerNorm, Linear, attend, xavier


class AttentionPool(eqx.Module):
    """Multi-head attention pooling (MAP): one learned query reads the tokens, then x + MLP(LN x) (big_vision)."""

    latent: Float[Array, "1 d"]
    q: Linear
    kv: Linear
    proj: Linear
    norm: LayerNorm
    mlp: MLP
    heads: int = eqx.field(static=True)

    def __init__(self, d: int, heads: int, hidden: int, *, gelu: Gelu = "tanh", key: PRNGKeyArray):
        kl, kq, kk, kv, kp, km = jax.random.split(key, 6)
        self.latent = xavier(kl, (1, d), jnp.float32)
        self.q = Linear(d, d, key=kq)
        both = lambda _, shape, dtype: jnp.concatenate([xavier(k, (d, d), dtype) for k in (kk, kv)], 1)
        self.kv = Linear(d, 2 * d, init=both, key=kk)
        self.proj = Linear(d, d, key=kp)
        self.norm, self.mlp, self.heads = LayerNorm(d), MLP(d, hidden, gelu=gelu, key=km), heads

    def __call__(self, tokens: Float[Array, "t d"]) -> Float[Array, " d"]:
        k, v = jnp.split(self.kv(tokens), 2, axis=-1)
        x = self.proj(attend(self.q(self.latent.astype(tokens.dtype)), k, v, self.heads))
        return (x + self.mlp(self.norm(x)))[0]


class Projector(eqx.Module):
    """SimCLR's projection head: linear - norm - GELU, twice, then a linear without bias (SLIP's sizes for a ViT).

    LayerNorm where SimCLR has BatchNorm: the head meets annotation views and bootstrap views in different batches, and
    batch statistics would change what a cosine between the two means (METHODS §1.3).
    """

    fc1: Linear
    norm1: LayerNorm
    fc2: Linear
    norm2: LayerNorm
    fc3: Linear

    def __init__(self, d: int, hidden: int, e: int, *, key: PRNGKeyArray):
        k1, k2, k3 = jax.random.split(key, 3)
        self.fc1, self.norm1 = Linear(d, hidden, key=k1), LayerNorm(hidden)
        self.fc2, self.norm2 = Linear(hidden, hidden, key=k2), LayerNorm(hidden)
        self.fc3 = Linear(hidden, e, bias=False, key=k3)

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s e"]:
        x = jax.nn.gelu(self.norm1(self.fc1(x)))
        x = jax.nn.gelu(self.norm2(self.fc2(x)))
        return self.fc3(x)


def unit(x: Float[Array, "*s e"]) -> Float[Array, "*s e"]:
    """x / |x| in float32. Finite, with a finite gradient, at zero too, where x / (|x| + eps) has none."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-12)
