"""The plan of a run, for --dry-run: what it would do and what it would cost, from the configuration and the data."""

from typing import Any

import jax
import jax.numpy as jnp

from abx import train
from abx.analysis.cost import step_flops
from abx.data.mixture import Mixture
from abx.data.sources import Source
from abx.data.streams import open_sources, views_per_step
from abx.experiment.config import Recipe
from abx.types import Views

SPEEDS = {"two CPU cores": 5e10, "one H200 at 40 % of its peak": 4e14}
"""FLOP/s that a run can hope for, roughly: what `smoke` reached on two AMD EPYC cores; a common share of the peak."""


def plan(recipe: Recipe) -> str:
    """Several lines of text. Indexes the data; allocates nothing of the run's size and writes nothing."""
    data, steps = recipe.data, recipe.steps
    sources = open_sources(data.specs())
    state = jax.eval_shape(
        lambda: train.init(recipe.method, recipe.optim.build(steps), recipe.seed, blank_batch(recipe))
    )
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.dtype != jax.dtypes.float0)
    per_step = views_per_step(data)
    lines = [
        f"method       {type(recipe.method).__name__}: {count(state.model) / 1e6:.2f} M parameters, of which backbone "
        f"{count(state.model.backbone) / 1e6:.2f} M",
        f"steps        {steps:,} x {per_step:,} views = {steps * per_step:,} views (each crop counts once)",
    ]
    for name, batch in data.batch_sizes().items():
        crops, images = data.crops()[name], len(sources[name])
        lines.append(
            f"data.{name:<7} {data.specs()[name]}: {images:,} images; a step takes {batch:,} images x {crops.n} views "
            f"of {crops.size} px; {_epochs(sources[name], steps * batch)}"
        )
        if problems := sources[name].problems:
            lines.append(f"             {len(problems):,} left out, the first: {': '.join(problems[0])}")
    sizes = {name: crops.size for name, crops in data.crops().items()}
    flops = step_flops(recipe.method, data.batch_sizes(), sizes, next(reversed(data.crops().values())).n)
    if flops is not None:
        lines += [
            f"FLOPs        {_si(flops / per_step)} per view, {_si(float(flops))} per step, {flops * steps:.2e} in all",
            "time         "
            + ", ".join(f"{duration(flops * steps / speed)} on {where}" for where, speed in SPEEDS.items())
            + " (FLOPs / speed; evaluation and loading not counted)",
        ]
    lr, warm = recipe.optim.learning_rate(steps), round(recipe.optim.warmup * steps)
    points = [0, warm, *(round(warm + (steps - warm) * share) for share in (1 / 3, 2 / 3, 1))]
    lines.append("lr           " + ", ".join(f"{float(lr(p)):.2e} at step {p:,}" for p in points))
    if recipe.eval.every:
        looks = -(-steps // recipe.eval.every) + 1
        lines.append(
            f"evaluation   {looks:,} times: before the first step, every {recipe.eval.every:,} steps, at the end"
        )
    kept = f"the newest {recipe.ckpt.keep}" + (" and the best" if recipe.ckpt.keep_best else "")
    most = (recipe.ckpt.keep + recipe.ckpt.keep_best) * size
    lines += [
        f"checkpoint   {_bytes(size)}; {kept} are kept: up to {_bytes(most)}",
        f"folder       {recipe.out}" + (", which is there already" if recipe.out.exists() else ""),
    ]
    return "\n".join(lines)


def blank_batch(recipe: Recipe) -> Any:
    """A batch of the right shapes, from the configuration alone."""
    parts = {}
    for name, b in recipe.data.batch_sizes().items():
        c = recipe.data.crops()[name]
        parts[name] = Views(
            jnp.zeros((b, c.n, c.size, c.size, 3), jnp.uint8), jnp.tile(jnp.array([0.0, 0, 1, 1]), (b, c.n, 1))
        )
    return recipe.data.join(parts)


def _epochs(source: Source, images: int) -> str:
    if isinstance(source, Mixture):
        return f"epochs of its parts: {', '.join(f'{epochs:,.2f}' for epochs in source.epochs(images))}"
    return f"{images / len(source):,.2f} epochs"


def _si(flops: float) -> str:
    """1.2e9 -> 1.20 GFLOP"""
    letter, unit = next(((x, u) for x, u in (("P", 1e15), ("T", 1e12), ("G", 1e9)) if flops >= u), ("M", 1e6))
    return f"{flops / unit:.3g} {letter}FLOP"


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """To two figures in the unit that fits: 100 -> 1.7 minutes, 72000 -> 20 hours."""
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} seconds" if seconds >= 1 else "under a second"
