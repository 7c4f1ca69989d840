"""A plain ViT (Dosovitskiy et al. 2021; details of big_vision's S/16): one image in, its tokens out."""

import math
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from abx.nn.attention import Attention, Mask
from abx.nn.heads import AttentionPool
from abx.nn.layers import (
    Block,
    Dtype,
    Gelu,
    LayerNorm,
    Linear,
    Remat,
    Stack,
    compute_dtype,
    drop_path,
    lecun,
)
from abx.types import AnyArray


@dataclass(frozen=True)
class ViTConfig:
    """Sizes and choices of a ViT; the default is S/16 at 224 pixels."""

    width: int = 384
    """Width of a token."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 6
    """Attention heads; must divide the width."""
    mlp: int = 1536
    """Hidden width of each block's MLP."""
    patch: int = 16
    """Side of a patch in pixels."""
    size: int = 224
    """Side in pixels of the views that positions are made for; for views of other sizes they are interpolated."""
    position: Literal["sincos", "learned"] = "sincos"
    """Position embedding: a fixed 2-D sine-cosine table, or a learned one."""
    pool: Literal["gap", "map", "token"] = "gap"
    """From tokens to features: global average, multi-head attention pooling, or an extra [CLS] token."""
    registers: int = 0
    """Further tokens beside the [CLS], which belong to no patch and are read by nobody after the last block (Darcet et
    al. 2023). For weights from elsewhere that have them, as DINOv2's."""
    gelu: Gelu = "tanh"
    """GELU's tanh approximation (flax, big_vision) or the exact one (torch, timm)."""
    drop_path: float = 0.0
    """Probability that a branch of the last block is left out while training (stochastic depth); it rises linearly from
    0 at the first block. DINO gives its online network 0.1; the paper's table has none."""
    attention: Attention = "plain"
    """plain = matmuls and a softmax; fused = cuDNN's kernel, on a GPU in bfloat16 and for an even number of tokens
    (elsewhere as plain). Which is the faster depends on the size: `benchmarks/views.py` has both."""
    remat: Remat = "auto"
    """What to keep for the backward pass: none = everything, dots = matmuls, full = only each block's input; auto =
    full on a CPU, where that is quicker, and none on an accelerator."""
    chunk: int = 0
    """Views at a time on each device; 0 = all. Exact, whatever the loss compares: of the others only the results are
    kept, and the backward pass computes them again (GradCache). For a large batch on a small machine."""
    dtype: Dtype = "auto"
    """Dtype of the activations; auto is bfloat16 on an accelerator, float32 on a CPU. Parameters are float32."""
    unroll: bool = False
    """Unroll the scan over blocks. Slow to compile; lets XLA count the FLOPs of every block."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("width", "depth", "heads", "mlp", "patch", "size"):
            if getattr(self, name) < 1:
                found.append(f"backbone.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("registers", "chunk"):
            if getattr(self, name) < 0:
                found.append(f"backbone.{name} must be at least 0, not {getattr(self, name)}")
        if self.registers > 0 and self.pool != "token":
            found.append(f"backbone.registers must be 0 with backbone.pool {self.pool}: they go beside a [CLS] token")
        if not 0 <= self.drop_path < 1:
            found.append(f"backbone.drop_path must be a probability below 1, not {self.drop_path}")
        if min(self.width, self.heads, self.patch, self.size) < 1:
            return found
        if self.width % self.heads:
            found.append(f"backbone.heads must divide the width, {self.width}, which {self.heads} does not")
        if self.size % self.patch:
            found.append(f"backbone.size must be a multiple of the patch, {self.patch}, not {self.size}")
        if self.position == "sincos" and self.width % 4:
            found.append(f"backbone.width must be a multiple of 4 for sine-cosine positions, not {self.width}")
        return found


Ti = ViTConfig(width=192, depth=12, heads=3, mlp=768)
S = ViTConfig()
B = ViTConfig(width=768, depth=12, heads=12, mlp=3072)
L = ViTConfig(width=1024, depth=24, heads=16, mlp=4096)
H = ViTConfig(width=1280, depth=32, heads=16, mlp=5120)


class ViT(eqx.Module):
    """Image to tokens. Parameters map one to one onto timm's VisionTransformer (`abx.nn.timm`)."""

    patch_embed: Linear
    pos_embed: Float[Array, "p d"] | None
    cls_token: Float[Array, " d"] | Float[Array, "r d"] | None
    """[CLS]; with registers, [CLS] and these as rows: no field of their own, so that checkpoints without any stay what
    they are."""
    blocks: Stack[Block]
    norm: LayerNorm
    attn_pool: AttentionPool | None
    config: ViTConfig = eqx.field(static=True)

    def __init__(self, config: ViTConfig = S, *, key: PRNGKeyArray):
        if found := config.problems():
            raise ValueError("; ".join(found))
        c, d = config, config.width
        kp, kx, kb, km = jax.random.split(key, 4)
        self.patch_embed = Linear(3 * c.patch**2, d, init=lecun, key=kp)
        learned = c.position == "learned"
        self.pos_embed = jax.random.normal(kx, ((c.size // c.patch) ** 2, d)) * d**-0.5 if learned else None
        self.cls_token = jnp.zeros(d) if c.pool == "token" else None
        if c.registers:
            drawn = 0.02 * jax.random.normal(jax.random.fold_in(kx, 1), (c.registers, d))
            self.cls_token = jnp.concatenate([jnp.zeros((1, d)), drawn])
        make = lambda key: Block(d, c.heads, c.mlp, gelu=c.gelu, attention=c.attention, key=key)
        self.blocks = Stack(make, c.depth, remat=c.remat, unroll=c.unroll, key=kb)
        self.norm = LayerNorm(d)
        self.attn_pool = AttentionPool(d, c.heads, c.mlp, gelu=c.gelu, key=km) if c.pool == "map" else None
        self.config = config

    def __call__(
        self, image: UInt8[AnyArray, "h w 3"] | Float[AnyArray, "h w 3"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "t d"]:
        """Tokens after the final norm: patches row by row, preceded with pool="token" by [CLS] and any registers.

        Args:
            image: uint8, or float in [-1, 1]; height and width are multiples of the patch, of any size.
            key: for stochastic depth; without one nothing is left out.
        """
        return self.encode(self.embed(image), key=key)

    def embed(self, image: UInt8[AnyArray, "h w 3"] | Float[AnyArray, "h w 3"]) -> Float[Array, "t d"]:
        """Patches with their positions, before the first block, in the compute dtype."""
        p, (height, width) = self.config.patch, image.shape[:2]
        if height % p or width % p:
            raise ValueError(f"image is {height} x {width}, which patches of {p} pixels do not divide")
        grid = (height // p, width // p)
        x = jnp.asarray(image)
        x = x.astype(jnp.float32) / 127.5 - 1 if x.dtype == jnp.uint8 else x
        x = x.reshape(grid[0], p, grid[1], p, 3).transpose(0, 2, 1, 3, 4).reshape(grid[0] * grid[1], p * p * 3)
        dtype = compute_dtype(self.config.dtype)
        x = self.patch_embed(x.astype(dtype)).astype(jnp.float32) + self.positions(grid)
        if self.cls_token is not None:
            # After the positions, as in big_vision: [CLS] and registers have none of their own.
            x = jnp.concatenate([jnp.atleast_2d(self.cls_token), x])
        return x.astype(dtype)

    def encode(
        self, tokens: Float[Array, "t d"], mask: Mask | None = None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "t d"]:
        """The blocks and the final norm, on all the tokens that `embed` gives or on some of them.

        Args:
            mask: the tokens that may be looked at, e.g. not the padding of a set of kept patches.
            key: as above.
        """
        c = self.config
        keep = None if key is None or not c.drop_path else drop_path(key, c.depth, c.drop_path)
        return self.norm(self.blocks(tokens, mask, keep))

    def positions(self, grid: tuple[int, int]) -> Float[Array, "t d"]:
        """Position embeddings for a grid of patches; one that is not native is seen as the native one, resampled."""
        native = self.config.size // self.config.patch
        if self.pos_embed is None:
            return jnp.asarray(sincos(grid, native, self.config.width))
        if grid == (native, native):
            return self.pos_embed
        return resampled(self.pos_embed, grid)

    @property
    def patches_from(self) -> int:
        """How many tokens come before the patches: [CLS] and registers."""
        return 0 if self.cls_token is None else 1 + self.config.registers

    def pool(self, tokens: Float[Array, "t d"]) -> Float[Array, " d"]:
        """Features of a whole view."""
        if self.attn_pool is not None:
            return self.attn_pool(tokens)
        if self.cls_token is not None:
            return tokens[0]
        return tokens.astype(jnp.float32).mean(0).astype(tokens.dtype)


def resampled(table: Float[AnyArray, "p d"], grid: tuple[int, int]) -> Float[Array, "t d"]:
    """A square table of positions as one for another grid: bicubic (Keys's kernel, a = -1/2), not antialiased, patches
    lying as in `sincos`."""
    native, d = math.isqrt(len(table)), table.shape[1]
    square = jnp.asarray(table).reshape(native, native, d)
    return jax.image.resize(square, (*grid, d), "bicubic", antialias=False).reshape(-1, d)


def sincos(grid: tuple[int, int], native: int, d: int) -> Float[np.ndarray, "t d"]:
    """Fixed 2-D sine-cosine positions: [sin x, cos x, sin y, cos y] with frequencies 10000^(-k / (d/4 - 1)).

    Patch i of g sits where it lies on the native grid of G: (i + 1/2) G / g - 1/2, so 6 patches span the same
    range as 14 (what interpolating the table, as DINO does for its local crops, approximates).
    """
    y, x = ((np.arange(g) + 0.5) * native / g - 0.5 for g in grid)
    omega = 10000.0 ** (-np.arange(d // 4) / max(d // 4 - 1, 1))
    x = np.tile(x, grid[0])[:, None] * omega
    y = np.repeat(y, grid[1])[:, None] * omega
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1).astype(np.float32)
