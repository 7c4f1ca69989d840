"""The value explorer of a run: its checkpoints, a picture, and annotations that fit its method."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from abx.analysis.explorer import MOST, Annotation, Exploration, explore, page_bytes
from abx.analysis.value_grid import both_grids, most_valued
from abx.data.images import BadImage, decode
from abx.data.sources import BadRecord, SpecError
from abx.data.streams import open_sources
from abx.experiment.annotating import Annotated, annotate, shown_by
from abx.experiment.config import Recipe
from abx.experiment.drawing import annotation_look
from abx.experiment.heldout import Held
from abx.experiment.loading import Network, load_state, problems_of_network, steps_of
from abx.experiment.monitor import Monitor
from abx.methods.ab import AB
from abx.nearest import not_there
from abx.types import MultiCrop, Pixels

PICTURE = 500_000
"""Bytes that the picture and the looks of annotations may take of a page."""


def explore_run(
    run: Path,
    image: Path | int,
    annotations: Sequence[str] = (),
    *,
    checkpoints: Sequence[str] = ("newest",),
    network: Network = "online",
    alone: bool = False,
    count: int = 6,
    places: tuple[int, int] = (5, 9),
) -> Exploration:
    """Values of moving about a picture: shows itself in a notebook; `.html` is the page of `abx explore`.

    Args:
        image: a file; or the number of a picture of those that `Held.open` names, which the run has not learnt from
            where there are such.
        annotations: as `annotating.annotate` takes them. None: the `count` of the run's reward data that the last
            checkpoint values highest somewhere on the picture.
        checkpoints: newest, best, all, or numbers of steps; several make a slider.
        alone: rewards are shared out over `annotations` and no others; the run's data are not needed then.
        places: positions of source and target boxes along each side of the picture.

    Raises: SpecError, one sentence.
    """
    if problems := _problems(annotations, checkpoints, alone, count, places):
        raise SpecError(problems[0])
    names = [str(step) for step in steps_of(run)] if "all" in checkpoints else list(dict.fromkeys(checkpoints))
    for name in names or ["newest"]:
        if problems := problems_of_network(str(run), network, name, "", 0, "gap"):
            raise SpecError(problems[0].replace("--step", "--checkpoints"))
    picture, called = (_decoded(image), image.name) if isinstance(image, Path) else _sample(run, image)
    loaded = [load_state(run, name) for name in names]
    states = {int(state.step): state for _, state in sorted(loaded, key=lambda each: int(each[1].step))}
    recipe = loaded[0][0]
    method = recipe.method
    if not isinstance(method, AB):
        raise SpecError(f"{run} is a run of {type(method).__name__}, which has no value function; give one of AB")
    size = page_bytes(len(annotations) or count, places, len(states)) + PICTURE
    if size > MOST:
        raise SpecError(
            f"the page would have about {size / 1e6:.0f} MB, above {MOST / 1e6:.0f}: give fewer --annotations or "
            "--checkpoints, or smaller --places"
        )
    models = {s: (x.model if network == "online" else x.target, x.carry) for s, x in states.items()}
    last = list(models.values())[-1]
    view = recipe.data.blank().value.images.shape[2]
    found = _annotated(recipe, method, last, annotations, alone, picture, places, count, view)
    return explore(
        method,
        models,
        picture,
        found.batch,
        found.looks,
        size=view,
        places=places,
        title=f"{run.resolve().name}: what moving about {called} is worth",
        note=f"{found.note} Values and rewards are those of the {network} network.",
    )


def _problems(
    annotations: Sequence[str], checkpoints: Sequence[str], alone: bool, count: int, places: tuple[int, int]
) -> list[str]:
    found = []
    if not checkpoints:
        found.append("--checkpoints: name one at least")
    if alone and not annotations:
        found.append("--alone: name the --annotations that rewards are to be shared out over")
    if twice := [each for k, each in enumerate(annotations) if each in annotations[:k]]:
        found.append(f"--annotations: {twice[0]!r} is named twice")
    if count < 1:
        found.append(f"--count must be at least 1, not {count}")
    if not all(1 <= each <= 25 for each in places):
        found.append(f"--places must be two numbers from 1 to 25, not {places[0]} {places[1]}")
    return found


def _decoded(image: Path) -> Pixels:
    try:
        return decode(image.read_bytes())
    except BadImage as wrong:
        raise SpecError(f"{image} is not a picture that can be read: {wrong}") from wrong
    except FileNotFoundError:
        raise SpecError(not_there(image)) from None
    except OSError as wrong:
        raise SpecError(f"{image} cannot be read: {wrong.strerror}") from wrong


def _sample(run: Path, number: int) -> tuple[Pixels, str]:
    """A held-out picture of those that values are learnt on, and what it is called."""
    held = Held.open(run)
    name, source = list(held.sources.items())[-1]
    if not 0 <= number < len(source):
        raise SpecError(f"--sample must be from 0 to {len(source) - 1:,}, of {held.specs[name]}, not {number}")
    try:
        return source[number].image, f"picture {number} of {held.specs[name]}"
    except BadRecord as wrong:
        raise SpecError(f"--sample {number} of {held.specs[name]} cannot be read: {wrong}") from wrong


def _annotated(
    recipe: Recipe,
    method: AB[Any],
    network: tuple[Any, Any],
    given: Sequence[str],
    alone: bool,
    picture: Pixels,
    places: tuple[int, int],
    count: int,
    view: int,
) -> Annotated:
    texts = recipe.data.streams()["reward"].texts
    batch = recipe.data.blank().reward if alone else reward_batch(recipe)
    if given:
        return annotate(method, *network, given, batch, texts, alone=alone)
    sources, targets = (grid.flat for grid in both_grids((picture.shape[0], picture.shape[1]), places))
    chosen = most_valued(method, network[0], picture, sources, targets, batch, count, size=view).tolist()
    looks = {}
    for i in chosen:
        look = annotation_look(batch, i, texts)
        looks[i] = Annotation(look) if isinstance(look, str) else Annotation(f"picture {i} of the reward data", look)
    if isinstance(batch, MultiCrop):
        looks = shown_by(method, *network, batch, looks)
    total = f"{method.base.annotation_count(batch):,}"
    return Annotated(batch, looks, f"These are the most valued, somewhere on the picture, of {total} annotations.")


def reward_batch(recipe: Recipe) -> Any:
    """That of the value map of a run; one picture each, as no probe is asked for."""
    recipe = replace(recipe, eval=replace(recipe.eval, train_images=1, test_images=1))
    try:
        return Monitor.open(recipe, open_sources(recipe.data)).batch(0).batch.reward
    except SpecError as wrong:
        raise SpecError(f"{wrong}; with --annotations and --alone the run's data are not needed") from wrong
