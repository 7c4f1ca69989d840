"""The plan of a run, for --dry-run: what it would do, what it would cost, and what of that cannot be."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from abx import parallel, train
from abx.analysis.cost import Memory, step_flops, step_memory
from abx.data.mixture import Mixture
from abx.data.sources import Source
from abx.data.streams import Stream, open_sources, views_per_step
from abx.data.views import mean_iou, views_per_image
from abx.experiment.config import Recipe
from abx.experiment.planning import GIB, Machine, flags_of, settled, with_every
from abx.methods.base import Method

TWO_CORES = 5e10
"""FLOP/s, roughly: what `smoke` reached on two AMD EPYC cores."""


class Plan(NamedTuple):
    text: str
    problems: list[str]
    """What the devices or the disk cannot hold, one sentence each, beginning with a flag."""


def plan(recipe: Recipe) -> Plan:
    """Indexes the data and compiles a step; allocates nothing of the run's size and writes nothing.

    JAX has to have as many CPU devices as are planned for (`planning.stand_in`).
    """
    machine = recipe.plan.machine()
    batch = jax.eval_shape(recipe.data.blank)
    tx = recipe.optim.build(recipe.steps)
    state = jax.eval_shape(lambda batch: train.init(recipe.method, tx, recipe.seed, batch), batch)
    sources = open_sources(recipe.data)
    memory, too_large = _memory(recipe, machine, batch)
    disk, too_full = _disk(recipe, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)))
    lines = [
        *_method(recipe, state.model),
        *_steps(recipe, sources),
        *_flops(recipe, machine, batch),
        *memory,
        *_schedules(recipe),
        *_evaluation(recipe),
        *disk,
    ]
    return Plan("\n".join(lines), too_large + too_full)


def _method(recipe: Recipe, model: Any) -> list[str]:
    whole, backbone = (sum(x.size for x in jax.tree.leaves(tree)) / 1e6 for tree in (model, model.backbone))
    return [
        f"method       {type(recipe.method).__name__}: {whole:.2f} M parameters, of which backbone {backbone:.2f} M, "
        f"the rest {whole - backbone:.2f} M"
    ]


def _steps(recipe: Recipe, sources: dict[str, Source]) -> list[str]:
    """How much of what is seen, stream by stream."""
    steps, streams, per_step = recipe.steps, recipe.data.streams(), views_per_step(recipe.data)
    parts = [f"{s.batch:,} x {_together([f'{kind.n}' for kind in s.crops.kinds().values()])}" for s in streams.values()]
    lines = [
        f"batch        {' + '.join(parts)} = {per_step:,} views a step (images x views of each)",
        f"steps        {steps:,} x {per_step:,} views = {steps * per_step:,} views (each crop counts once)",
    ]
    for name, stream in streams.items():
        source, images = sources[name], steps * stream.batch
        lines.append(
            f"data.{name:<7} {stream.spec}: {len(source):,} images; a step takes {stream.batch:,} images x "
            f"{_views(stream)}; in all {images * views_per_image(stream.crops):,} views, {_epochs(source, images)}"
        )
        if 0 < len(source) < stream.batch:
            lines.append("             fewer than a step takes: some are in it more than once, each its own negative")
        if problems := source.problems:
            lines.append(f"             {len(problems):,} left out, the first: {': '.join(problems[0])}")
        if getattr(stream.crops, "overlap", 0.0):
            near = mean_iou(stream.crops)
            lines.append(f"             mean IoU of an image's first view with its others: {near:.2f}")
    return lines


def _flops(recipe: Recipe, machine: Machine, batch: Any) -> list[str]:
    per_step, wanted = step_flops(recipe.method, batch), recipe.plan
    flops, devices = float(per_step) * recipe.steps, machine.devices if machine.accelerator else 1
    fast = duration(flops / (devices * wanted.peak * 1e12 * wanted.mfu))
    return [
        f"FLOPs        {_si(per_step / views_per_step(recipe.data))} per view, {_si(per_step)} per step, "
        f"{flops:.2e} in all (matrix products, nothing computed again)",
        f"time         {fast} on {devices:,} accelerator{'s' if devices > 1 else ''} at {wanted.mfu * 100:.3g} % of "
        f"{wanted.peak:,.4g} TFLOP/s, {duration(flops / TWO_CORES)} on two CPU cores "
        "(FLOPs / speed; evaluation and loading not counted)",
    ]


def _memory(recipe: Recipe, machine: Machine, batch: Any) -> tuple[list[str], list[str]]:
    """What a step needs on each device, and a sentence for each thing that is in its way."""
    streams = recipe.data.streams()
    flags = {name: recipe.data.flag(name, "batch").replace("_", "-") for name in streams}
    uneven = [
        f"{flags[name]} {stream.batch} must be a multiple of the {machine.devices} devices"
        for name, stream in streams.items()
        if stream.batch % machine.devices
    ]
    if recipe.mesh.kind == "hybrid" and not recipe.mesh.copies and recipe.plan.devices:
        uneven.append(
            "--mesh.copies must be given with --plan.devices: on how many machines they are is not known here"
        )
    if uneven:
        return [], uneven
    if not recipe.plan.compile:
        return [], []
    try:
        mesh = parallel.mesh(jax.devices("cpu")[: machine.devices], recipe.mesh.kind, recipe.mesh.copies)
    except ValueError as wrong:
        return [], [f"--mesh.copies: {wrong}"]
    assert mesh.size == machine.devices, "planning.stand_in comes before JAX has started"

    def need(method: Method) -> Memory:
        tx, tau = recipe.optim.build(recipe.steps), recipe.ema.schedule(recipe.steps)
        # The method's own state: what a tower keeps and computes in is written in the model, beside its arrays.
        state = jax.eval_shape(lambda batch: train.init(method, tx, recipe.seed, batch), batch)
        return step_memory(train.make_step(method, tx, tau, recipe.seed, mesh), state, batch, mesh)

    method = settled(recipe.method, machine.accelerator)
    found, limit = need(method), machine.memory * GIB
    there = f"there are {_bytes(limit)}" if limit else "--plan.memory GIB checks it against a limit"
    about = " (as a CPU lays it out, where bfloat16 takes more)" if machine.accelerator else ""
    lines = [
        f"memory       {_bytes(found.total)} per device, for {machine.said}: state and batch {_bytes(found.state)}, "
        f"the rest {_bytes(found.temporary)}{about}; {there}"
    ]
    if not limit or found.total <= limit:
        return lines, []
    ways = []
    frugal = [f"{flag} full" for flag, value in flags_of(method, "remat", "--method") if value != "full"]
    if frugal and (less := need(with_every(method, "remat", "full")).total) < found.total:
        ways.append(f"{' '.join(frugal)} ({_bytes(less)})")
    smallest = min(s.batch for s in streams.values())
    for devices in (machine.devices * 2**k for k in range(1, 11)):
        # What is not the state is shared out as the batch is.
        share = found.state + found.temporary * machine.devices / devices
        if share <= limit and smallest % devices == 0:
            ways.append(f"{devices:,} devices (about {_bytes(share)} each)")
            break
    ways.append("a smaller " + " and ".join(flags.values()))
    said = f"a step needs {_bytes(found.total)} per device, there are {_bytes(limit)}"
    return lines, [f"--plan.memory: {said}; try {', or '.join(ways)}"]


def _schedules(recipe: Recipe) -> list[str]:
    steps, warm = recipe.steps, round(recipe.optim.warmup * recipe.steps)
    points = [0, warm, *(round(warm + (steps - warm) * share) for share in (1 / 3, 2 / 3, 1))]
    schedules = recipe.optim.learning_rate(steps), recipe.optim.decay(steps), recipe.ema.schedule(steps)
    at = jax.jit(lambda step: [jnp.asarray(schedule(step)) for schedule in schedules])  # one compilation, not dozens
    with jax.numpy_dtype_promotion("standard"):  # optax divides an integer count
        found = [[float(x) for x in at(np.int32(point))] for point in points]
    decay, tau = (f"{found[0][k]:.3g} to {found[-1][k]:.3g}" for k in (1, 2))
    return [
        "lr           " + ", ".join(f"{x[0]:.2e} at step {p:,}" for p, x in zip(points, found, strict=True)),
        f"             weight decay {decay}, tau {tau}",
    ]


def _evaluation(recipe: Recipe) -> list[str]:
    if not recipe.eval.every:
        return []
    looks = -(-recipe.steps // recipe.eval.every) + 1
    return [f"evaluation   {looks:,} times: before the first step, every {recipe.eval.every:,} steps, at the end"]


def _disk(recipe: Recipe, size: int) -> tuple[list[str], list[str]]:
    """`size`: bytes of a checkpoint."""
    ckpt, folder = recipe.ckpt, recipe.out / "checkpoints"
    kept = [f"the newest {ckpt.keep}"] + ["the best"] * ckpt.keep_best
    kept += [f"those of every {ckpt.keep_every:,} steps"] * (ckpt.keep_every > 0)
    said = " and ".join([", ".join(kept[:-1]), kept[-1]] if len(kept) > 1 else kept)
    most = ckpt.most(recipe.steps) * size
    taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(_existing(recipe.out)).free + taken
    lines = [
        f"checkpoint   {_bytes(size)}; {said} are kept: with the one being written up to {_bytes(most)}, there are "
        f"{_bytes(free)}",
        f"folder       {recipe.out}" + (", which is there already" if recipe.out.exists() else ""),
    ]
    if most <= free:
        return lines, []
    less = ["another --out"] + [f"--ckpt.keep 1 (not {ckpt.keep})"] * (ckpt.keep > 1)
    less += ["--ckpt.no-keep-best"] * ckpt.keep_best + ["--ckpt.keep-every 0"] * (ckpt.keep_every > 0)
    said = f"checkpoints need up to {_bytes(most)}, and there are {_bytes(free)}"
    return lines, [f"--out {recipe.out}: {said}; try {', or '.join(less)}"]


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(there for there in (folder, *folder.parents) if there.exists())


def _together(numbers: list[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"({' + '.join(numbers)})"


def _views(stream: Stream) -> str:
    """4 views of 224 px; (2 views of 224 px + 8 views of 96 px) and a text of 64 tokens"""
    kinds = [f"{kind.n} view{'s' if kind.n > 1 else ''} of {kind.size} px" for kind in stream.crops.kinds().values()]
    return _together(kinds) + (f" and a text of {stream.texts.length} tokens" if stream.texts else "")


def _epochs(source: Source, images: int) -> str:
    if isinstance(source, Mixture):
        return f"epochs of its parts: {', '.join(f'{epochs:,.2f}' for epochs in source.epochs(images))}"
    return f"{images / len(source):,.2f} epochs"


def _si(flops: int | float) -> str:
    """1.2e9 -> 1.20 GFLOP"""
    letter, unit = next(((x, u) for x, u in (("P", 1e15), ("T", 1e12), ("G", 1e9)) if flops >= u), ("M", 1e6))
    return f"{flops / unit:.3g} {letter}FLOP"


def _bytes(size: int | float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.{0 if size >= 10 * 2**20 else 1}f} MiB"


def duration(seconds: int | float) -> str:
    """To two figures in the unit that fits: 100 -> 1.7 minutes, 72000 -> 20 hours."""
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} seconds" if seconds >= 1 else "under a second"
