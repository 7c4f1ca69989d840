"""What the verbs share that show pictures to a network: `abx embed`, `abx pca`, `abx neighbours`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro

from abx.cli.errors import fail, fail_each

if TYPE_CHECKING:
    from abx.data.sources import Source
    from abx.experiment.loading import Subject
    from abx.probes.features import Features, Look, Precision

SAID_EVERY = 10.0
"""Seconds between lines of progress."""
SAID = 16
"""Lines about rejected pictures."""


@dataclass(frozen=True)
class Seeing:
    """Which pictures, which network, and how it is shown them."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke; none = a network of no run, see --init."""
    data: str = "scenes:test"
    """The pictures: `scenes`, `folder:PATH`, `tar:GLOB`, `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture."""
    out: Path = Path()
    """File to write."""
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
    init_heads: int = 0
    """Attention heads of the network of a file whose names do not tell; 0 = those of the usual ViT of its width."""
    pool: Literal["gap", "map", "token"] = "gap"
    """With RUN none: from tokens to features. A file says so itself."""
    seed: int = 0
    """Of the choice of pictures, where not all are taken. With RUN none: of the parameters."""
    size: int = 0
    """Side of the views in pixels, a multiple of the patch; 0 = what the network was made for."""
    view: Literal["centre", "whole"] = "centre"
    """centre: short side to size 256 / 224, then the central square. whole: all of the picture squeezed to a square."""
    batch: int = 256
    """Pictures per forward pass over all devices. Changes no result."""
    threads: int = 0
    """Threads that read and decode; 0 = as many as there are cores."""

    def problems(self) -> list[str]:
        """What is wrong with these flags, as far as can be told without a device."""
        from abx.data.specs import check_spec
        from abx.experiment.loading import problems_of_network

        found = problems_of_network(
            self.run, self.network, self.step, self.init, self.size, self.pool, self.init_pixels, self.init_heads
        )
        if sentence := check_spec(self.data):
            found.append(f"--data: {sentence}")
        return found + self.too_small(seed=0, batch=1, threads=0)

    def too_small(self, **least: int) -> list[str]:
        """Sentences about numbers below the least that they may be."""
        numbers = {name: getattr(self, name) for name in least}
        return [
            f"--{name} must be at least {least[name]}, not {value}"
            for name, value in numbers.items()
            if value < least[name]
        ]

    def refuse(self, problems: list[str]) -> None:
        """Exits with 2 and each of them, if there are any. Here the run is no flag."""
        if problems:
            fail_each([_said(sentence) for sentence in problems])

    def open_pictures(self, flag: str, spec: str) -> "Source":
        """Exits with 2 where there are none."""
        from abx.data.sources import SpecError
        from abx.data.specs import open_for

        try:
            return open_for(flag, spec)
        except SpecError as wrong:
            fail(str(wrong))

    def open_network(self) -> "Subject":
        """Exits with 2 where it cannot be loaded. Says what was loaded of a file."""
        from abx.data.sources import SpecError
        from abx.experiment.loading import load_subject, untrained

        try:
            if self.run == "none":
                subject = untrained(self.init, self.seed, self.size, self.pool, self.init_pixels, self.init_heads)
            else:
                subject = load_subject(Path(self.run), self.network, self.step)
        except SpecError as wrong:
            fail(_said(str(wrong)))
        if subject.said:
            print(subject.said, flush=True)
        return subject

    def look(self, subject: "Subject") -> "Look":
        from abx.probes.features import Look

        return Look(self.size or subject.backbone.config.size, self.view)

    def seen(
        self,
        subject: "Subject",
        source: "Source",
        records: Any,
        *,
        tokens: "Precision | None" = None,
        file: IO[bytes] | None = None,
        flag: str = "--data",
    ) -> "Features":
        """See `extract`. Says how far it is, and what could not be read. Exits with 1 where none could be."""
        from abx.data.sources import SpecError, printable
        from abx.probes.features import extract

        last = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > SAID_EVERY:
                last = time.monotonic()
                print(f"{done:,} of {total:,} pictures", flush=True)

        try:
            found = extract(
                subject.backbone,
                source,
                self.look(subject),
                records=records,
                tokens=tokens is not None,
                precision=tokens or "float16",
                batch=min(self.batch, len(records)),
                threads=self.threads,
                file=file,
                progress=progress,
            )
        except SpecError as wrong:
            fail(f"{flag}: {wrong}", 1)
        for name, reason in found.rejected[:SAID]:
            print(f"rejected: {name}: {printable(reason)}")
        if len(found.rejected) > SAID:
            print(f"... {len(found.rejected):,} in all: --json names every one")
        return found

    def unwritten(self, wrong: OSError) -> NoReturn:
        """Exits with 2: `out` cannot be written."""
        fail(f"--out {self.out} cannot be written: {wrong.strerror or wrong}")


def problems_of_file(out: Path, *ends: str) -> list[str]:
    """Why there can be no such file, as far as can be told without trying."""
    from abx.data.sources import printable

    said = printable(str(out))
    if out.suffix.lower() not in ends:
        return [f"--out {said} must end in {', '.join(ends)}"]
    if out.is_dir() or not out.absolute().parent.is_dir():
        return [f"--out {said} {'is a folder' if out.is_dir() else f'lies in {out.parent}, which does not exist'}"]
    return []


def _said(sentence: str) -> str:
    return sentence.removeprefix("--run: ").removeprefix("--run ").replace("--run none", "RUN none")
