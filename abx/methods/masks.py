"""Which patches of a view are seen and which are to be predicted: MAE's random masks, I-JEPA's blocks.

I-JEPA (Assran et al. 2023, figure 4) draws the sizes of blocks once a step and their places once a row. Shapes are
static, so its masks come padded.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from abx import parallel
from abx.nn import ViTConfig
from abx.types import Axis, Views

TRIES = 20
"""Places that are tried for a context before a target gives way; the published code's number."""


def check_view(batch: Views, backbone: ViTConfig) -> None:
    """Raises: ValueError, where a batch has not one view of each image, of the size that the places are made for."""
    _, n, height, width, _ = batch.images.shape
    if (n, height, width) != (1, backbone.size, backbone.size):
        raise ValueError(
            f"masks are made for one view of {backbone.size} x {backbone.size} pixels (backbone.size), "
            f"but there are {n} of {height} x {width}"
        )


def random_mask(noise: Float[Array, " t"], kept: int) -> tuple[Int[Array, "{kept}"], Float[Array, " t"]]:
    """Where the patches with the lowest noise are, and a mask that is 0 there and 1 elsewhere (1 = removed)."""
    places = jnp.argsort(noise)[:kept]
    return places, jnp.ones_like(noise).at[places].set(0)


class Sizes(NamedTuple):
    """The sizes that a block can have, in patches, and where in [0, 1) the number lies from which each is made."""

    upto: Float[np.ndarray, " k"]
    """Size i belongs to numbers from upto[i - 1] to upto[i]."""
    height: Int[np.ndarray, " k"]
    width: Int[np.ndarray, " k"]

    def draw(self, u: Float[Array, ""]) -> Int[Array, "2"]:
        """(height, width) of the number u in [0, 1)."""
        # Looked up and not computed: in float32 a root near one half might round to a size that has no room.
        i = jnp.searchsorted(jnp.asarray(self.upto[:-1], jnp.float32), u, side="right")
        return jnp.asarray(np.stack([self.height, self.width], 1), jnp.int32)[i]


class Masks(NamedTuple):
    """Places in [0, grid²) of patches, and which of them are no padding; padding is of place 0 or of any other."""

    context: Int[Array, "*b c"]
    context_valid: Bool[Array, "*b c"]
    targets: Int[Array, "*b m s"]
    target_valid: Bool[Array, "*b m s"]


@dataclass(frozen=True)
class MultiBlock:
    """One large block of context, less several small target blocks; the default is I-JEPA's at 14 x 14 patches."""

    targets: int = 4
    """Number of target blocks. They may overlap."""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """Smallest and largest area of a target block, as a share of the view's."""
    target_aspect: tuple[float, float] = (0.75, 1.5)
    """Smallest and largest height / width of a target block. As published, one number in [0, 1] decides of area and
    aspect together: the largest blocks are the tallest."""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """Smallest and largest area of the context block, which is square, before the targets are cut out of it."""
    min_keep: int = 10
    """Every context has more patches than this, and every target. Where the targets leave too few, the last of them is
    no longer cut out of the context, then the last but one, and so on."""
    context_tokens: int = 0
    """Most patches of a context to be encoded: of more, so many are drawn; 0 = all. The published code cuts all
    contexts of a batch to the length of its smallest."""
    edges: bool = False
    """Let blocks lie in the last row and column of patches. The published code never does, by an off-by-one in drawing
    their places, and the paper's I-JEPA was trained with it; on a small grid that is much of the view."""

    def problems(self, grid: int) -> list[str]:
        """What is wrong with these numbers for so many patches along a side, each with the field to change."""
        found = []
        for name in ("target_scale", "context_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                found.append(f"masks.{name} must be 0 < low <= high <= 1, not {low} {high}")
        low, high = self.target_aspect
        if not 0 < low <= high:
            found.append(f"masks.target_aspect must be 0 < low <= high, not {low} {high}")
        for name, least in (("targets", 1), ("min_keep", 0), ("context_tokens", 0)):
            if getattr(self, name) < least:
                found.append(f"masks.{name} must be at least {least}, not {getattr(self, name)}")
        if 0 < self.context_tokens <= self.min_keep:
            found.append(
                f"masks.context_tokens must be more than min_keep, {self.min_keep}, or 0, not {self.context_tokens}"
            )
        if found:
            return found
        for name, sizes in (("target", self.target_sizes(grid)), ("context", self.context_sizes(grid))):
            area, h, w = min(zip(sizes.height * sizes.width, sizes.height, sizes.width, strict=True))
            if area <= self.min_keep:
                found.append(
                    f"masks.{name}_scale must give blocks of more than {self.min_keep} patches (min_keep), but of "
                    f"{grid} x {grid} a {name} block may have {h} x {w}"
                )
        return found

    def target_sizes(self, grid: int) -> Sizes:
        return block_sizes(grid, self.target_scale, self.target_aspect)

    def context_sizes(self, grid: int) -> Sizes:
        return block_sizes(grid, self.context_scale, (1.0, 1.0))

    def lengths(self, grid: int) -> tuple[int, int]:
        """c and s of `Masks`: the most patches that a context and a target can have."""
        reach, context, target = self._reach(grid), self.context_sizes(grid), self.target_sizes(grid)
        most = 0
        for ch, cw in zip(context.height, context.width, strict=True):
            for th, tw in zip(target.height, target.width, strict=True):
                if ch * cw - min(ch, th) * min(cw, tw) <= self.min_keep:
                    lost = 0  # even the first target may give way
                else:
                    # All targets may lie upon each other. Where the context fills its ground, they cannot lie outside.
                    lost = max(ch + th - reach, 0) * max(cw + tw - reach, 0)
                most = max(most, int(ch * cw - lost))
        return min(most, self.context_tokens or most), int((target.height * target.width).max())

    def batch(self, grid: int, b: int, key: PRNGKeyArray, *, axis: Axis = None) -> Masks:
        """Masks of b rows of views with grid x grid patches.

        Sizes come from the key, the same on every device; places from the row's own.
        """
        kt, kc, kp = jax.random.split(key, 3)
        target = self.target_sizes(grid).draw(jax.random.uniform(kt))
        context = self.context_sizes(grid).draw(jax.random.uniform(kc))
        return jax.vmap(lambda k: self.place(grid, target, context, k))(parallel.row_keys(kp, b, axis))

    def place(self, grid: int, target: Int[Array, "2"], context: Int[Array, "2"], key: PRNGKeyArray) -> Masks:
        """Blocks of these sizes (height, width), somewhere in one view."""
        c, s = self.lengths(grid)
        kt, kc, kn = jax.random.split(key, 3)
        corners = self._corners(grid, target, (self.targets,), kt)
        order = jnp.arange(s)
        rows, columns = order // target[1], order % target[1]
        places = (corners[:, :1] + rows) * grid + corners[:, 1:] + columns
        valid = jnp.broadcast_to(order < target.prod(), places.shape)

        # Row r of `free` and `enough`: the context when the last r targets have given way, at each of the places tried.
        seen = _inside(self._corners(grid, context, (self.targets + 1, TRIES), kc), context, grid)
        taken = jnp.cumsum(_inside(corners, target, grid), 0)[::-1] > 0
        taken = jnp.concatenate([taken, jnp.zeros_like(taken[:1])])
        free = (seen & ~taken[:, None]).reshape(-1, grid**2)
        enough = free.sum(1) > self.min_keep
        mine = free[jnp.argmax(enough)]
        # Sorted by noise, what is free first: the first c are all of them, or c drawn from them.
        noise = jax.random.uniform(kn, mine.shape)
        kept = jnp.argsort(jnp.where(mine, noise, 2.0))[:c]
        return Masks(kept, mine[kept], jnp.where(valid, places, 0), valid)

    def _reach(self, grid: int) -> int:
        """Rows, and columns, in which a block can lie."""
        return grid if self.edges else grid - 1

    def _corners(
        self, grid: int, size: Int[Array, "2"], shape: tuple[int, ...], key: PRNGKeyArray
    ) -> Int[Array, "*n 2"]:
        """Row and column of upper left corners of blocks, each anywhere that the block fits."""
        return jax.random.randint(key, (*shape, 2), 0, self._reach(grid) - size + 1)


def block_sizes(grid: int, scale: tuple[float, float], aspect: tuple[float, float]) -> Sizes:
    """All sizes of a block, exactly: what I-JEPA makes of a number u in [0, 1).

    u stands for a share of the area, low + u (high - low), and for an aspect alike. The patches of that share, less
    their fraction, times the aspect and divided by it, are the squares of height and width, which are rounded and at
    most one patch short of the side.
    """
    share = lambda u: scale[0] + u * (scale[1] - scale[0])
    ratio = lambda u: aspect[0] + u * (aspect[1] - aspect[0])
    area = lambda u: int(grid**2 * share(u))

    def size(u: float) -> tuple[int, int]:
        sides = (math.sqrt(area(u) * ratio(u)), math.sqrt(area(u) / ratio(u)))
        return min(round(sides[0]), grid - 1), min(round(sides[1]), grid - 1)

    # A side changes where the area does, or where its root passes a half: here are all such u, and some where nothing
    # happens.
    areas = range(area(0), area(1) + 1)
    halves = [(k + 0.5) ** 2 for k in range(grid)]
    ends = {0.0, 1.0}
    ends |= {_when(n / grid**2, scale) for n in areas}
    ends |= {_when(x, aspect) for n in areas if n for half in halves for x in (half / n, n / half)}
    steps = [(high, *size((low + high) / 2)) for low, high in pairwise(sorted(u for u in ends if 0 <= u <= 1))]
    last = [here for here, after in zip(steps, [*steps[1:], None], strict=True) if not after or after[1:] != here[1:]]
    upto, height, width = zip(*last, strict=True)
    return Sizes(np.array(upto), np.array(height), np.array(width))


def _when(x: float, span: tuple[float, float]) -> float:
    """The u at which low + u (high - low) is x."""
    low, high = span
    return (x - low) / (high - low) if high > low else math.nan


def _inside(corners: Int[Array, "*n 2"], size: Int[Array, "2"], grid: int) -> Bool[Array, "*n t"]:
    """Which patches lie in blocks of this size."""
    line = jnp.arange(grid)
    inside = (corners[..., None] <= line) & (line < (corners + size)[..., None])  # *n 2 g
    return (inside[..., 0, :, None] & inside[..., 1, None, :]).reshape(*corners.shape[:-1], grid**2)
