"""Layers for one sequence. Batches are added by `jax.vmap` at the caller, never inside.

Numerics live here: parameters stay float32, a matmul happens in the dtype of its input, normalisation and softmax
happen in float32. Modules hold arrays and nothing else (the rest is static), so plain `jax.jit`, `jax.grad`, optax and
Orbax take them as they are.
"""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx.nn.attention import Attention, Mask, attend

Remat = Literal["auto", "none", "dots", "full"]
Gelu = Literal["tanh", "exact"]
Dtype = Literal["auto", "float32", "bfloat16"]
xavier = jax.nn.initializers.xavier_uniform()
lecun = jax.nn.initializers.lecun_normal()
normal02 = jax.nn.initializers.normal(0.02)


def compute_dtype(name: Dtype) -> jnp.dtype:
    """Dtype of a tower's activations; "auto" is bfloat16 on an accelerator and float32 on a CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


class Linear(eqx.Module):
    """y = x W + b, in the dtype of x."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"] | None

    def __init__(self, i: int, o: int, *, bias: bool = True, init: Callable[..., Array] = xavier, key: PRNGKeyArray):
        self.weight = init(key, (i, o), jnp.float32)
        self.bias = jnp.zeros(o) if bias else None

    def __call__(self, x: Float[Array, "*s i"]) -> Float[Array, "*s o"]:
        y = x @ self.weight.astype(x.dtype)
        # Added in float32, so that the bias's gradient, a sum over every token of the batch, is made in float32 too.
        return y if self.bias is None else (y.astype(jnp.float32) + self.bias).astype(x.dtype)


class LayerNorm(eqx.Module):
    """Layer normalisation over the last axis with epsilon 1e-6 (big_vision's and timm's ViT), in float32."""

    scale: Float[Array, " d"]
    bias: Float[Array, " d"]

    def __init__(self, d: int):
        self.scale, self.bias = jnp.ones(d), jnp.zeros(d)

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s d"]:
        z = x.astype(jnp.float32)
        z = z - z.mean(-1, keepdims=True)
        z = z * jax.lax.rsqrt(jnp.mean(jnp.square(z), -1, keepdims=True) + 1e-6)
        return (z * self.scale + self.bias).astype(x.dtype)


class MLP(eqx.Module):
    fc1: Linear
    fc2: Linear
    gelu: Gelu = eqx.field(static=True)

    def __init__(self, d: int, hidden: int, *, gelu: Gelu = "tanh", key: PRNGKeyArray):
        k1, k2 = jax.random.split(key)
        self.fc1, self.fc2, self.gelu = Linear(d, hidden, key=k1), Linear(hidden, d, key=k2), gelu

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s d"]:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=self.gelu == "tanh"))


class SelfAttention(eqx.Module):
    """Tokens attend to each other, all or those of the mask. One matmul makes queries, keys and values, in this order
    (timm's `qkv`)."""

    qkv: Linear
    proj: Linear
    heads: int = eqx.field(static=True)
    attention: Attention = eqx.field(static=True)

    def __init__(self, d: int, heads: int, *, bias: bool = True, attention: Attention = "plain", key: PRNGKeyArray):
        k1, k2 = jax.random.split(key)
        # Xavier for three d x d matrices, not for one d x 3d.
        split = lambda key: jax.random.split(key, 3)
        three = lambda key, shape, dtype: jnp.concatenate([xavier(k, (d, d), dtype) for k in split(key)], 1)
        self.qkv = Linear(d, 3 * d, bias=bias, init=three, key=k1)
        self.proj = Linear(d, d, bias=bias, key=k2)
        self.heads, self.attention = heads, attention

    def __call__(self, x: Float[Array, "t d"], mask: Mask | None = None) -> Float[Array, "t d"]:
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        return self.proj(attend(q, k, v, self.heads, mask, attention=self.attention))


class Block(eqx.Module):
    """Pre-norm transformer block (Dosovitskiy et al. 2021)."""

    norm1: LayerNorm
    attn: SelfAttention
    norm2: LayerNorm
    mlp: MLP

    def __init__(
        self,
        d: int,
        heads: int,
        hidden: int,
        *,
        gelu: Gelu = "tanh",
        attention: Attention = "plain",
        key: PRNGKeyArray,
    ):
        k1, k2 = jax.random.split(key)
        self.norm1, self.norm2 = LayerNorm(d), LayerNorm(d)
        self.attn = SelfAttention(d, heads, attention=attention, key=k1)
        self.mlp = MLP(d, hidden, gelu=gelu, key=k2)

    def __call__(
        self, x: Float[Array, "t d"], mask: Mask | None = None, keep: Float[Array, "2"] | None = None
    ) -> Float[Array, "t d"]:
        """`keep`: factors of the two branches, attention and MLP, from `drop_path`."""
        attended = self.attn(self.norm1(x), mask)
        x = x + (attended if keep is None else _times(keep[0], attended))
        changed = self.mlp(self.norm2(x))
        return x + (changed if keep is None else _times(keep[1], changed))


def drop_path(key: PRNGKeyArray, depth: int, rate: float) -> Float[Array, "depth 2"]:
    """Factors for the branches of a stack of blocks: stochastic depth (Huang et al. 2016) for one example.

    A branch is left out (0) with a probability that rises linearly from 0 at the first block to `rate` at the last, or
    else divided by the probability that it is kept: what it adds is the same on average.
    """
    kept = 1 - jnp.linspace(0, rate, depth)[:, None]
    return jax.random.bernoulli(key, kept, (depth, 2)).astype(jnp.float32) / kept


def _times(factor: Float[Array, ""], x: Float[Array, "t d"]) -> Float[Array, "t d"]:
    # In float32: in bfloat16 the factor 1 / 0.9 itself is 0.2 % off.
    return (factor * x.astype(jnp.float32)).astype(x.dtype)


Layer = TypeVar("Layer", bound=eqx.Module)


class Stack(eqx.Module, Generic[Layer]):
    """`depth` layers of one kind, stored as one layer whose arrays have a leading depth axis, run by `lax.scan`.

    Compiles the layer once instead of `depth` times. `remat` says what the backward pass keeps of a layer: "none"
    everything, "dots" the matmuls, "full" nothing but the layer's input. "auto" is "full" on a CPU, where to compute
    again is quicker than to fetch from memory (1.2 to 1.7 times for small ViTs), and "none" on accelerators.
    """

    layers: Layer
    depth: int = eqx.field(static=True)
    remat: Remat = eqx.field(static=True)
    unroll: bool = eqx.field(static=True)

    def __init__(
        self,
        make: Callable[[PRNGKeyArray], Layer],
        depth: int,
        *,
        remat: Remat = "auto",
        unroll: bool = False,
        key: PRNGKeyArray,
    ):
        self.layers = jax.vmap(make)(jax.random.split(key, depth))
        self.depth, self.remat, self.unroll = depth, remat, unroll

    def __call__(
        self,
        x: Float[Array, "*s d"],
        shared: Float[Array, "m c"] | Mask | None = None,
        keep: Float[Array, "depth 2"] | None = None,
    ) -> Float[Array, "*s d"]:
        """`shared`: what every layer takes beside x: the memory of a decoder's layers, the mask of blocks, or nothing.
        `keep`: what each layer has of its own, from `drop_path`."""

        def body(x: Array, own: tuple[Any, Array | None]) -> tuple[Array, None]:
            layer, keep = own
            return (layer(x, shared) if keep is None else layer(x, shared, keep)), None

        remat = self.remat
        if remat == "auto":
            remat = "full" if jax.default_backend() == "cpu" else "none"
        if remat != "none":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
            body = jax.checkpoint(body, policy=policy, prevent_cse=False)
        return jax.lax.scan(body, x, (self.layers, keep), unroll=self.depth if self.unroll else 1)[0]
