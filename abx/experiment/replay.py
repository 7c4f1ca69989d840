"""A step that was refused, made once more with checks on: which numbers are not finite, and where the first arises."""

import math
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from abx import parallel, train
from abx.checkpoint import Checkpoints
from abx.data.sources import SpecError
from abx.experiment import diverged
from abx.experiment.config import Recipe

SHOWN = 5
"""Arrays that are named of each kind."""


class Replay(NamedTuple):
    folder: Path
    step: int
    loss: float
    gradient_norm: float
    again: bool
    """Whether what was refused happened again: loss or gradient is not finite, or the loss is above the limit."""
    limit: float
    """Above which the loss was a spike; infinity where nothing was."""
    devices: int
    """That shared the batch."""
    state: tuple[str, ...]
    """Arrays of the networks or the optimiser that were not finite before the step."""
    metrics: tuple[str, ...]
    """Figures of the step that are not finite."""
    gradients: tuple[str, ...]
    """Arrays whose gradient is not finite."""
    largest: tuple[tuple[str, float], ...]
    """The largest norms of gradients that are finite, with their arrays."""
    first: str
    """Where the first number that is not finite arises; empty if there is none."""

    @property
    def text(self) -> str:
        lines = [f"step {self.step} ({self.folder}), made once more on {self.devices} x {jax.default_backend()}:"]
        most = f" (refused above {self.limit:.6g})" if math.isfinite(self.limit) else ""
        lines += [f"  loss {self.loss:.6g}{most}, norm of the gradient {self.gradient_norm:.6g}"]
        for what, names in (
            ("not finite before the step", self.state),
            ("figures that are not finite", self.metrics),
            ("gradients that are not finite", self.gradients),
        ):
            more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines += [f"  {what}: {', '.join(names[:SHOWN]) or 'none'}{more}"]
        lines += ["  largest finite gradients: " + ", ".join(f"{name} {norm:.3g}" for name, norm in self.largest)]
        if self.first:
            lines += ["  the first number that is not finite arises here:"] + [
                f"    {x}" for x in self.first.split("\n")
            ]
        if not self.again:
            lines += ["  the step would be taken here: the fault was the device's, or comes of the order of sums"]
        return "\n".join(lines)


def replay(recipe: Recipe, run: Path) -> Replay:
    """Of the newest step that was refused. Raises: SpecError when none was kept."""
    folder = diverged.newest(run)
    if folder is None:
        raise SpecError(f"{run} has kept no step: none was refused. A run that stops at one says so")
    kept = diverged.read(folder, recipe.data.blank())
    tx = recipe.optim.build(recipe.steps)
    like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, recipe.data.blank()))
    # Over as many devices as share the batch, for a step of many would not find room on one.
    rows = math.gcd(*(x.shape[0] for x in jax.tree.leaves(kept.batch)))
    devices = max(n for n in range(1, jax.local_device_count() + 1) if rows % n == 0)
    mesh = parallel.mesh(jax.local_devices()[:devices])
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore_newest(like, parallel.replicated(mesh))
    if found is None:
        raise SpecError(f"{folder} holds no whole checkpoint")
    state = train.TrainState(*found[0])

    axis = parallel.axis(mesh) if devices > 1 else None

    def local(model: Any, target: Any, carry: Any, batch: Any, key: Any) -> Any:
        value, aux = recipe.method.loss(model, target, carry, batch, key, axis=axis)
        return parallel.mean(value, axis), parallel.mean(aux.metrics, axis)

    on_all = local if axis is None else parallel.shard_loss(local, mesh)
    batch = parallel.place(kept.batch, parallel.batched(mesh))

    def loss(model: Any) -> Any:
        return on_all(model, state.target, state.carry, batch, train.step_key(recipe.seed, state.step))

    (value, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.model)
    norms = {name: float(jnp.linalg.norm(jnp.ravel(x).astype(jnp.float32))) for name, x in _named(grads)}
    finite = sorted(((n, v) for n, v in norms.items() if math.isfinite(v)), key=lambda x: -x[1])
    total = math.sqrt(sum(v**2 for v in norms.values()))
    return Replay(
        folder=folder,
        step=kept.step,
        loss=float(value),
        gradient_norm=total,
        again=not (math.isfinite(value) and math.isfinite(total) and float(value) <= kept.limit),
        limit=kept.limit,
        devices=devices,
        state=tuple(name for name, x in _named(tuple(state)[1:]) if not _is_finite(x)),
        metrics=tuple(name for name, x in metrics.items() if not _is_finite(x)),
        gradients=tuple(name for name, v in norms.items() if not math.isfinite(v)),
        largest=tuple(finite[:SHOWN]),
        first=_first(recipe, state, kept.batch),
    )


def _first(recipe: Recipe, state: train.TrainState, batch: Any) -> str:
    """What JAX says of the first NaN or infinity, and the line of ours that it is in. On one device: it cannot look
    into what several do."""
    model, target, carry = jax.tree.map(lambda x: x.addressable_data(0), state[1:4])
    key = train.step_key(recipe.seed, state.step.addressable_data(0))

    def call() -> Any:
        return jax.jit(jax.grad(lambda model: recipe.method.loss(model, target, carry, batch, key)[0]))(model)

    with jax.debug_nans(True), jax.debug_infs(True):
        try:
            jax.block_until_ready(call())
        except FloatingPointError as wrong:
            ours = [f for f in traceback.extract_tb(wrong.__traceback__) if "/abx/" in f.filename.replace("\\", "/")]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}: {ours[-1].line}\n" if ours else ""
            return place + str(wrong).strip().partition("\n")[0]
        except jax.errors.JaxRuntimeError as wrong:
            if "RESOURCE_EXHAUSTED" not in str(wrong):
                raise
            return "where is not known: one device has no room for the whole step"
    return ""


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path).lstrip("."), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def _is_finite(x: Any) -> bool:
    return not jnp.issubdtype(x.dtype, jnp.inexact) or bool(np.isfinite(np.asarray(x, np.float32)).all())
