"""What sits on top of a tower: pooling, projection, unit vectors, prototypes, a scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx.nn.attention import attend
from abx.nn.layers import MLP, Gelu, LayerNorm, Linear, normal02, xavier


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


class DINOHead(eqx.Module):
    """DINO's projection head (Caron et al. 2021; METHODS §1.4): three linears with GELU between and no norm layers,
    then a unit vector, which `Prototypes` are compared with."""

    fc1: Linear
    fc2: Linear
    fc3: Linear
    gelu: Gelu = eqx.field(static=True)

    def __init__(self, d: int, hidden: int = 2048, bottleneck: int = 256, *, gelu: Gelu = "exact", key: PRNGKeyArray):
        k1, k2, k3 = jax.random.split(key, 3)
        # DINO calls it truncated, at bounds a hundred deviations away.
        self.fc1 = Linear(d, hidden, init=normal02, key=k1)
        self.fc2 = Linear(hidden, hidden, init=normal02, key=k2)
        self.fc3 = Linear(hidden, bottleneck, init=normal02, key=k3)
        self.gelu = gelu

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s e"]:
        """Unit vectors in float32."""
        x = jax.nn.gelu(self.fc1(x), approximate=self.gelu == "tanh")
        x = jax.nn.gelu(self.fc2(x), approximate=self.gelu == "tanh")
        return unit(self.fc3(x))


class Prototypes(eqx.Module):
    """k unit vectors: DINO's last layer, a weight-normalised linear; alone, the annotation vectors of annotation
    bootstrapping over DINO (METHODS §2.5).

    The length of the weights is free and without effect, except that shorter ones turn faster; it begins near
    0.02 sqrt(e). What they are worth is the gain's business, if there is one.
    """

    linear: Linear
    gain: Float[Array, " k"] | None
    """Learned factor of each prototype's products, 1 at first. None = 1 for good, DINO's `norm_last_layer`."""

    def __init__(self, e: int, k: int, *, gain: bool = False, key: PRNGKeyArray):
        self.linear = Linear(e, k, bias=False, init=normal02, key=key)
        self.gain = jnp.ones(k) if gain else None

    def __call__(self, x: Float[Array, "*s e"]) -> Float[Array, "*s k"]:
        """Products with every prototype, in float32: cosines, if x are unit vectors and there is no gain."""
        products = x.astype(jnp.float32) @ self.vectors().T
        return products if self.gain is None else products * self.gain

    def vectors(self) -> Float[Array, "k e"]:
        """The prototypes as unit rows."""
        return unit(self.linear.weight.T)


class Scale(eqx.Module):
    """A learned factor in [1, highest], kept as its logarithm: CLIP's.

    Who trains it bounds it after each step (`abx.optim.AdamW` does): bounded here, at the bound it would have no
    gradient to come back by.
    """

    log: Float[Array, ""]
    highest: float = eqx.field(static=True)

    def __init__(self, start: float, *, highest: float = 100.0):
        self.log, self.highest = jnp.log(jnp.float32(start)), highest

    def __call__(self) -> Float[Array, ""]:
        return jnp.exp(self.log)


def unit(x: Float[Array, "*s e"]) -> Float[Array, "*s e"]:
    """x / |x| in float32. Finite, with a finite gradient, at zero too, where x / (|x| + eps) has none."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-12)
