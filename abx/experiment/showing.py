"""A run on boards: which ones, and what they are told when it begins and when it goes on."""

from pathlib import Path

import numpy as np
from PIL import Image

from abx import hosts
from abx.boards import Boards
from abx.boards.tensorboard import TensorBoard
from abx.boards.wandb import WandB
from abx.experiment.config import Recipe
from abx.experiment.saved import flat, to_json
from abx.log import kept, numbers


def add_boards(boards: Boards, recipe: Recipe, step: int) -> None:
    """Those that a run asks for, which begins, or goes on, at `step`; one that is fresh is told all that was before.

    Of several processes only one has any. The run's `views.png` must be there.
    """
    out, log = recipe.out, recipe.log
    if not hosts.first():
        return
    if log.tensorboard:
        boards.add("TensorBoard", lambda: TensorBoard(out / "tensorboard", step))
    if log.wandb:
        online, config = log.wandb_mode == "online", flat(to_json(recipe))
        boards.add("Weights & Biases", lambda: WandB(out, out.name, log.wandb_project, config, online=online))
    show(boards, 0, out / "views.png", again=step > 0)
    for line in kept(out / "metrics.jsonl", step):
        row = numbers(line)
        boards.scalars(int(row.pop("step")), row, again=True)


def show(boards: Boards, step: int, path: Path, *, again: bool = False) -> None:
    """A picture of the run's folder, called as its file is."""
    if boards.open:
        with Image.open(path) as picture:
            boards.picture(step, path.stem, np.asarray(picture.convert("RGB")), again=again)
