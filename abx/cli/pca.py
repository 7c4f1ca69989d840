"""`abx pca`: a picture of what a network makes of each patch."""

import json
from dataclasses import dataclass
from pathlib import Path

from abx.cli.errors import fail
from abx.cli.seeing import Seeing, problems_of_file

MOST = 100
"""Pictures on a page."""


@dataclass(frozen=True)
class PCA(Seeing):
    """Draw pictures beside three principal components of their tokens, as colours."""

    out: Path = Path("pca.png")
    """Picture to write, .png."""
    count: int = 12
    """Pictures on it, a fixed random choice; 100 at most."""
    components: tuple[int, int, int] = (1, 2, 3)
    """Which of them are red, green and blue; 1 = along which tokens differ most. One thrice is grey."""
    json: bool = False
    """Also print one JSON object, on the last line: {"out": "pca.png", "images": 12, "grid": [14, 14], "components":
    [1, 2, 3], "share": [0.31, 0.12, 0.08], "rejected": {"name": "reason", ...}}; share: of the tokens' variance."""

    def __call__(self) -> None:
        """Exits with 2 and a sentence for each thing that cannot be."""
        from abx.experiment.config import unwritable
        from abx.experiment.drawing import save_png
        from abx.experiment.embedding import Grid
        from abx.experiment.loading import config_of
        from abx.experiment.token_picture import token_picture
        from abx.probes.features import some

        found = self.problems()
        width = None if found else config_of(self.run, self.init, self.size, self.pool)
        found += self.too_small(count=1)
        if self.count > MOST:
            found.append(f"--count must be at most {MOST}, not {self.count}")
        if wrong := [k for k in self.components if k < 1 or (width is not None and k > width.width)]:
            most = "" if width is None else f" to {width.width}, the numbers of a token"
            found.append(f"--components must be from 1{most or ' up'}, not {wrong[0]}")
        found += problems_of_file(self.out, ".png")
        if sentence := unwritable(self.out.absolute().parent):
            found.append(f"--out {self.out}: {sentence}")
        self.refuse(found)
        source, subject = self.open_pictures("--data", self.data), self.open_network()
        records, look = some(source, self.count, self.seed), self.look(subject)
        seen = self.seen(subject, source, records, tokens="float32")
        grid = Grid.of(subject.backbone.config, look.size)
        try:
            title = f"Tokens of {subject.called}"
            drawn = token_picture(source, records[seen.places], look, seen, grid, self.components, title)
        except ValueError as wrong_tokens:
            fail(f"{self.run if self.run != 'none' else self.init}: {wrong_tokens}")
        try:
            save_png(drawn.page, self.out)
        except OSError as wrong_out:
            self.unwritten(wrong_out)
        shares = ", ".join(f"{part:.1%}" for part in drawn.share.tolist())
        print(f"components {', '.join(map(str, self.components))}: {shares} of the tokens' variance")
        print(f"written: {self.out}: {len(seen.names)} pictures, {grid.rows} x {grid.columns} tokens each")
        if self.json:
            said = {"out": str(self.out), "images": len(seen.names), "grid": [grid.rows, grid.columns]}
            figures = {"components": list(self.components), "share": [round(x, 6) for x in drawn.share.tolist()]}
            print(json.dumps(said | figures | {"rejected": dict(seen.rejected)}))
