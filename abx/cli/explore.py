"""The verb `abx explore`: a page on which two boxes are moved about a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class Explore:
    """Write the value explorer of a picture: one HTML page, which needs no network, to move two boxes about and see
    what each annotation is worth there, its reward here, and its best move."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of an AB run, e.g. runs/ab_clip-smoke."""
    image: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[IMAGE]")] = None
    """The picture: JPEG, PNG or whatever else Pillow reads. None given: see --sample."""
    sample: int = 0
    """Without an IMAGE: the number of a picture of the run's test data, or scenes:test for scenes, or else of the
    pictures that it moves about in."""
    annotations: tuple[str, ...] = ()
    """What fits the run's method: texts (AB over CLIP or SigLIP), picture files (SimCLR), numbers of prototypes or
    pictures that stand for their likeliest one (DINO). None given: those of the run's reward data that are worth most
    somewhere on the picture."""
    out: Path = Path("explorer.html")
    """HTML file to write."""
    checkpoints: tuple[str, ...] = ("newest",)
    """newest, best, all, or the numbers of steps; several make a slider."""
    network: Literal["online", "target"] = "online"
    """Which network answers: the trained one, or its moving average."""
    alone: bool = False
    """Share rewards out over the given annotations alone; else over as many as in training, the others being the
    run's own. Needs none of the run's data. Values do not change."""
    count: int = 6
    """How many annotations, where none are given."""
    places: tuple[int, int] = (5, 9)
    """Positions of source and of target boxes along each side of the picture: the grids that boxes snap to."""

    def __call__(self) -> None:
        """Exits with 2 and one sentence when something cannot be."""
        # Not before: --help and a mistyped verb need none of it.
        from abx.data.sources import SpecError, printable
        from abx.experiment.exploring import explore_run

        if self.image is not None and self.sample:
            fail("--sample is for when no IMAGE is given: leave one of the two out")
        if self.out.is_dir() or not self.out.parent.is_dir():
            why = "is a folder" if self.out.is_dir() else f"lies in {self.out.parent}, which does not exist"
            fail(f"--out {printable(str(self.out))} {printable(why)}: name an HTML file to write")
        try:
            found = explore_run(
                self.run,
                self.sample if self.image is None else self.image,
                self.annotations,
                checkpoints=self.checkpoints,
                network=self.network,
                alone=self.alone,
                count=self.count,
                places=self.places,
            )
            html = found.html
        except SpecError as wrong:
            fail(str(wrong).removeprefix("--run: ").removeprefix("--run "))
        except ValueError as wrong:  # a page too large, or a network that has diverged
            fail(str(wrong))
        try:
            self.out.write_text(html, encoding="utf-8")
        except OSError as wrong:
            fail(f"--out {printable(str(self.out))} cannot be written: {wrong.strerror or wrong}")
        print(f"written: {self.out} ({len(html) / 1e6:.1f} MB); open it in a browser")
