"""For tests of the value explorer: untrained runs with checkpoints, and a page's numbers read back from its file."""

import base64
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from small import DINO_, SIMCLR, TEXT, ab

from abx import train
from abx.checkpoint import Checkpoints
from abx.data.layouts import ABCaptionData, ABData, ABMultiCropData
from abx.data.texts import Texts
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Recipe
from abx.experiment.saved import to_json
from abx.methods import CLIP
from abx.optim import AdamW

WORDS = replace(TEXT, vocab=512, length=16)
BATCHES: dict[str, Any] = {"reward_batch": 8, "value_batch": 8}
SQUARE = RandomCrops(n=2, size=16)
RUNS = {
    "ab_clip": (
        ab(CLIP(SIMCLR.backbone, WORDS, embed=20)),
        ABCaptionData(**BATCHES, reward_views=replace(SQUARE, n=1), value_views=SQUARE, reward_text=Texts(length=16)),
    ),
    "ab_simclr": (ab(SIMCLR), ABData(**BATCHES, reward_views=SQUARE, value_views=SQUARE)),
    "ab_dino": (
        ab(DINO_, reward_weight=1.0),
        ABMultiCropData(
            **BATCHES,
            reward_views=MultiCrops(RandomCrops(n=2, size=16), RandomCrops(n=2, size=8, scale=(0.05, 0.4))),
            value_views=SQUARE,
        ),
    ),
}


def saved_run(folder: Path, name: str, steps: tuple[int, ...] = (1, 3)) -> tuple[Recipe, dict[int, Any]]:
    """The folder of a run that was never trained: each checkpoint has parameters of its own. Recipe and states."""
    method, data = RUNS[name]
    recipe = Recipe(method=method, data=data, steps=3, optim=AdamW(), out=folder)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_json(recipe)))
    tx, states = recipe.optim.build(3), {}
    with Checkpoints(folder / "checkpoints", keep=9) as checkpoints:
        fresh = train.init(method, tx, 0, data.blank())
        for step in steps:
            larger = partial(jnp.multiply, jnp.float32(1 + step / 50))
            online, target = (jax.tree.map(larger, model) for model in (fresh.model, fresh.target))
            states[step] = fresh._replace(step=0 * fresh.step + np.int32(step), model=online, target=target)
            checkpoints.save(step, states[step], {})
    return recipe, states


class Page(NamedTuple):
    """What a page's script works from, decoded by other code than the script's."""

    data: dict[str, Any]

    @classmethod
    def of(cls, html: str) -> "Page":
        (written,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)
        return cls(json.loads(written))

    def boxes(self, which: str) -> np.ndarray:
        return np.array(self.data[which]["boxes"], np.float32)

    def logits(self, c: int) -> np.ndarray:
        """s g l"""
        each, (s, g, l) = self.data["checkpoints"][c], self.sizes
        numbers = np.frombuffer(base64.b64decode(each["logits"]), "<u2").reshape(s, g, l)
        return each["low"] + each["unit"] * numbers.astype(np.float64)

    def values(self, c: int) -> np.ndarray:
        """s g l"""
        return 1 / (1 + np.exp(-self.logits(c)))

    def rewards(self, c: int, which: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(self.data["checkpoints"][c][which]), "<f4").reshape(-1, self.sizes[2])

    @property
    def sizes(self) -> tuple[int, int, int]:
        return len(self.data["sources"]["boxes"]), len(self.data["targets"]["boxes"]), len(self.data["annotations"])


def one_network(state: Any, network: str = "online") -> tuple[Any, Any]:
    return (state.model if network == "online" else state.target), state.carry
