"""A text transformer of the ViT's kind (big_vision's; METHODS §4.3): the tokens of one text in, its features out."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx.nn.layers import Block, Dtype, Gelu, LayerNorm, Remat, Stack, compute_dtype
from abx.types import AnyArray


@dataclass(frozen=True)
class TextConfig:
    """Sizes and choices of the text tower; the default is the one beside a ViT-S."""

    vocab: int = 32_000
    """Number of tokens in the tokenizer's vocabulary."""
    length: int = 64
    """Positions, and so the longest text in tokens. The paper gives none; 64 is our choice (A-28)."""
    width: int = 384
    """Width of a token."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 6
    """Attention heads; must divide the width."""
    mlp: int = 1536
    """Hidden width of each block's MLP."""
    pool: Literal["last", "gap"] = "last"
    """From tokens to features: the last token, which is an end token however short the text, or the average of all."""
    causal: bool = False
    """Let a token see the earlier ones only, as CLIP's text tower does; the paper's sees all."""
    gelu: Gelu = "tanh"
    """GELU's tanh approximation or the exact one."""
    remat: Remat = "auto"
    """What to keep for the backward pass, as for the backbone."""
    chunk: int = 0
    """Texts at a time on each device, as views for the backbone; 0 = all."""
    dtype: Dtype = "auto"
    """Dtype of the activations, as for the backbone."""
    unroll: bool = False
    """Unroll the scan over blocks, to count FLOPs."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("vocab", "length", "width", "depth", "heads", "mlp"):
            if getattr(self, name) < 1:
                found.append(f"text.{name} must be at least 1, not {getattr(self, name)}")
        if self.chunk < 0:
            found.append(f"text.chunk must be at least 0, not {self.chunk}")
        if not found and self.width % self.heads:
            found.append(f"text.heads must divide the width, {self.width}, which {self.heads} does not")
        return found


class TextEncoder(eqx.Module):
    """Tokens of one text to its features."""

    table: Float[Array, "vocab d"]
    pos_embed: Float[Array, "length d"]
    blocks: Stack[Block]
    norm: LayerNorm
    config: TextConfig = eqx.field(static=True)

    def __init__(self, config: TextConfig, *, key: PRNGKeyArray):
        if found := config.problems():
            raise ValueError("; ".join(found))
        c, d = config, config.width
        kt, kp, kb = jax.random.split(key, 3)
        self.table = jax.random.normal(kt, (c.vocab, d)) * d**-0.5
        self.pos_embed = jax.random.normal(kp, (c.length, d)) * d**-0.5
        make = lambda key: Block(d, c.heads, c.mlp, gelu=c.gelu, key=key)
        self.blocks = Stack(make, c.depth, remat=c.remat, unroll=c.unroll, key=kb)
        self.norm = LayerNorm(d)
        self.config = config

    def __call__(self, text: Int[AnyArray, " t"]) -> Float[Array, " d"]:
        """Pooled features, after the final norm.

        Args:
            text: tokens in [0, vocab), up to `length` of them. End tokens fill up what is short: they are seen like any
                other, for what comes last to be the end wherever the words stop.

        Raises: ValueError, when traced, for a longer text.
        """
        tokens = self.encode(text)
        if self.config.pool == "last":
            return tokens[-1]
        return tokens.astype(jnp.float32).mean(0).astype(tokens.dtype)

    def encode(self, text: Int[AnyArray, " t"]) -> Float[Array, "t d"]:
        """Every token after the final norm."""
        t = len(text)
        if t > self.config.length:
            raise ValueError(f"the text has {t} tokens, and the text tower positions for {self.config.length}")
        x = (self.table[text] + self.pos_embed[:t]).astype(compute_dtype(self.config.dtype))
        earlier = jnp.tril(jnp.ones((t, t), bool)) if self.config.causal else None
        return self.norm(self.blocks(x, earlier))
