"""Which system of the paper a recipe is, and on what data."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from abx.analysis import paper
from abx.analysis.cells import Result, Run
from abx.analysis.tables import DATASETS
from abx.data.mixture import split
from abx.data.sources import SpecError, printable
from abx.data.specs import scheme_names
from abx.data.streams import views_per_step
from abx.experiment.config import Recipe
from abx.experiment.saved import HARMLESS, flat, to_json
from abx.methods import AB, CLIP, DINO, IJEPA, MAE, SLIP, CLIPAug, SigLIP, SiLC, SimCLR
from abx.nn import ViTConfig

SYSTEMS = {
    MAE: "MAE",
    IJEPA: "I-JEPA",
    SimCLR: "SimCLR",
    DINO: "DINO",
    CLIP: "CLIP",
    CLIPAug: "CLIP+Aug",
    SigLIP: "SigLIP",
    SLIP: "SLIP",
    SiLC: "SiLC",
}
"""What the paper calls our methods."""
FOLDERS = {
    "imagenet": "imagenet",
    "imagenet1k": "imagenet",
    "in1k": "imagenet",
    "ilsvrc2012": "imagenet",
    "cc12m": "cc12m",
    "coco": "coco",
    "coco2017": "coco",
    "mscoco": "coco",
    "epickitchens": "epic_kitchens",
    "epickitchens100": "epic_kitchens",
    "ek100": "epic_kitchens",
}
"""What folders of the paper's data are called, without - and _; a side in pixels may follow."""


def described(name: str, recipe: Recipe, results: tuple[Result, ...] = (), called: Mapping[str, str] = {}) -> Run:
    """Which system of the paper a recipe is, and on what data."""
    method: Any = recipe.method
    ab = isinstance(method, AB)
    base = method.base if ab else method
    system = SYSTEMS.get(type(base), type(base).__name__)
    lacks = ablations(recipe)
    streams = recipe.data.streams()
    specs = [dataset_of(stream.spec, called) for stream in streams.values()]
    return Run(
        folder=name,
        system=paper.ablated(f"AB_{system}", *lacks) if ab else system,
        base=(f"AB_{system}" if lacks else system) if ab else "",
        reward=specs[0],
        value=specs[-1],
        texts=next((stream.texts.kind for stream in streams.values() if stream.texts), ""),
        backbone=sizes(recipe.backbone),
        setting=_setting(recipe),
        seed=recipe.seed,
        views=views_per_step(recipe.data),
        network="target" if isinstance(base, DINO) else "online",
        results=results,
    )


def sizes(backbone: ViTConfig | None) -> str:
    """Of a backbone, as tables say them: the same for those that can be compared."""
    if backbone is None:
        return "no ViT"
    return f"ViT {backbone.width} x {backbone.depth}, patches of {backbone.patch}, {backbone.size} px"


def ablations(recipe: Recipe) -> tuple[str, ...]:
    """Which of Table 5 a run of AB is, by its names."""
    method = recipe.method
    if not isinstance(method, AB):
        return ()
    lacks = {
        paper.AUGMENTED: method.augment_value,
        paper.BLIND: not method.actions,
        paper.UNPROPAGATED: not method.value_weight,
        paper.UNLAGGED: recipe.ema.tau == 1,
        paper.UNREWARDED: not method.reward_weight,
    }
    return tuple(name for name, so in lacks.items() if so)


def dataset_of(spec: str, called: Mapping[str, str] = {}) -> str:
    """Which of the paper's data sets a data string names, by the name of a folder in it; else the string itself.

    Of a part of a data set, such as coco_sample or tiny-imagenet, no folder has just its name.
    """
    if spec in called:
        return called[spec]
    try:
        parts = split(spec, scheme_names())
    except SpecError:
        parts = []
    if len(parts) == 1:
        for folder in reversed(re.split(r"[/:]", parts[0][1].lower())):
            plain = re.sub(r"[-_](224|256|384|512)(px)?$", "", folder)
            if known := FOLDERS.get(re.sub(r"[-_]", "", plain)):
                return known
    return printable(spec)


def _setting(recipe: Recipe) -> str:
    """What a run does, but for its seed, where its data lies, and what changes no training."""
    data = tuple(f"data.{name}" for name in recipe.data.streams())
    free = (*HARMLESS, *data, "seed", "eval")
    settings = flat(to_json(replace(recipe, size="")))
    kept = {k: v for k, v in settings.items() if not any(k == name or k.startswith(name + ".") for name in free)}
    return json.dumps(kept, sort_keys=True)


assert set(FOLDERS.values()) == set(DATASETS)
