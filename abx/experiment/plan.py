"""The plan of a run, for --dry-run: what it would do and what it would cost, from the configuration and the data."""

from typing import Any

import jax
import jax.numpy as jnp

from abx import train
from abx.analysis.cost import step_flops
from abx.data.streams import open_sources, views_per_step
from abx.experiment.config import Recipe
from abx.types import ABBatch, Views


def plan(recipe: Recipe) -> str:
    """Several lines of text. Indexes the data; runs nothing on a device."""
    data, steps = recipe.data, recipe.steps
    sources = open_sources(data.specs())
    state = jax.eval_shape(lambda: train.init(recipe.method, recipe.optim.build(steps), recipe.seed, blank_batch(recipe)))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if x.dtype != jax.dtypes.float0)
    per_step = views_per_step(data)
    lr = recipe.optim.learning_rate(steps)
    points = [round(steps * share) for share in (0, 0.05, 0.25, 0.5, 1)]
    lines = [
        f"method       {type(recipe.method).__name__}, {count(state.model) / 1e6:.2f} M parameters, of which backbone "
        f"{count(state.model.backbone) / 1e6:.2f} M",
        f"steps        {steps:,} x {per_step:,} views = {steps * per_step:,} views",
    ]
    for name, batch in data.batch_sizes().items():
        crops, source = data.crops()[name], sources[name]
        lines.append(
            f"{name:<12} {data.specs()[name]}: {len(source):,} images, {batch:,} a step x {crops.n} views of {crops.size} px "
            f"= {steps * batch / len(source):.2f} epochs"
        )
    sizes = {name: crops.size for name, crops in data.crops().items()}
    flops = step_flops(recipe.method, data.batch_sizes(), sizes, next(reversed(data.crops().values())).n)
    if flops is not None:
        lines.append(
            f"FLOPs        {flops / per_step / 1e9:.3f} G per view, {flops / 1e12:.3f} T per step, {flops * steps:.3g} in all; "
            f"at 100 TFLOP/s sustained {flops * steps / 3.6e17:.2f} hours"
        )
    lines += [
        "lr           " + ", ".join(f"{float(lr(p)):.2e} at {p:,}" for p in points),
        f"checkpoint   {size / 2**20:.0f} MiB, the newest {recipe.ckpt.keep}"
        + (" and the best" if recipe.ckpt.keep_best else "")
        + f", in {recipe.out / 'checkpoints'}",
    ]
    return "\n".join(lines)


def _blank(recipe: Recipe) -> Any:
    """A batch of the right shapes, from the configuration alone."""
    parts = {}
    for name, b in recipe.data.batch_sizes().items():
        c = recipe.data.crops()[name]
        parts[name] = Views(jnp.zeros((b, c.n, c.size, c.size, 3), jnp.uint8), jnp.tile(jnp.array([0.0, 0, 1, 1]), (b, c.n, 1)))
    return ABBatch(**parts) if len(parts) == 2 else parts["train"]
