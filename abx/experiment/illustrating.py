"""A figure of the paper, from runs to a picture and its numbers on disk."""

import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from PIL import Image

from abx.analysis import plots
from abx.analysis.gradients import two_losses
from abx.data.sources import SpecError
from abx.experiment import analysing, sweeps
from abx.experiment.analysing import Numbers, Say, Size
from abx.experiment.candidates import candidates
from abx.experiment.drawing import save_png
from abx.experiment.heldout import Held, seen
from abx.experiment.surroundings import environment

Figure = Literal["4middle", "4right", "5", "7", "8left", "8right", "9"]


class Wanted(NamedTuple):
    """What is asked for beside the figure and the runs."""

    size: Size = Size()
    image: Path | None = None
    candidates: tuple[str, ...] = ()
    metric: str = ""


class Drawn(NamedTuple):
    picture: Callable[[str], Image.Image]
    """With a footer."""
    numbers: dict[str, Any]
    how: str
    """How it was measured, for the footer."""


def illustrate(figure: Figure, helds: Sequence[Held], wanted: Wanted, out: Path, say: Say) -> tuple[Path, Path]:
    """Writes FIGURE.png and FIGURE.json into the folder `out`, and says where.

    Raises: SpecError for runs that there is no such figure of; OSError.
    """
    drawn = FIGURES[figure](helds, wanted, say)
    now, made = datetime.now(UTC).isoformat(timespec="seconds"), environment()
    made["command"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    devices = f"{len(made['devices'])} x {made['devices'][0]}"
    footer = f"{drawn.how} abx {made['abx']}, jax {jax.__version__}, {devices}, {now}: {made['command']}"
    out.mkdir(parents=True, exist_ok=True)
    picture, numbers = out / f"{figure}.png", out / f"{figure}.json"
    save_png(drawn.picture(footer), picture)
    numbers.write_text(
        json.dumps(_plain({"figure": figure, "date": now, "made": made, **drawn.numbers}), indent=1) + "\n"
    )
    return picture, numbers


def _through(function: Callable[[Held, Size, Say], Numbers], plot: Callable[..., Image.Image]) -> "Maker":
    """A figure with something for every checkpoint of every run."""

    def make(helds: Sequence[Held], wanted: Wanted, say: Say) -> Drawn:
        found = [function(held, wanted.size, say) for held in helds]
        for each in found:
            if len(each.steps) == 1:
                say(f"{each.name} has one checkpoint, which is a dot and no curve: --ckpt.keep-every keeps more")
        runs = [plots.Through(each.name, each.steps, each.found) for each in found]
        more: list[Any] = []
        if plot is plots.plot_curriculum:
            more = [[each.pictures for each in found]]
        elif plot is plots.plot_aligned:
            more = [[two_losses(held.recipe.method) for held in helds]]
        return Drawn(lambda footer: plot(runs, *more, footer), _numbers(found), _how(found))

    return make


def _seven(helds: Sequence[Held], wanted: Wanted, say: Say) -> Drawn:
    asked = [candidates(held, wanted.image, wanted.candidates, say) for held in helds]
    first = asked[0].numbers.about["candidates"]
    if other := next((each for each in asked if each.numbers.about["candidates"] != first), None):
        raise SpecError(
            f"figure 7 of several runs needs one picture and candidates for all: {other.numbers.name} has others than "
            f"{asked[0].numbers.name}; give them by --image and --candidates"
        )
    found = [each.numbers for each in asked]
    runs = [plots.Through(each.name, each.steps, each.found) for each in found]
    draw = lambda footer: plots.plot_candidates(runs, asked[0].picture, asked[0].looks, footer, own=asked[0].own)
    return Drawn(draw, _numbers(found), _how(found))


def _sweep(title: str, x_name: str, setting: Callable[[Held], float], loss: bool, swept: Sequence[str]) -> "Maker":
    def make(helds: Sequence[Held], wanted: Wanted, say: Say) -> Drawn:
        for line in (apart := sweeps.unlike(helds, swept)):
            say(f"they differ in more than what is drawn: {line}")
        runs = sweeps.sweep(helds, setting, wanted.metric, wanted.size.batches if loss else 0, say)
        panels = sweeps.panels(runs)
        numbers = {"runs": [run._asdict() for run in runs], "panels": panels, "unlike": apart}
        how = f"{len(runs)} runs: {', '.join(run.name for run in runs)}."
        if apart:
            how += f" They differ in more than what is drawn: {'; '.join(apart)}."
        return Drawn(lambda footer: plots.plot_sweep(title, x_name, panels, footer), numbers, how)

    return make


CROPS = ("data.views", "data.value_views", "data.batch", "data.value_batch")
Maker = Callable[[Sequence[Held], Wanted, Say], Drawn]
FIGURES: dict[Figure, Maker] = {
    "4middle": _sweep(
        "Figure 4 middle: how near the crops are", "mean IoU of source and target", sweeps.overlap_of, False, CROPS
    ),
    "4right": _through(analysing.overlap, plots.plot_overlap),
    "5": _sweep("Figure 5: the discount", "gamma", sweeps.gamma_of, True, ("method.gamma",)),
    "7": _seven,
    "8left": _through(analysing.aligned, plots.plot_aligned),
    "8right": _through(analysing.paired, plots.plot_paired),
    "9": _through(analysing.taught, plots.plot_curriculum),
}


def _numbers(found: Sequence[Numbers]) -> dict[str, Any]:
    rows = lambda each: [{"step": step} | dict(row) for step, row in zip(each.steps, each.found, strict=True)]
    return {"runs": [{"name": e.name, "method": e.method, **e.about, "checkpoints": rows(e)} for e in found]}


def _how(found: Sequence[Numbers]) -> str:
    """One sentence for each way in which the runs were looked at."""
    said = dict.fromkeys(_sentence(each.about) for each in found)
    return " ".join(said)


def _sentence(about: Mapping[str, Any]) -> str:
    whence = " and ".join(dict.fromkeys(about["data"].values()))
    names = ("batches", "images", "views", "moves", "annotations")
    first = f"On {whence} ({seen(about['new_pictures'])})"
    return ", ".join([first, *(f"{about[name]} {name}" for name in names if name in about)]) + "."


def _plain(node: Any) -> Any:
    """For JSON: what is not a finite number is null."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
