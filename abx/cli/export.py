"""`abx export`: a trained network as one file, without what it was trained with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class Export:
    """Write a network of a run to one file, without optimiser and the other network, and print the lines that load it
    elsewhere. Its header, JSON, says what it is: sizes, how pictures are shown to it, run, step, views seen."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke; none = the network of a file, see --init."""
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
    init: str = ""
    """With RUN none: file of weights, .safetensors or .npz, with names of timm, DINO, DINOv2, big_vision or ours."""
    init_pixels: Literal["auto", "half", "imagenet"] = "auto"
    """How the network of --init wants pictures: half = in [-1, 1], as the exported one does; imagenet = less ImageNet's
    mean, over its deviation; auto = as the file says."""
    init_heads: int = 0
    """Attention heads of the network of --init, if its names do not tell; 0 = those of the usual ViT of its width."""
    parts: Literal["backbone", "all"] = "backbone"
    """backbone: what gives features; all: heads, decoder and text tower, too, with --format safetensors."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "model.safetensors", "format": "safetensors", "arrays": 18,
    "bytes": 5242880, "load": [lines], "network": "online", "step": 400, "views_seen": 76800, "parts": "backbone"}.
    "bytes": the arrays'. With RUN none there is "init", the file, in place of network, step and views."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        from abx.data.sources import SpecError
        from abx.experiment.cli import fail as fail_each
        from abx.experiment.config import unwritable
        from abx.experiment.elsewhere import commands, loaders, timm_call
        from abx.experiment.exporting import (
            about,
            arrays,
            problems,
            problems_of_file,
            resolved,
            safetensors_of,
            timm_arrays,
            write,
        )
        from abx.experiment.loading import load_subject, problems_of_network, untrained

        found = problems_of_file(self.run, self.init, self.parts)
        if not found:
            found = problems_of_network(
                self.run, self.network, self.step, self.init, 0, "gap", self.init_pixels, self.init_heads
            )
            found = [problem.removeprefix("--run ").replace("--run none", "RUN none") for problem in found]
        found += problems(self.out, self.format, self.parts)
        if sentence := unwritable(self.out.absolute().parent):
            found.append(f"--out {self.out}: {sentence}")
        if found:
            fail_each(found)
        kind = resolved(self.out, self.format)
        assert kind is not None
        try:
            of_file = self.run == "none"
            subject = (
                untrained(self.init, pixels=self.init_pixels, heads=self.init_heads)
                if of_file
                else load_subject(Path(self.run), self.network, self.step)
            )
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
        size = sum(x.nbytes for x in tensors.values())
        lines = commands(self.out, subject) if kind == "safetensors" else loaders(kind, self.out, config)
        called = "backbone" if of_file else f"{self.network} network of step {subject.step:,}"
        if subject.said:
            print(subject.said)
        print(f"{called}: {len(tensors)} arrays, {f'{size / 1e6:.1f} MB' if size >= 1e6 else f'{size / 1e3:.1f} kB'}")
        print(f"written: {self.out}; to load it:")
        print(*lines, sep="\n")
        if self.json:
            said = {"out": str(self.out), "format": kind, "arrays": len(tensors), "bytes": size, "load": lines}
            told = ("network", "step", "views_seen", "init", "parts")
            print(json.dumps(said | {name: header[name] for name in told if name in header}))
