"""Verbs over runs: `abx report`, `abx value-map`, `abx replay`."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from abx.cli.errors import fail
from abx.nearest import not_there

if TYPE_CHECKING:
    from abx.experiment.config import Recipe


@dataclass(frozen=True)
class Report:
    """Is a run learning? Its figures in plain words, from metrics.jsonl; also while it trains. Needs no device."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke."""
    json: bool = False
    """Also print one JSON object, on the last line: {"healthy": true, "step": 400, "metrics": {...}}, the newest value
    of each metric."""

    def __call__(self) -> None:
        report(self)


@dataclass(frozen=True)
class ValueMap:
    """Draw the value map of a picture: what moving to each box is worth, for the four annotations worth most."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of an AB run, e.g. runs/ab_simclr-smoke; its newest checkpoint is used."""
    image: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
    """The picture: JPEG, PNG or whatever else Pillow reads."""
    out: Path = Path("value_map.png")
    """PNG file to write."""
    box: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75)
    """The view to look from: y0 x0 y1 x1, in [0, 1] of the picture's height and width, from the top left."""
    network: Literal["online", "target"] = "online"
    """Which network answers: the trained one, or its moving average."""

    def __call__(self) -> None:
        value_map(self)


@dataclass(frozen=True)
class Replay:
    """A step that was refused, because its loss or gradient was not finite or a spike, made once more with checks on:
    which numbers are not finite, and where the first arises."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run that stopped; its diverged-STEP holds state, batch and key."""
    json: bool = False
    """Also print one JSON object, on the last line: {"step": 41, "loss": null, "again": true, "gradients": [...]}."""

    def __call__(self) -> None:
        replay(self)


def report(verb: Report) -> None:
    from abx.analysis.report import healthy
    from abx.experiment.folder import facts, verdict
    from abx.log import read_metrics

    recipe = recipe_at(verb.run)
    rows = read_metrics(verb.run / "metrics.jsonl")
    if not rows:
        fail(f"{verb.run} has no figures yet: the first come with step {recipe.log.every or recipe.steps}")
    print(verdict(verb.run))
    if verb.json:
        last: dict[str, float] = {}
        for row in rows:
            last |= row
        step = int(last.pop("step"))
        metrics = {k: v if math.isfinite(v) else None for k, v in last.items()}
        print(json.dumps({"healthy": healthy(rows, facts(verb.run)), "step": step, "metrics": metrics}))


def value_map(verb: ValueMap) -> None:
    y0, x0, y1, x1 = verb.box
    if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
        fail(f"--box must be y0 x0 y1 x1 with 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1, not {y0} {x0} {y1} {x1}")
    recipe = recipe_at(verb.run)

    from abx.data.images import BadImage, decode
    from abx.data.sources import SpecError
    from abx.data.streams import open_sources
    from abx.experiment.drawing import draw_map
    from abx.experiment.folder import load
    from abx.experiment.monitor import Monitor
    from abx.methods.ab import AB

    method = recipe.method
    if not isinstance(method, AB):
        fail(
            f"{verb.run} is a run of {type(method).__name__}, which has no value function; give the folder of an AB run"
        )
    try:
        picture = decode(verb.image.read_bytes())
    except BadImage as wrong:
        fail(f"{verb.image} is not a picture that can be read: {wrong}")
    except FileNotFoundError:
        fail(not_there(verb.image))
    except OSError as wrong:
        fail(f"{verb.image} cannot be read: {wrong.strerror}")
    try:
        _, state = load(verb.run)
        # One picture each, as no probe is asked for.
        recipe = replace(recipe, eval=replace(recipe.eval, train_images=1, test_images=1))
        batch = Monitor.open(recipe, open_sources(recipe.data)).batch(0).batch
    except SpecError as wrong:
        fail(str(wrong))
    model = state.model if verb.network == "online" else state.target
    try:
        draw_map(verb.out, method, model, state.carry, picture, verb.box, batch, recipe.data.streams()["reward"].texts)
    except OSError as wrong:
        fail(f"--out {verb.out} cannot be written: {wrong.strerror or wrong}")
    print(f"written: {verb.out}")


def replay(verb: Replay) -> None:
    recipe = recipe_at(verb.run)

    from abx.checkpoint import CheckpointError
    from abx.data.sources import SpecError
    from abx.experiment.replay import replay

    try:
        found = replay(recipe, verb.run)
    except (SpecError, CheckpointError) as wrong:
        fail(str(wrong))
    print(found.text)
    if verb.json:
        node = found._asdict() | {"folder": str(found.folder)}
        node |= {k: v if math.isfinite(v) else None for k, v in node.items() if isinstance(v, float)}
        print(json.dumps(node))


def recipe_at(run: Path) -> "Recipe":
    from abx.experiment.folder import recipe_of

    if not run.is_dir():
        fail(f"{run} is a file, not a run folder" if run.exists() else not_there(run))
    try:
        return recipe_of(run)
    except FileNotFoundError:
        fail(f"{run} is not the folder of a run: it has no config.json")
    except (OSError, ValueError, RecursionError) as wrong:
        fail(f"{run / 'config.json'} is not a configuration that this version of abx reads: {wrong}")
