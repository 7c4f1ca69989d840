"""Several processes begin a run together: only if all were started alike."""

import json
import os
from contextlib import suppress
from dataclasses import replace

import jax

from abx import hosts
from abx.data.sources import SpecError
from abx.experiment.config import Recipe
from abx.experiment.saved import differences, to_json

LOCAL = (
    *("out", "resume", "force", "plan", "data.workers", "data.worker"),
    *("mesh.coordinator", "mesh.process", "mesh.heartbeat", "mesh.joining"),
)
"""Settings that may be others on each machine. Paths of data may not: links can make them the same."""
BRIEFLY = 30
"""Seconds for which a process that cannot start waits for the others, to tell them."""


def join(recipe: Recipe) -> None:
    """Join the other processes, if there are any.

    Raises: SpecError in all of them when one has other settings than process 0, or cannot start; and when they do not
        find each other.
    """
    recipe.mesh.start()
    if hosts.several():
        _compare(recipe)


def alone(recipe: Recipe) -> bool:
    """Whether there is no other process, as far as flags and surroundings tell."""
    asked = recipe.mesh.coordinator
    return asked == "none" or not (asked or hosts.announced(os.environ))


def withdraw(recipe: Recipe) -> None:
    """Tell the other processes, if there are any, that this one cannot start: they would wait for it for minutes."""
    if alone(recipe) or recipe.dry_run or recipe.mesh.problems():
        return
    with suppress(SpecError):
        replace(recipe.mesh, joining=BRIEFLY).start()
        if hosts.several():
            _compare(recipe, well=False)


def _compare(recipe: Recipe, well: bool = True) -> None:
    mine = to_json(recipe)
    changed = differences(json.loads(hosts.from_first(json.dumps(mine))), mine, LOCAL)
    # All take part, whatever they have found: else the others would wait for what does not come.
    odd = hosts.where(bool(changed) or not well)
    if changed:
        me = f"process {jax.process_index()} of {jax.process_count()}"
        raise SpecError(f"{me} was started with other settings than process 0: {', '.join(changed)}")
    if odd:
        who = ", ".join(map(str, odd))
        raise SpecError(f"process {who} of {jax.process_count()} cannot start with this one, and says why")
