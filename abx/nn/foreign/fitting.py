"""A ViT of ours from arrays under timm's names: which sizes they have, and what becomes of positions and pixels."""

import math
import re
from dataclasses import replace
from typing import Literal

import numpy as np

from abx.nn import timm
from abx.nn.foreign.stored import Arrays, Stored, Unfit
from abx.nn.vit import ViT, ViTConfig, resampled, sincos

HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}
"""Of the usual ViTs, by their width; of others one for every 64 of it, which is a guess."""
REASONS = {
    r"norm_pre\..*|ln_pre\..*": "a norm before the blocks, as CLIP's image towers have, is not among this ViT's layers",
    r"fc_norm\..*": "this ViT's norm comes before its pooling, not after it",
    r"blocks\.\d+\.mlp\.(w12|w3|fc1_g|fc1_x|w1|w2)\..*": "SwiGLU is not among this ViT's layers, whose MLPs have GELU",
    r"blocks\.\d+\.attn\.[qk]_norm\..*": "this ViT does not normalise queries and keys",
    r"(.*\.)?(rope|rope_embed|relative_position).*": "this ViT has no rotary or relative positions",
    r"dist_token": "this ViT has no distillation token",
    r"patch_embed\.norm\..*": "this ViT does not normalise patches before its blocks",
}
"""Why arrays that are met with cannot be taken."""


def sizes_of(arrays: Arrays, heads: int = 0, like: ViTConfig = ViTConfig()) -> ViTConfig:
    """The ViT that arrays under timm's names are of.

    Args:
        heads: attention heads; 0 = those of the usual ViT of this width.
        like: what shapes do not tell: GELU, position where there is no table (and then the size).

    Raises: Unfit, naming the array that no such ViT has.
    """
    for name in arrays:
        for pattern, reason in REASONS.items():
            if re.fullmatch(pattern, name):
                raise Unfit(f"{name}: {reason}")
    kernel = _shape(arrays, "patch_embed.proj.weight", 4)
    if kernel[1] != 3 or kernel[2] != kernel[3]:
        raise Unfit(f"patch_embed.proj.weight {list(kernel)} is not of square patches of three colours")
    width, patch = kernel[0], kernel[2]
    depth = len({match[1] for name in arrays if (match := re.match(r"blocks\.(\d+)\.", name))})
    mlp = _shape(arrays, "blocks.0.mlp.fc1.weight", 2)[0]
    heads = heads or HEADS.get(width) or max(width // 64, 1)
    token = "cls_token" in arrays
    registers = _shape(arrays, "reg_token", 3)[1] if "reg_token" in arrays else 0
    if registers and not token:
        raise Unfit("reg_token: this ViT has registers beside a [CLS] token alone, and there is no cls_token")
    if token and "attn_pool.latent" in arrays:
        raise Unfit("attn_pool.latent: this ViT has an attention pool or a cls_token, not both")
    pool: Literal["gap", "map", "token"] = "token" if token else "map" if "attn_pool.latent" in arrays else "gap"
    found = replace(like, width=width, depth=depth, heads=heads, mlp=mlp, patch=patch, pool=pool, registers=registers)
    if "pos_embed" in arrays:
        rows = _shape(arrays, "pos_embed", 3)[1]
        found = replace(found, size=_grid(rows, found) * patch, position="learned")
    else:
        found = replace(found, size=max(like.size // patch, 1) * patch, position="sincos")
    if problems := found.problems():
        raise Unfit(f"patch_embed.proj.weight {list(kernel)} and blocks: {problems[0].replace('backbone.', '')}")
    check(arrays, found)
    return found


def check(arrays: Arrays, have: ViTConfig) -> None:
    """Raises: Unfit, when what there is beside positions is not what a ViT of these sizes consists of."""
    without = {name: x.shape for name, x in arrays.items() if name != "pos_embed"}
    wrong = [p for p in timm.unlike(without, have) if not p.startswith("pos_embed ")]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Unfit(f"{wrong[0]}{more}")


def fitted(arrays: Arrays, have: ViTConfig, want: ViTConfig, pixels: str = "half") -> dict[str, Stored]:
    """What `want` takes of a ViT `have`, under timm's names. They differ in size, position and attention pool at most.

    Positions are resampled to the wanted grid (`vit.resampled`); that of [CLS] is added to it, and so are the
    registers'. Where `want` has an attention pool and `have` none, the pool is lacking.

    Args:
        pixels: "imagenet" for a ViT that takes pictures normalised by ImageNet's mean and deviation. Ours takes them in
            [-1, 1], and the difference goes into the patch embedding.
    """
    found = {name: x for name, x in arrays.items() if want.pool == "map" or not name.startswith("attn_pool.")}
    if pixels == "imagenet":
        found |= _in_our_pixels(found)
    grid, first = want.size // want.patch, want.registers + 1 if want.pool == "token" else 0
    shape = (1, first + grid**2, want.width)
    native = have.size // have.patch
    if "pos_embed" not in found or want.position == "sincos":
        positions = sincos((grid, grid), native, want.width)
        table = Stored(shape, lambda: np.pad(positions, ((first, 0), (0, 0)))[None])
    else:
        table = found["pos_embed"].change(lambda x: _resampled(x, have, grid, first), shape)
    if "pos_embed" in found and first:
        old = found["pos_embed"]
        rows = old.shape[1] - native**2
        if rows:
            found["cls_token"] = found["cls_token"].change(lambda x: x + old.read()[:, :1])
        if rows > 1:
            found["reg_token"] = found["reg_token"].change(lambda x: x + old.read()[:, 1:rows])
    return found | {"pos_embed": table}


def build(arrays: Arrays, want: ViTConfig) -> ViT:
    """What `fitted` gave, read and made a ViT; an attention pool that is lacking is zeros."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in timm.shapes(want).items() if name not in arrays}
    return timm.from_timm({name: x.read() for name, x in arrays.items()} | zeros, want)


def _shape(arrays: Arrays, name: str, axes: int) -> tuple[int, ...]:
    if name not in arrays:
        raise Unfit(f"{name} is missing")
    shape = arrays[name].shape
    if len(shape) != axes or not all(shape):
        raise Unfit(f"{name} has shape {list(shape)}, which should be of {axes} axes")
    return shape


def _grid(rows: int, config: ViTConfig) -> int:
    """Patches along a side of what a table has rows for, with or without rows for [CLS] and registers."""
    extra = {1 + config.registers, 1, 0} if config.pool == "token" else {0}
    sides = sorted(side for n in extra if (side := math.isqrt(max(rows - n, 0))) and side**2 == rows - n)
    if len(sides) != 1:
        which = " or ".join(f"{side} x {side}" for side in sides)
        what = f"may be of {which} patches" if sides else "are no square grid of patches"
        raise Unfit(f"pos_embed has {rows} rows, which {what}")
    return sides[0]


def _resampled(table: np.ndarray, have: ViTConfig, grid: int, first: int) -> np.ndarray:
    native = have.size // have.patch
    rows = table[0, table.shape[1] - native**2 :]
    if grid != native:
        rows = np.asarray(resampled(rows, (grid, grid)))
    return np.pad(rows, ((first, 0), (0, 0)))[None]


MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of colours in [0, 1]."""


def _in_our_pixels(arrays: Arrays) -> dict[str, Stored]:
    """A patch embedding of (x - mean) / deviation as one of u = 2 x - 1: (u + 1 - 2 mean) / (2 deviation)."""
    mean, deviation = (np.array(x, np.float32)[:, None, None] for x in (MEAN, DEVIATION))
    weight, bias = arrays["patch_embed.proj.weight"], arrays["patch_embed.proj.bias"]
    shifted = lambda b: b + (weight.read() * ((0.5 - mean) / deviation)).sum((1, 2, 3))
    return {
        "patch_embed.proj.weight": weight.change(lambda w: w * (0.5 / deviation)),
        "patch_embed.proj.bias": bias.change(shifted),
    }
