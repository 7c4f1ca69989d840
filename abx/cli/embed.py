"""`abx embed`: features of pictures as a file, for whatever else one has in mind."""

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abx.cli.errors import fail
from abx.cli.seeing import Seeing, problems_of_file


@dataclass(frozen=True)
class Embed(Seeing):
    """Write features of pictures, a vector of each or of each of its tokens."""

    out: Path = Path("features.npz")
    """File to write: .npz (features, tokens, names, labels, classes; numpy opens it), .safetensors (features, tokens,
    labels; names and classes as JSON in the metadata), or .parquet (a row for each picture; no tokens)."""
    features: Literal["pooled", "tokens", "both"] = "pooled"
    """pooled: one vector for each picture, in float32. tokens: "n t d", as the last norm gives them, with their grid:
    [CLS] and registers, if there are any, then the patches row by row."""
    precision: Literal["float16", "float32"] = "float16"
    """Of tokens; float16 is half the file, and has every digit of what accelerators compute."""
    limit: int = 0
    """Pictures at most, a fixed random choice in the data's order; 0 = all."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "features.npz", "images": 2500, "width": 384, "features":
    "pooled", "rejected": {"name": "reason", ...}, "seconds": 3.1}, and with tokens "grid": [rows, columns] and
    "patches_from": tokens before the patches."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        # Not before: --help and a mistyped verb need none of it.
        from abx.experiment.embedding import Grid, Unwritable, missing, no_room, write
        from abx.probes.cache import digest
        from abx.probes.features import some

        wrong_file = problems_of_file(self.out, ".npz", ".parquet", ".safetensors")
        wrong_file = wrong_file or [f"--out {sentence}" for sentence in missing(self.out, self.features)]
        if self.precision != "float16" and self.features == "pooled":
            wrong_file.append("--precision is that of tokens: pooled features are float32, so leave it out")
        self.refuse(self.problems() + self.too_small(limit=0) + wrong_file)
        source, subject = self.open_pictures("--data", self.data), self.open_network()
        records, config = some(source, self.limit, self.seed), subject.backbone.config
        grid, tokens = Grid.of(config, self.look(subject).size), self.features != "pooled"
        if tokens and (sentence := no_room(self.out, len(records), grid, config.width, self.precision)):
            fail(f"--out {sentence}")
        began = time.monotonic()
        with ExitStack() as stack:
            try:
                # Beside the file that they go to, where there is room.
                folder = self.out.absolute().parent
                file = stack.enter_context(tempfile.TemporaryFile(dir=folder)) if tokens else None
                found = self.seen(subject, source, records, tokens=self.precision if tokens else None, file=file)
            except OSError as wrong:
                self.unwritten(wrong)
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
                write(self.out, found, source.classes, about, self.features, grid)
            except Unwritable as wrong:
                fail(f"--out {wrong}")
        count, width = found.pooled.shape
        shape = f"{grid.tokens} tokens x {width}" if self.features == "tokens" else str(width)
        more = f", {grid.tokens} tokens of each" if self.features == "both" else ""
        rate = f"in {seconds:.1f} s ({count / seconds:,.0f} a second)"
        print(f"written: {self.out}: {count:,} pictures x {shape}{more} {rate}")
        if self.json:
            said = {"out": str(self.out), "images": count, "width": width, "features": self.features}
            lie = {"grid": [grid.rows, grid.columns], "patches_from": grid.patches_from} if tokens else {}
            print(json.dumps(said | lie | {"rejected": dict(found.rejected), "seconds": round(seconds, 3)}))
