"""Checkpoints of the train state: written in the background, whole or not at all, the last few and the best kept."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

# Orbax reports every phase of every save at level INFO and its own retries at WARNING; what matters it raises.
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The folder `checkpoints/` of a run: one sub-folder per step.

    A save that was cut off leaves a temporary folder that is ignored and later overwritten.
    """

    def __init__(self, folder: Path, keep: int = 2, keep_best: bool = True):
        """`keep`: how many of the newest to keep; `keep_best`: and the one with the highest score."""
        policies: list[policy.PreservationPolicy] = [policy.LatestN(keep)]
        if keep_best:
            best = policy.BestN(get_metric_fn=lambda metrics: float(metrics["score"]), reverse=False, n=1)
            policies.append(best)
        self.manager = ocp.CheckpointManager(
            folder.resolve(),  # Orbax rejects relative paths
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(policies), enable_async_checkpointing=True
            ),
        )

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        step = self.manager.latest_step()
        return None if step is None else int(step)

    def best(self) -> int | None:
        """Step of the checkpoint with the highest score, among those that have one."""
        scored = {s: self.manager.metrics(s) for s in self.manager.all_steps()}
        finite = {s: m["score"] for s, m in scored.items() if m and math.isfinite(m["score"])}
        return max(finite, key=lambda s: finite[s]) if finite else None

    def save(self, step: int, state: Any, meta: Mapping[str, Any], score: float | None = None) -> None:
        """Start saving; returns as soon as the arrays are safe to be donated. `score`: higher is better, for keep-best.

        Every save carries a number, or Orbax would keep it for ever; no score and NaN count as minus infinity, or a
        NaN would win.
        """
        value = score if score is not None and math.isfinite(score) else -math.inf
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(dict(meta)))
        if step in self.manager.all_steps():
            return
        if not self.manager.save(step, args=args, metrics={"score": value}, force=True):
            raise RuntimeError(f"the checkpoint of step {step} was not saved: {self.manager.directory} has a newer one")

    def restore(self, step: int, like: Any, sharding: NamedSharding) -> tuple[Any, dict[str, Any]]:
        """The state and meta of a step. `like`: any state of the right shapes, abstract ones included.

        Shardings are ours, never the saved ones: a template without them restores onto the old machine's devices.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        restored = self.manager.restore(step, args=args)
        return restored["state"], restored["meta"]

    def wait(self) -> None:
        """Until everything started is on disk."""
        self.manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self.manager.close()
