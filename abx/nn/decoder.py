"""phi(x, a): what would be seen after action a, read off the tokens of view x (paper §3.3; METHODS §2.7)."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx import boxes
from abx.nn.attention import attend
from abx.nn.layers import MLP, LayerNorm, Linear, Remat, SelfAttention, Stack, xavier


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the action decoder, which is thrown away after training; in the paper 384 wide and four layers deep
    whatever the backbone."""

    width: int = 384
    """Width of an action token."""
    depth: int = 4
    """Number of layers."""
    heads: int = 6
    """Attention heads; must divide the width."""
    mlp: int = 1536
    """Hidden width of each layer's MLP."""
    bins: int = 512
    """Tokens that a box coordinate is discretised into. The paper gives no number; 512 is our choice."""
    low: float = -4.0
    """Lowest box coordinate with its own bin, in sides of the view one stands in; lower ones are cut. Our choice."""
    high: float = 5.0
    """Highest such coordinate. Our choice."""
    remat: Remat = "auto"
    """What to keep for the backward pass, as for the backbone."""
    chunk: int = 0
    """Views at a time, whose actions are decoded, on each device, as for the backbone; 0 = all."""
    unroll: bool = False
    """Unroll the scan over layers, to count FLOPs."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("width", "depth", "heads", "mlp", "bins"):
            if getattr(self, name) < 1:
                found.append(f"decoder.{name} must be at least 1, not {getattr(self, name)}")
        if not found and self.width % self.heads:
            found.append(f"decoder.heads must divide the width, {self.width}, which {self.heads} does not")
        if self.chunk < 0:
            found.append(f"decoder.chunk must be at least 0, not {self.chunk}")
        if not self.low < self.high:
            found.append(f"decoder.low must be below the highest coordinate, {self.high}, not {self.low}")
        return found


class DecoderLayer(eqx.Module):
    """Self-attention among the four tokens of an action, cross-attention to the view, MLP; all pre-norm.

    Attention has no biases and the memory is not normalised again (big_vision's cappa decoder).
    """

    norm1: LayerNorm
    attn: SelfAttention
    norm2: LayerNorm
    q: Linear
    kv: Linear
    proj: Linear
    norm3: LayerNorm
    mlp: MLP
    heads: int = eqx.field(static=True)

    def __init__(self, d: int, memory: int, heads: int, hidden: int, *, key: PRNGKeyArray):
        ks, kq, kk, kp, km = jax.random.split(key, 5)
        self.norm1, self.norm2, self.norm3 = LayerNorm(d), LayerNorm(d), LayerNorm(d)
        self.attn = SelfAttention(d, heads, bias=False, key=ks)
        self.q = Linear(d, d, bias=False, key=kq)
        # Xavier for two c x d matrices, not for one c x 2d.
        both = lambda key, shape, dtype: jnp.concatenate(
            [xavier(k, (memory, d), dtype) for k in jax.random.split(key)], 1
        )
        self.kv = Linear(memory, 2 * d, bias=False, init=both, key=kk)
        self.proj = Linear(d, d, bias=False, key=kp)
        self.mlp = MLP(d, hidden, key=km)
        self.heads = heads

    def __call__(self, x: Float[Array, "a 4 d"], tokens: Float[Array, "t c"]) -> Float[Array, "a 4 d"]:
        # With the action axis as a batch axis self-attention is block-diagonal: actions never see each other.
        x = x + jax.vmap(self.attn)(self.norm1(x))
        # For the cross-attention all actions are one sequence of queries, so keys and values are projected once.
        k, v = jnp.split(self.kv(tokens), 2, axis=-1)
        q = self.q(self.norm2(x)).reshape(-1, x.shape[-1])
        x = x + self.proj(attend(q, k, v, self.heads)).reshape(x.shape)
        return x + self.mlp(self.norm3(x))


class ActionDecoder(eqx.Module):
    """Tokens of one view and the actions that leave it, to one feature per action."""

    table: Float[Array, "bins d"]
    slots: Float[Array, "4 d"]
    layers: Stack[DecoderLayer]
    norm: LayerNorm
    config: DecoderConfig = eqx.field(static=True)

    def __init__(self, config: DecoderConfig, memory: int, *, key: PRNGKeyArray):
        """`memory`: width of the view's tokens, which need not be the decoder's."""
        if found := config.problems():
            raise ValueError("; ".join(found))
        c, d = config, config.width
        kt, ks, kl = jax.random.split(key, 3)
        # One table for the four coordinates, told apart by their slot; N(0, 1/d) keeps the residual stream at scale.
        self.table = jax.random.normal(kt, (c.bins, d)) * d**-0.5
        self.slots = jax.random.normal(ks, (4, d)) * d**-0.5
        make = lambda key: DecoderLayer(d, memory, c.heads, c.mlp, key=key)
        self.layers = Stack(make, c.depth, remat=c.remat, unroll=c.unroll, key=kl)
        self.norm = LayerNorm(d)
        self.config = config

    def __call__(self, tokens: Float[Array, "t c"], actions: Float[Array, "a 4"]) -> Float[Array, "a d"]:
        """One feature per action: the mean of its four tokens after the final norm (A-9).

        Args:
            tokens: the ViT's output for the view that the actions leave.
            actions: target boxes in the frame of that view, (0, 0, 1, 1) being the view itself. Any number; the answer
                for one does not depend on the others.
        """
        ids = boxes.quantize(actions, self.config.bins, self.config.low, self.config.high)
        x = (self.table[ids] + self.slots).astype(tokens.dtype)
        x = self.norm(self.layers(x, tokens))
        return x.astype(jnp.float32).mean(1).astype(tokens.dtype)
