"""An autoregressive decoder: the next token of a sequence, from the earlier ones and the tokens of a view.

The decoder probe's network (METHODS §5.2; after big_vision's cappa decoder).
"""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx.nn.attention import attend
from abx.nn.layers import MLP, Dtype, LayerNorm, Linear, SelfAttention, compute_dtype, xavier
from abx.types import AnyArray


@dataclass(frozen=True)
class AnswerConfig:
    """Sizes of the decoder. Four layers are the paper's; the rest is our choice."""

    width: int = 384
    """Width of a token."""
    depth: int = 4
    """Number of layers."""
    heads: int = 6
    """Attention heads; must divide the width."""
    mlp: int = 1536
    """Hidden width of each layer's MLP."""
    dropout: float = 0.1
    """Share of the numbers that each branch of a layer adds that is left out while training."""
    dtype: Dtype = "auto"
    """Dtype of the activations; auto is bfloat16 on an accelerator, float32 on a CPU."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("width", "depth", "heads", "mlp"):
            if getattr(self, name) < 1:
                found.append(f"decoder.{name} must be at least 1, not {getattr(self, name)}")
        if not found and self.width % self.heads:
            found.append(f"decoder.heads must divide the width, {self.width}, which {self.heads} does not")
        if not 0 <= self.dropout < 1:
            found.append(f"decoder.dropout must be in [0, 1), not {self.dropout}")
        return found


class KeysValues(NamedTuple):
    """What an attention reads: of one layer, or with a leading axis of all layers."""

    k: Float[Array, "*depth m d"]
    v: Float[Array, "*depth m d"]


class AnswerLayer(eqx.Module):
    """Self-attention to the earlier tokens, cross-attention to the view, MLP; pre-norm, attention without biases."""

    norm1: LayerNorm
    attn: SelfAttention
    norm2: LayerNorm
    q: Linear
    kv: Linear
    proj: Linear
    norm3: LayerNorm
    mlp: MLP
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(self, config: AnswerConfig, memory: int, *, key: PRNGKeyArray):
        ks, kq, kk, kv, kp, km = jax.random.split(key, 6)
        d = config.width
        self.norm1, self.norm2, self.norm3 = LayerNorm(d), LayerNorm(d), LayerNorm(d)
        self.attn = SelfAttention(d, config.heads, bias=False, key=ks)
        self.q = Linear(d, d, bias=False, key=kq)
        # Xavier for two c x d matrices, not for one c x 2d.
        both = lambda _, shape, dtype: jnp.concatenate([xavier(k, (memory, d), dtype) for k in (kk, kv)], 1)
        self.kv = Linear(memory, 2 * d, bias=False, init=both, key=kk)
        self.proj = Linear(d, d, bias=False, key=kp)
        self.mlp = MLP(d, config.mlp, key=km)
        self.heads, self.dropout = config.heads, config.dropout

    def __call__(
        self,
        x: Float[Array, "q d"],
        past: KeysValues,
        memory: KeysValues,
        at: int | Int[Array, ""],
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "q d"], KeysValues]:
        """q tokens from position `at` on, and the past with them in it.

        Args:
            past: keys and values of this layer's tokens; from position `at` on it is overwritten or not looked at.
            memory: keys and values of the view.
            key: for dropout; without one nothing is left out.
        """
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        q, k, v = jnp.split(self.attn.qkv(self.norm1(x)), 3, axis=-1)
        put = jax.lax.dynamic_update_slice_in_dim
        past = KeysValues(put(past.k, k, at, axis=0), put(past.v, v, at, axis=0))
        earlier = jnp.arange(len(past.k)) <= at + jnp.arange(len(x))[:, None]
        x = x + self._drop(self.attn.proj(attend(q, past.k, past.v, self.heads, earlier)), keys[0])
        read = attend(self.q(self.norm2(x)), memory.k, memory.v, self.heads)
        x = x + self._drop(self.proj(read), keys[1])
        return x + self._drop(self.mlp(self.norm3(x)), keys[2]), past

    def _drop(self, x: Float[Array, "q d"], key: PRNGKeyArray | None) -> Float[Array, "q d"]:
        if key is None or not self.dropout:
            return x
        kept = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
        # Divided in float32: in bfloat16 the factor 1 / 0.9 itself is 0.2 % off.
        return jnp.where(kept, x.astype(jnp.float32) / (1 - self.dropout), 0).astype(x.dtype)


class AnswerDecoder(eqx.Module):
    """Tokens of a view and of a sequence, to what comes next in the sequence.

    Training runs over a whole sequence at once and writing token by token; both are `__call__`, which adds tokens to a
    past.
    """

    table: Float[Array, "v d"]
    pos_embed: Float[Array, "s d"]
    layers: AnswerLayer
    """Stacked: its arrays have a leading axis of layers."""
    norm: LayerNorm
    out: Linear
    config: AnswerConfig = eqx.field(static=True)

    def __init__(self, config: AnswerConfig, memory: int, vocab: int, length: int, *, key: PRNGKeyArray):
        """
        Args:
            memory: width of the view's tokens, which need not be the decoder's.
            vocab: v, the number of different tokens; 0 is also what stands before the first.
            length: s, positions, and so the longest sequence.
        """
        if found := config.problems():
            raise ValueError("; ".join(found))
        d = config.width
        kt, kp, kl, ko = jax.random.split(key, 4)
        self.table = jax.random.normal(kt, (vocab, d)) * d**-0.5
        self.pos_embed = jax.random.normal(kp, (length, d)) * d**-0.5
        make = lambda key: AnswerLayer(config, memory, key=key)
        self.layers = jax.vmap(make)(jax.random.split(kl, config.depth))
        self.norm = LayerNorm(d)
        self.out = Linear(d, vocab, key=ko)
        self.config = config

    def memory(self, tokens: Float[Array, "t c"]) -> KeysValues:
        """A view's tokens as every layer reads them: projected once, however many tokens are written."""
        x = tokens.astype(compute_dtype(self.config.dtype))
        both = jax.vmap(lambda layer: layer.kv(x))(self.layers)
        return KeysValues(*jnp.split(both, 2, axis=-1))

    def past(self, length: int) -> KeysValues:
        """Room for so many tokens."""
        shape = (self.config.depth, length, self.config.width)
        nothing = jnp.zeros(shape, compute_dtype(self.config.dtype))
        return KeysValues(nothing, nothing)

    def __call__(
        self,
        ids: Int[Array, " q"],
        past: KeysValues,
        memory: KeysValues,
        at: int | Int[Array, ""],
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "q v"], KeysValues]:
        """Logits (float32) of what follows each of these q tokens, the first of which is number `at`, and the past with
        them in it. `key`: for dropout."""
        here = jax.lax.dynamic_slice_in_dim(self.pos_embed, at, len(ids), axis=0)
        x = (self.table[ids] + here).astype(compute_dtype(self.config.dtype))
        keys = None if key is None else jax.random.split(key, self.config.depth)

        def body(x: Array, own: tuple[AnswerLayer, KeysValues, KeysValues, Array | None]) -> tuple[Array, KeysValues]:
            layer, past, memory, key = own
            return layer(x, past, memory, at, key)

        x, past = jax.lax.scan(body, x, (self.layers, past, memory, keys))
        # The last products in float32: probabilities of bfloat16 logits are a few per cent off.
        return self.out(self.norm(x).astype(jnp.float32)), past

    def teach(
        self, tokens: Float[Array, "t c"], sequence: Int[AnyArray, " s"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "s v"]:
        """Logits of each token of a sequence, given the view and the tokens before it (teacher forcing)."""
        before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.asarray(sequence, jnp.int32)[:-1]])
        return self(before, self.past(len(before)), self.memory(tokens), 0, key=key)[0]
