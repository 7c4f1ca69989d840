"""From runs to the numbers of a figure: each function looks at every checkpoint with the same batches."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from abx.analysis.curriculum import curriculum, ends, view_gradients
from abx.analysis.gradients import loss_alignment, two_losses
from abx.analysis.overlap import by_overlap, tally_of
from abx.analysis.paired import Paired, PairedCrops, paired_accuracy
from abx.analysis.rewards import reward_of
from abx.data import loader
from abx.data.sources import SpecError
from abx.data.streams import stream_seed
from abx.data.views import RandomCrops
from abx.experiment.heldout import SEED, Held
from abx.experiment.monitor import within_memory
from abx.methods.ab import AB
from abx.methods.base import Method
from abx.methods.dino import DINO
from abx.types import Pairs

SHOWN = 16
"""Views at either end of the curriculum that are shown (paper, Figure 9)."""
MOVES = 8
"""Crops that each image of Figure 8 right is looked at with (METHODS §5.5)."""

Say = Callable[[str], None]
Pixels = UInt8[np.ndarray, "h w 3"]


class Numbers(NamedTuple):
    """What a figure says of a run."""

    name: str
    """Of the run."""
    method: str
    steps: list[int]
    found: list[dict[str, Any]]
    """At each of them."""
    about: dict[str, Any]
    """How it was measured."""
    pictures: tuple[list[Pixels], list[Pixels]] | None = None
    """What the network of the last step learns least and most from."""


class Size(NamedTuple):
    """How much is looked at; 0 = what the figure takes by itself."""

    batches: int = 8
    images: int = 64
    """Of a batch."""
    annotations: int = 0
    """That views are scored against; 0 = as many as in training."""


def overlap(held: Held, size: Size, say: Say) -> Numbers:
    """Figure 4 right: see `abx.analysis.overlap`."""
    method = _bootstrapped(held)
    batches = _value_batches(held, size)

    def look(state: Any) -> dict[str, Any]:
        return by_overlap([jax.device_get(tally_of(method, *_networks(state), *each)) for each in batches])

    return through(held, look, say, _measured(held, batches))


def paired(held: Held, size: Size, say: Say) -> Numbers:
    """Figure 8 right: see `abx.analysis.paired`."""
    method, streams = held.recipe.method, held.recipe.data.streams()
    name, first = next(iter(streams.items()))
    count = size.annotations or min(1000, len(held.sources[name]))
    base = reward_of(method)
    if base is None or isinstance(base, DINO):
        why = "no rewards" if base is None else "prototypes, of which none is a picture's own"
        raise SpecError(f"{held.run} is a run of {called(method)}, which has {why}: there is no figure 8right of it")
    views = list(streams.values())[-1] if isinstance(method, AB) else first
    # Of 5 to 50 % of the area for all, whatever they were trained on: curves of several runs are then of one thing.
    moves = RandomCrops(MOVES, next(iter(views.crops.kinds().values())).size)
    crops = PairedCrops(moves, first.crops)
    seed = stream_seed(held.recipe.seed + SEED, first.seed)
    batch = loader.batches(held.sources[name], crops, count, seed, name, texts=first.texts)[0].batch
    found: Paired = batch.views if isinstance(batch, Pairs) else batch
    annotated = Pairs(found.annotated, batch.text) if isinstance(batch, Pairs) else found.annotated

    def look(state: Any) -> dict[str, Any]:
        return paired_accuracy(method, state.model, state.carry, found, annotated)

    how = about(held, first=True) | {"images": count, "moves": MOVES}
    return through(held, look, say, how)


def aligned(held: Held, size: Size, say: Say) -> Numbers:
    """Figure 8 left: see `abx.analysis.gradients`; mean and spread over batches."""
    method, names = held.recipe.method, two_losses(held.recipe.method)
    if names is None:
        raise SpecError(
            f"{held.run} is a run of {called(method)}, which has one loss: there is nothing for figure 8left to align"
        )
    same = lambda name, s: s._replace(batch=size.images)
    batches = [_keyed(i, each.batch) for i, each in enumerate(held.batches(size.batches, same, together=True))]

    def look(state: Any) -> dict[str, Any]:
        found = [jax.device_get(loss_alignment(method, *_networks(state), *each)) for each in batches]
        cosines = np.array([each.cosine for each in found], np.float64)
        ratio = np.array([each.second / each.first for each in found], np.float64)
        return {
            "cosine": float(cosines.mean()),
            "cosine_std": float(cosines.std()),
            "cosines": cosines.tolist(),
            "norm_ratio": float(ratio.mean()),
        }

    how = about(held, first=True) | {"losses": list(names), "batches": size.batches, "images": size.images}
    return through(held, look, say, how)


def taught(held: Held, size: Size, say: Say) -> Numbers:
    """Figure 9: see `abx.analysis.curriculum`."""
    method = _bootstrapped(held)
    batches = _value_batches(held, size)
    last: list[np.ndarray] = []

    def look(state: Any) -> dict[str, Any]:
        norms = [np.asarray(view_gradients(method, *_networks(state), *each), np.float64) for each in batches]
        last[:] = [np.concatenate(norms)]
        return curriculum(last[0].ravel())

    numbers = through(held, look, say, _measured(held, batches))
    views = np.concatenate([np.asarray(batch.value.images) for batch, _ in batches])
    low, high = (([views[m, n] for m, n in end]) for end in ends(last[0], SHOWN))
    return numbers._replace(pictures=(low, high))


def called(method: Method) -> str:
    """AB over CLIP"""
    return f"AB over {type(method.base).__name__}" if isinstance(method, AB) else type(method).__name__


def through(held: Held, look: Callable[[Any], dict[str, Any]], say: Say, about: dict[str, Any]) -> Numbers:
    steps, found = list[int](), list[dict[str, Any]]()
    for state in held.states():
        steps.append(int(state.step))
        found.append(look(state))
        say(f"{held.run}: step {steps[-1]} of {held.recipe.steps}")
    return Numbers(run_name(held), called(held.recipe.method), steps, found, about)


def run_name(held: Held) -> str:
    return held.name or held.run.resolve().name


def _bootstrapped(held: Held) -> AB[Any]:
    if not isinstance(held.recipe.method, AB):
        what = type(held.recipe.method).__name__
        raise SpecError(f"{held.run} is a run of {what}, which has no value function; give the folder of an AB run")
    return held.recipe.method


def _value_batches(held: Held, size: Size) -> list[tuple[Any, Any]]:
    """Batches of fewer value images and, unless said, as many annotations as in training; each with a key."""
    method, names = _bootstrapped(held), list(held.recipe.data.streams())
    counts = {names[0]: size.annotations, names[-1]: size.images}
    found = held.batches(size.batches, lambda name, s: s._replace(batch=counts[name] or s.batch))
    return [_keyed(i, within_memory(method, each.batch, size.images)) for i, each in enumerate(found)]


def _measured(held: Held, batches: list[tuple[Any, Any]]) -> dict[str, Any]:
    batch, method = batches[0][0], _bootstrapped(held)
    b, n = batch.value.images.shape[:2]
    count = method.base.annotation_count(batch.reward)
    return about(held) | {"batches": len(batches), "images": b, "views": n, "annotations": count}


def about(held: Held, *, first: bool = False) -> dict[str, Any]:
    """Where it is looked, and at which pictures. `first`: at those of the first stream alone."""
    if first:
        held = replace(held, specs=dict(list(held.specs.items())[:1]))
    return {"run": str(held.run), "data": held.specs, "new_pictures": held.new, "seed": held.recipe.seed}


def _keyed(i: int, batch: Any) -> tuple[Any, Any]:
    """With a key of its own, the same for every checkpoint."""
    return batch, jax.random.fold_in(jax.random.key(0), i)


def _networks(state: Any) -> tuple[Any, Any, Any]:
    return state.model, state.target, state.carry
