"""The console script `abx`: verbs over runs."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Report:
    """Is a run learning? Its figures in plain words, from metrics.jsonl; needs no device."""

    run: tyro.conf.Positional[Path]
    """Folder of the run, e.g. runs/ab_simclr-smoke."""
    json: bool = False
    """One JSON object on the last line: {"healthy": true, "step": 400, "metrics": {...}}."""


@dataclass(frozen=True)
class ValueMapVerb:
    """Draw the value map of a picture: what moving to each box is worth, for the annotations worth most."""

    run: tyro.conf.Positional[Path]
    """Folder of an AB run."""
    image: tyro.conf.Positional[Path]
    """The picture."""
    out: Path = Path("value_map.png")
    """Where to write the PNG."""
    box: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75)
    """The view to stand in, y0 x0 y1 x1 in [0, 1] of the picture."""
    network: str = "online"
    """online or target."""


Verb = (
    Annotated[Report, tyro.conf.subcommand("report")] | Annotated[ValueMapVerb, tyro.conf.subcommand("value-map")]
)


def main() -> None:
    verb = tyro.cli(Verb, prog="abx", description="Annotation bootstrapping: look at runs. Training: recipes/*.py.")
    if not verb.run.is_dir():
        sys.exit(_fail(f"there is no run folder {verb.run}"))
    report(verb) if isinstance(verb, Report) else value_map(verb)


def report(verb: Report) -> None:
    from abx.analysis.report import healthy
    from abx.experiment.folder import facts, verdict
    from abx.log import read_metrics

    rows = read_metrics(verb.run / "metrics.jsonl")
    if not rows:
        sys.exit(_fail(f"{verb.run} holds no metrics.jsonl with anything in it"))
    print(verdict(verb.run))
    if verb.json:
        last: dict[str, float] = {}
        for row in rows:
            last |= row
        print(json.dumps({"healthy": healthy(rows, facts(verb.run)), "step": last.pop("step"), "metrics": last}))


def value_map(verb: ValueMapVerb) -> None:
    from abx.data.images import BadImage, decode
    from abx.data.sources import SpecError
    from abx.data.streams import open_sources
    from abx.experiment.folder import load
    from abx.experiment.monitor import Monitor
    from abx.experiment.run import draw_map
    from abx.methods.ab import AB

    if verb.network not in ("online", "target"):
        sys.exit(_fail(f"--network must be online or target, not {verb.network}"))
    y0, x0, y1, x1 = verb.box
    if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
        sys.exit(_fail(f"--box must be 0 <= y0 < y1 <= 1 and the same for x, not {verb.box}"))
    try:
        picture = decode(verb.image.read_bytes())
        recipe, state = load(verb.run)
        if not isinstance(recipe.method, AB):
            sys.exit(_fail(f"{verb.run} is a run of {type(recipe.method).__name__}, which has no value function"))
        monitor = Monitor.open(recipe, open_sources(recipe.data.specs()))
    except (BadImage, OSError) as wrong:
        sys.exit(_fail(f"{verb.image} cannot be read: {wrong}"))
    except SpecError as wrong:
        sys.exit(_fail(str(wrong)))
    model = state.model if verb.network == "online" else state.target
    draw_map(verb.out, recipe.method, model, state.carry, picture, verb.box, monitor.batch(0).batch)
    print(f"written: {verb.out}")


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2
