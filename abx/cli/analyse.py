"""`abx analyse`: the paper's figures of training, of one's own runs; `abx targets`: what values were told."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from abx.cli.errors import fail
from abx.cli.labels import labels
from abx.cli.runs import recipe_at

if TYPE_CHECKING:
    from abx.experiment.heldout import Held


@dataclass(frozen=True)
class Analyse:
    """Draw the paper's figures of training, of runs of your own."""

    run: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN ...")]
    """Folders of runs, e.g. runs/ab_clip-smoke. Of several a figure has all."""
    figure: tuple[Literal["4middle", "4right", "5", "7", "8left", "8right", "9"], ...]
    """Which figures. 4right: accuracy of the value head for views near and far. 8left: do the gradients of the two
    losses pull the same way? 8right: which annotation is an image's own, by reward and by value. 9: which views the
    value loss teaches most. 7: what is said of one picture. Of several finished runs: 5, by gamma; 4middle, by the
    overlap of their crops. The others look at all checkpoints that a run has kept: two, unless the --ckpt.keep-every of
    its recipe says otherwise."""
    out: Path = Path("figures")
    """Folder to write to: FIGURE.png, and FIGURE.json with the numbers and how they were measured."""
    data: str = ""
    """Other pictures to look at, as data strings name them. Without, those of the run's own test; where it has none,
    scenes:test for scenes, else other crops of the training data."""
    annotated: str = ""
    """Other pictures again, of which annotations are made."""
    batches: int = 8
    """Batches that are looked at; the same for every checkpoint."""
    images: int = 64
    """Value images of a batch, at most; of 8left images of each loss."""
    annotations: int = 0
    """Reward images of a batch; in 8right how many annotations there are to choose from. 0 = as many as in training; in
    8right 1000, or what there is."""
    image: Path | None = None
    """Of 7: the picture. Without, the first of the pictures that annotations are made of."""
    candidates: tuple[str, ...] = ()
    """Of 7: the annotations: captions; over SimCLR files of pictures; over DINO numbers of prototypes. Without, those
    of the first ten pictures; of prototypes the ten that fit the picture best."""
    metric: str = ""
    """Of 5 and 4middle: a name in metrics.jsonl, or PROBE/TASK/FIGURE of what abx probe found, as decoder/count/top1.
    Without, eval/attentive_top1 or eval/knn_top1."""
    json: bool = False
    """Also print one JSON object, on the last line: {"written": ["figures/9.png", "figures/9.json"]}."""

    def __call__(self) -> None:
        analyse(self)


@dataclass(frozen=True)
class Targets:
    """See what the values of a batch were told, and where they are most wrong."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of an AB run, e.g. runs/ab_simclr-smoke."""
    out: Path = Path("targets.html")
    """HTML file to write, which needs nothing but itself: the largest errors. The numbers go beside it, into an .npz:
    of all pairs of views reward, best next value, chosen action, target, value and error, by the newest checkpoint."""
    data: str = ""
    """Other pictures to look at, as data strings name them. Without, those of the run's own test; where it has none,
    scenes:test for scenes, else other crops of the training data."""
    annotated: str = ""
    """Other pictures again, of which annotations are made."""
    images: int = 64
    """Value images, at most."""
    batch: int = 0
    """Which batch of them."""
    errors: int = 10
    """Errors on the page."""
    json: bool = False
    """Also print one JSON object, on the last line: {"step": 300, "loss": 4.31, "entropy": 3.97, ...}."""

    def __call__(self) -> None:
        targets(self)


def analyse(verb: Analyse) -> None:
    if not verb.run:
        fail("no run is named: abx analyse RUN --figure 4right")
    for flag, value, least in (
        ("batches", verb.batches, 1),
        ("images", verb.images, 2),
        ("annotations", verb.annotations, 0),
    ):
        if value < least:
            fail(f"--{flag} must be at least {least}, not {value}")
    if verb.out.exists() and not verb.out.is_dir():
        fail(f"--out {verb.out} is a file, not a folder")

    names = labels(verb.run)
    helds = [
        replace(_held(run, verb.data, verb.annotated), name=name) for run, name in zip(verb.run, names, strict=True)
    ]

    from abx.data.sources import BadRecord, SpecError
    from abx.experiment.analysing import Size
    from abx.experiment.illustrating import Wanted, illustrate

    wanted = Wanted(Size(verb.batches, verb.images, verb.annotations), verb.image, verb.candidates, verb.metric)
    written: list[str] = []
    for figure in dict.fromkeys(verb.figure):
        try:
            files = illustrate(figure, helds, wanted, verb.out, lambda line: print(line, flush=True))
        except (SpecError, BadRecord) as wrong:
            fail(str(wrong))
        except OSError as wrong:
            fail(f"--out {verb.out} cannot be written: {wrong.strerror or wrong}")
        print("written: " + "  ".join(map(str, files)))
        written += map(str, files)
    if verb.json:
        print(json.dumps({"written": written}))


def targets(verb: Targets) -> None:
    for flag, value, least in (("images", verb.images, 1), ("batch", verb.batch, 0), ("errors", verb.errors, 0)):
        if value < least:
            fail(f"--{flag} must be at least {least}, not {value}")
    if verb.out.is_dir():
        fail(f"--out {verb.out} is a folder; give the name of an HTML file")
    if verb.out.suffix == ".npz":
        fail(f"--out {verb.out} must not end in .npz, as the file of numbers beside it does")
    held = _held(verb.run, verb.data, verb.annotated)

    from abx.data.sources import BadRecord, SpecError
    from abx.experiment.inspecting import inspect_targets

    numbers = verb.out.with_suffix(".npz")
    try:
        found = inspect_targets(held, verb.images, verb.batch, verb.errors, verb.out, numbers)
    except (SpecError, BadRecord) as wrong:
        fail(str(wrong))
    except OSError as wrong:
        fail(f"--out {verb.out} cannot be written: {wrong.strerror or wrong}")
    print(f"step {found.step}: value loss {found.loss:.4f}, of it {found.floor:.4f} the entropy of the targets")
    print(f"written: {verb.out}  {numbers}")
    if verb.json:
        sizes = dict(zip(("images", "views", "annotations"), found.shape, strict=True))
        said = {"step": found.step, "loss": found.loss, "entropy": found.floor}
        print(json.dumps(said | sizes | {"out": str(verb.out), "numbers": str(numbers)}))


def _held(run: Path, data: str, annotated: str) -> "Held":
    recipe_at(run)

    from abx.data.sources import SpecError
    from abx.experiment.heldout import Held

    try:
        return Held.open(run, data, annotated)
    except SpecError as wrong:
        fail(str(wrong))
