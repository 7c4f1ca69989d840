"""MAE's decoder (He et al. 2022; METHODS §1.5): from the tokens of the patches that were kept, the pixels of all."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx.nn.layers import Block, Gelu, LayerNorm, Linear, Remat, Stack
from abx.nn.vit import sincos


@dataclass(frozen=True)
class PixelDecoderConfig:
    """Sizes of MAE's decoder, which is thrown away after training; the default is He et al.'s whatever the backbone."""

    width: int = 512
    """Width of a token."""
    depth: int = 8
    """Number of blocks."""
    heads: int = 16
    """Attention heads; must divide the width."""
    mlp: int = 2048
    """Hidden width of each block's MLP."""
    gelu: Gelu = "tanh"
    """GELU's tanh approximation or the exact one."""
    remat: Remat = "auto"
    """What to keep for the backward pass, as for the backbone."""
    unroll: bool = False
    """Unroll the scan over blocks, to count FLOPs."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("width", "depth", "heads", "mlp"):
            if getattr(self, name) < 1:
                found.append(f"decoder.{name} must be at least 1, not {getattr(self, name)}")
        if found:
            return found
        if self.width % self.heads:
            found.append(f"decoder.heads must divide the width, {self.width}, which {self.heads} does not")
        if self.width % 4:
            found.append(f"decoder.width must be a multiple of 4 for sine-cosine positions, not {self.width}")
        return found


class PixelDecoder(eqx.Module):
    """Kept tokens to pixels: a mask token stands in for every patch that was removed."""

    fc_in: Linear
    mask_token: Float[Array, " w"]
    blocks: Stack[Block]
    norm: LayerNorm
    fc_out: Linear
    grid: int = eqx.field(static=True)

    def __init__(self, config: PixelDecoderConfig, memory: int, grid: int, patch: int, *, key: PRNGKeyArray):
        """`memory`: width of the backbone's tokens. `grid`: patches along a side. `patch`: its side in pixels."""
        if found := config.problems():
            raise ValueError("; ".join(found))
        c, w = config, config.width
        ki, kt, kb, ko = jax.random.split(key, 4)
        self.fc_in = Linear(memory, w, key=ki)
        self.mask_token = jax.random.normal(kt, (w,)) * 0.02
        make = lambda key: Block(w, c.heads, c.mlp, gelu=c.gelu, key=key)
        self.blocks = Stack(make, c.depth, remat=c.remat, unroll=c.unroll, key=kb)
        self.norm = LayerNorm(w)
        self.fc_out = Linear(w, 3 * patch**2, key=ko)
        self.grid = grid

    def __call__(self, tokens: Float[Array, "s d"], places: Int[Array, " s"]) -> Float[Array, "t p"]:
        """Pixels of every patch, patches row by row and a patch's pixels row by row, channels last.

        Args:
            tokens: the backbone's output for the patches that were kept, without a [CLS].
            places: where these patches lie, each in [0, grid²) and none twice; in any order.
        """
        x = jnp.tile(self.mask_token.astype(tokens.dtype), (self.grid**2, 1))
        x = x.at[places].set(self.fc_in(tokens), unique_indices=True)
        positions = jnp.asarray(sincos((self.grid, self.grid), self.grid, x.shape[1]))
        x = (x.astype(jnp.float32) + positions).astype(tokens.dtype)
        return self.fc_out(self.norm(self.blocks(x)))
