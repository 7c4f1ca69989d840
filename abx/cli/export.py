"""`abx export`: a trained network as one file, without what it was trained with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class Export:
    """Write a network of a run to one file, without optimiser and the other network, and print the two lines that load
    it elsewhere. Its header, JSON, says what it is: sizes, how pictures are shown to it, run, step, views seen."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke."""
    out: Path = Path("model.safetensors")
    """File to write: .safetensors or .stablehlo."""
    format: Literal["auto", "safetensors", "timm", "stablehlo"] = "auto"
    """safetensors: our own names, for --init of recipes and probes. timm: names and layouts of timm's ViT, as
    safetensors. stablehlo: a program with its parameters, for any number of pictures (extra export). auto: by the end
    of --out, safetensors or stablehlo."""
    network: Literal["online", "target"] = "online"
    """Which of the run's networks: the trained one, or its moving average."""
    step: str = "newest"
    """Which of its checkpoints: newest, best, or the number of a step."""
    parts: Literal["backbone", "all"] = "backbone"
    """backbone: what gives features; all: heads, decoder and text tower, too, with --format safetensors."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "model.safetensors", "format": "safetensors", "arrays": 18,
    "bytes": 5242880, "load": [two lines], "network": "online", "step": 400, "views_seen": 76800, "parts": "backbone"}.
    "bytes": the arrays'."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        from abx.data.sources import SpecError
        from abx.experiment.cli import fail as fail_each
        from abx.experiment.config import unwritable
        from abx.experiment.exporting import (
            about,
            arrays,
            loaders,
            problems,
            resolved,
            safetensors_of,
            timm_arrays,
            timm_call,
            write,
        )
        from abx.experiment.loading import load_subject, problems_of_network

        found = problems_of_network(str(self.run), self.network, self.step, "S/16", 0, "gap")
        found = [problem.replace("--run ", "", 1) for problem in found] + problems(self.out, self.format, self.parts)
        if sentence := unwritable(self.out.absolute().parent):
            found.append(f"--out {self.out}: {sentence}")
        if found:
            fail_each(found)
        kind = resolved(self.out, self.format)
        assert kind is not None
        try:
            subject = load_subject(self.run, self.network, self.step)
            config = subject.backbone.config
            tensors = timm_arrays(subject.backbone) if kind == "timm" else arrays(subject, self.parts)
            header = about(subject, self.parts)
            if kind == "timm":
                header["timm"] = timm_call(config)
            if kind == "stablehlo":
                from abx.experiment.stablehlo import archive_of

                write(self.out, lambda: archive_of(subject.backbone, header))
            else:
                write(self.out, lambda: safetensors_of(tensors, header))
        except SpecError as wrong:
            fail(str(wrong))
        size, lines = sum(x.nbytes for x in tensors.values()), loaders(kind, self.out, config)
        print(f"{self.network} network of step {subject.step:,}: {len(tensors)} arrays, {size / 1e6:.1f} MB")
        print(f"written: {self.out}; to load it:")
        print(*lines, sep="\n")
        if self.json:
            said = {"out": str(self.out), "format": kind, "arrays": len(tensors), "bytes": size, "load": lines}
            print(json.dumps(said | {name: header[name] for name in ("network", "step", "views_seen", "parts")}))
