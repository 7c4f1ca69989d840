"""A run of Weights & Biases: in files beside the run, or at the service."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import UInt8


class WandB:
    """One run there for one run here, however often it is started: its id is kept in `folder`/wandb/id.txt.

    Offline each start writes the run from its beginning, in a folder of its own in `folder`/wandb, and the folders of
    earlier starts are deleted: `wandb sync` then sends every point once. Online the service keeps what it has of steps
    that come again.
    """

    def __init__(self, folder: Path, name: str, project: str, config: Mapping[str, Any], *, online: bool = False):
        """Raises: ImportError, OSError, and whatever wandb raises when it cannot begin."""
        # Else it sends its own errors to its makers, offline as well. It looks at this when it is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        there = folder / "wandb"
        there.mkdir(parents=True, exist_ok=True)
        kept = there / "id.txt"
        if not kept.exists():
            kept.write_text(uuid4().hex[:12])
        number = kept.read_text().strip()
        before = list(there.glob(f"offline-run-*-{number}"))
        self._image = wandb.Image
        self._run = wandb.init(
            project=project,
            name=name,
            id=number,
            dir=str(folder),
            config=dict(config),
            mode="online" if online else "offline",
            resume="allow" if online else None,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        self.fresh = not (online and self._run.resumed)
        for path in before:
            if path.resolve() != Path(self._run.dir).parent.resolve():
                shutil.rmtree(path, ignore_errors=True)

    def scalars(self, step: int, row: Mapping[str, float]) -> None:
        if step >= self._run.step:  # it takes no step twice, and would warn of each
            self._run.log(dict(row), step=step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        if step >= self._run.step:
            self._run.log({name: self._image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()
