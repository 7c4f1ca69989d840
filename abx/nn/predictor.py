"""I-JEPA's predictor (Assran et al. 2023; METHODS §1.6): from the tokens of a context, those of target blocks."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from abx.nn.layers import Block, Gelu, LayerNorm, Linear, Remat, Stack
from abx.nn.vit import sincos


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes of I-JEPA's predictor, which is thrown away after training; the default is the one beside a ViT-S."""

    width: int = 384
    """Width of a token."""
    depth: int = 6
    """Number of blocks."""
    heads: int = 6
    """Attention heads; must divide the width."""
    mlp: int = 1536
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
                found.append(f"predictor.{name} must be at least 1, not {getattr(self, name)}")
        if found:
            return found
        if self.width % self.heads:
            found.append(f"predictor.heads must divide the width, {self.width}, which {self.heads} does not")
        if self.width % 4:
            found.append(f"predictor.width must be a multiple of 4 for sine-cosine positions, not {self.width}")
        return found


class Predictor(eqx.Module):
    """Context tokens and the places of target blocks, to the tokens expected there; each block by itself."""

    fc_in: Linear
    mask_token: Float[Array, " w"]
    blocks: Stack[Block]
    norm: LayerNorm
    fc_out: Linear
    grid: int = eqx.field(static=True)

    def __init__(self, config: PredictorConfig, memory: int, grid: int, *, key: PRNGKeyArray):
        """`memory`: width of the backbone's tokens. `grid`: patches along a side."""
        if found := config.problems():
            raise ValueError("; ".join(found))
        c, w = config, config.width
        ki, kt, kb, ko = jax.random.split(key, 4)
        self.fc_in = Linear(memory, w, key=ki)
        self.mask_token = jax.random.normal(kt, (w,)) * 0.02
        make = lambda key: Block(w, c.heads, c.mlp, gelu=c.gelu, key=key)
        self.blocks = Stack(make, c.depth, remat=c.remat, unroll=c.unroll, key=kb)
        self.norm = LayerNorm(w)
        self.fc_out = Linear(w, memory, key=ko)
        self.grid = grid

    def __call__(
        self,
        context: Float[Array, "c d"],
        places: Int[Array, " c"],
        valid: Bool[Array, " c"],
        target_places: Int[Array, "m s"],
        target_valid: Bool[Array, "m s"],
    ) -> Float[Array, "m s d"]:
        """Predicted tokens of m target blocks.

        Places are in [0, grid²). Masks have different sizes, so they come padded: where `valid` or `target_valid` is
        False stands any place, no token looks there, and what is predicted for it means nothing.
        """
        dtype = context.dtype
        positions = jnp.asarray(sincos((self.grid, self.grid), self.grid, len(self.mask_token)))
        seen = (self.fc_in(context).astype(jnp.float32) + positions[places]).astype(dtype)

        def predict(places: Int[Array, " s"], wanted: Bool[Array, " s"]) -> Float[Array, "s d"]:
            asked = (self.mask_token + positions[places]).astype(dtype)
            x = self.blocks(jnp.concatenate([seen, asked]), jnp.concatenate([valid, wanted]))
            return self.fc_out(self.norm(x[len(seen) :]))

        return jax.vmap(predict)(target_places, target_valid)
