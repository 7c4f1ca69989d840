"""A trainable probe is a method like any other: the same step, loop and checkpoints, and so the same exact resume."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax

from abx import parallel, train
from abx.checkpoint import Checkpoints
from abx.data.loader import Loaded
from abx.data.sources import SpecError
from abx.experiment.folder import locked
from abx.experiment.probing import Probe
from abx.experiment.saved import to_json
from abx.fit import Pace, fit
from abx.log import MetricsLog
from abx.methods.base import Method
from abx.optim import AdamW
from abx.train import TrainState


class ProbeLog(MetricsLog):
    """Stops a training whose loss is no number any more: what it would end with scores chance, and says nothing of the
    features."""

    def __init__(self, path: Path, step: int, name: str) -> None:
        super().__init__(path, step)
        self.name = name

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises: SpecError."""
        super().write(step, metrics)
        if not math.isfinite(loss := metrics["probe/loss"]):
            flag = f"--{self.name.partition('-')[0]}.optim.lr"
            raise SpecError(f"{flag} must be lower: the loss of {self.name} is {loss} at step {step}")


def trained(
    name: str,
    method: Method,
    batches: Callable[[int], AbstractContextManager[Iterator[Loaded]]],
    first: Any,
    *,
    recipe: Probe,
    optim: AdamW,
    steps: int,
    batch: int,
    about: Mapping[str, Any],
    rescale: Callable[[Any, Any], Any] | None = None,
    start: Callable[[TrainState], TrainState] = lambda state: state,
) -> TrainState:
    """The state after `steps`, in `recipe.folder`/probes/NAME-KEY; goes on where a run of the same was cut short.

    Args:
        name: of the probe and what it is trained on.
        batches: from a step on, as `fit` opens them.
        first: what `method.init` sees.
        batch: rows of a batch.
        about: whatever else the result depends on. With the method and its training it makes the KEY, so that a folder
            never holds another probe than the one that is asked for.
        rescale: of the optimiser's updates.
        start: what becomes of a fresh state.

    Raises: SystemExit with 128 + its number when a signal cut the training short; SpecError, also when the loss is no
        number any more; CheckpointError.
    """
    mesh = parallel.mesh()
    said = {"method": to_json(method), "optim": to_json(optim), "steps": steps, "batch": batch, "seed": recipe.seed}
    key = hashlib.sha256(json.dumps(said | dict(about), sort_keys=True).encode()).hexdigest()[:8]
    folder = recipe.folder / "probes" / f"{name}-{key}"
    tx = optim.build(steps)
    tx = tx if rescale is None else optax.chain(tx, optax.stateless(rescale))
    sharding = parallel.replicated(mesh)
    init = partial(train.init, method, tx, recipe.seed)
    with locked(folder):
        if not recipe.resume:
            for left in ("checkpoints", "metrics.jsonl"):
                place = folder / left
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        with Checkpoints(folder / "checkpoints", 1, False) as checkpoints:
            found = checkpoints.restore_newest(jax.eval_shape(init, first), sharding)
            state = TrainState(*found[0]) if found else parallel.place(start(jax.jit(init)(first)), sharding)
            print(f"{folder}: step {int(state.step)} of {steps}", flush=True)
            with ProbeLog(folder / "metrics.jsonl", int(state.step), name) as log:
                state, cut = fit(
                    # The moving average is of no use here: it stays as it began.
                    train.make_step(method, tx, optax.constant_schedule(0.0), recipe.seed, mesh, refuse=False),
                    state,
                    batches,
                    mesh=mesh,
                    pace=Pace(steps, recipe.log.every, 0, recipe.ckpt.every, batch),
                    log=log,
                    checkpoints=checkpoints,
                )
    if cut:
        raise SystemExit(128 + cut)
    return state
