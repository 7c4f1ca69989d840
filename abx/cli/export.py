"""`abx export`: a trained network as one file, without what it was trained with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from abx.cli.errors import fail


@dataclass(frozen=True)
class Export:
    """Write a network of a run to one safetensors file, without optimiser and the other network; its header says what
    it is (JSON under "abx")."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, e.g. runs/ab_simclr-smoke."""
    out: Path = Path("model.safetensors")
    """File to write."""
    network: Literal["online", "target"] = "online"
    """Which of the run's networks: the trained one, or its moving average."""
    step: str = "newest"
    """Which of its checkpoints: newest, best, or the number of a step."""
    parts: Literal["backbone", "all"] = "backbone"
    """backbone: what gives features; all: heads, decoder and text tower, too."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "model.safetensors", "arrays": 18, "bytes": 5242880,
    "network": "online", "step": 400, "views_seen": 76800, "parts": "backbone"}."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        from abx.data.sources import SpecError
        from abx.experiment.cli import fail as fail_each
        from abx.experiment.config import unwritable
        from abx.experiment.exporting import about, arrays, write
        from abx.experiment.loading import load_subject, problems_of_network

        if problems := problems_of_network(str(self.run), self.network, self.step, "S/16", 0, "gap"):
            fail_each([problem.replace("--run ", "", 1) for problem in problems])
        if self.out.suffix != ".safetensors":
            fail(f"--out must end in .safetensors, not {self.out.name}")
        if sentence := unwritable(self.out.absolute().parent):
            fail(f"--out {self.out}: {sentence}")
        try:
            subject = load_subject(self.run, self.network, self.step)
            tensors, header = arrays(subject, self.parts), about(subject, self.parts)
            write(self.out, tensors, header)
        except SpecError as wrong:
            fail(str(wrong))
        size = sum(x.nbytes for x in tensors.values())
        print(f"{self.network} network of step {subject.step:,}: {len(tensors)} arrays, {size / 1e6:.1f} MB")
        print(f"written: {self.out}")
        if self.json:
            said = {"out": str(self.out), "arrays": len(tensors), "bytes": size}
            print(json.dumps(said | {name: header[name] for name in ("network", "step", "views_seen", "parts")}))
