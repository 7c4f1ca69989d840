"""`abx embed`: features of pictures as a file, for whatever else one has in mind."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail

SAID_EVERY = 10.0
"""Seconds between lines of progress."""


@dataclass(frozen=True)
class Embed:
    """Write the features of pictures: one vector each, with names and labels."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke; none = a network of no run, see --init."""
    data: str = "scenes:test"
    """The pictures: `scenes`, `folder:PATH`, `tar:GLOB`, `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture."""
    out: Path = Path("features.npz")
    """File to write: .npz (features, names, labels, classes; numpy opens it), .parquet (a row for each picture), or
    .safetensors (features, labels; names and classes as JSON in the metadata)."""
    network: Literal["online", "target"] = "online"
    """Which of the run's networks: the trained one, or its moving average."""
    step: str = "newest"
    """Which of its checkpoints: newest, best, or the number of a step."""
    init: str = "S/16"
    """With RUN none: Ti, S, B, L or H, with the side of a patch: ViT-S/16; or the folder of a run, whose backbone is
    then as it was before the first step; or a file of weights, .safetensors or .npz."""
    init_pixels: Literal["auto", "half", "imagenet"] = "auto"
    """How the network of a file wants pictures: half = in [-1, 1]; imagenet = less ImageNet's mean, over its deviation;
    auto = as the file says."""
    pool: Literal["gap", "map", "token"] = "gap"
    """With RUN none: from tokens to features. A file says so itself."""
    seed: int = 0
    """With RUN none: of the parameters. With --limit: of the choice."""
    size: int = 0
    """Side of the views in pixels, a multiple of the patch; 0 = what the network was made for."""
    view: Literal["centre", "whole"] = "centre"
    """centre: short side to size 256 / 224, then the central square. whole: all of the picture squeezed to a square."""
    limit: int = 0
    """Pictures at most, a fixed random choice in the data's order; 0 = all."""
    batch: int = 256
    """Pictures per forward pass over all devices. Changes no result."""
    threads: int = 0
    """Threads that read and decode; 0 = as many as there are cores."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "features.npz", "images": 2500, "width": 384, "rejected":
    {"name": "reason", ...}, "seconds": 3.1}."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        # Not before: --help and a mistyped verb need none of it.
        from abx.data.sources import SpecError, printable
        from abx.data.specs import open_for
        from abx.experiment.cli import fail as fail_each
        from abx.experiment.embedding import Unwritable, missing, write
        from abx.experiment.loading import load_subject, untrained
        from abx.probes.cache import digest
        from abx.probes.features import Look, extract, some

        if problems := self._problems() + [f"--out {sentence}" for sentence in missing(self.out)]:
            fail_each([_said(sentence) for sentence in problems])
        try:
            source = open_for("--data", self.data)
        except SpecError as wrong:
            fail(str(wrong))
        try:
            if self.run == "none":
                subject = untrained(self.init, self.seed, self.size, self.pool, self.init_pixels)
            else:
                subject = load_subject(Path(self.run), self.network, self.step)
        except SpecError as wrong:
            fail(_said(str(wrong)))
        if subject.said:
            print(subject.said, flush=True)
        began = last = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > SAID_EVERY:
                last = time.monotonic()
                print(f"{done:,} of {total:,} pictures", flush=True)

        try:
            found = extract(
                subject.backbone,
                source,
                Look(self.size or subject.backbone.config.size, self.view),
                records=some(source, self.limit, self.seed),
                tokens=False,
                batch=self.batch,
                threads=self.threads,
                progress=progress,
            )
        except SpecError as wrong:
            fail(f"--data: {wrong}", 1)
        seconds = time.monotonic() - began
        about = {
            "run": subject.run,
            "init": subject.init,
            "network": subject.network,
            "step": str(subject.step),
            "data": self.data,
            "backbone_sha256": digest(subject.backbone),
        }
        try:
            write(self.out, found, source.classes, about)
        except Unwritable as wrong:
            fail(f"--out {wrong}")
        count, width = found.pooled.shape
        for name, reason in found.rejected[:16]:
            print(f"rejected: {name}: {printable(reason)}")
        if len(found.rejected) > 16:
            print(f"... {len(found.rejected):,} in all: --json names every one")
        print(f"written: {self.out}: {count:,} pictures x {width} in {seconds:.1f} s ({count / seconds:,.0f} a second)")
        if self.json:
            said = {"out": str(self.out), "images": count, "width": width, "rejected": dict(found.rejected)}
            print(json.dumps(said | {"seconds": round(seconds, 3)}))

    def _problems(self) -> list[str]:
        from abx.data.specs import check_spec
        from abx.experiment.loading import problems_of_network

        found = problems_of_network(
            self.run, self.network, self.step, self.init, self.size, self.pool, self.init_pixels
        )
        if sentence := check_spec(self.data):
            found.append(f"--data: {sentence}")
        for name, least in (("seed", 0), ("limit", 0), ("batch", 1), ("threads", 0)):
            if getattr(self, name) < least:
                found.append(f"--{name} must be at least {least}, not {getattr(self, name)}")
        return found


def _said(sentence: str) -> str:
    """Here the run is no flag."""
    return sentence.removeprefix("--run: ").removeprefix("--run ").replace("--run none", "RUN none")
