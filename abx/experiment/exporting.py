"""A network without what it was trained with: one safetensors file, whose header says what it is."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import abx
from abx.data.sources import SpecError
from abx.data.streams import views_per_step
from abx.experiment.loading import Subject
from abx.experiment.saved import to_json

Parts = Literal["backbone", "all"]
ABOUT = "abx"
"""Key of the header, under which all is as JSON."""


def arrays(subject: Subject, parts: Parts) -> dict[str, np.ndarray]:
    """By dotted names, as they stand in the model: `backbone.blocks.layers.attn.qkv.weight`."""
    tree = {"backbone": subject.backbone} if parts == "backbone" else subject.model
    piece = lambda key: str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(map(piece, path)): np.ascontiguousarray(leaf) for path, leaf in leaves}


def about(subject: Subject, parts: Parts) -> dict[str, Any]:
    """What the file is, where it is from, and how pictures are shown to it."""
    recipe = subject.recipe
    assert recipe is not None
    return {
        "format": 1,
        "abx": abx.__version__,
        "parts": parts,
        "network": subject.network,
        "step": subject.step,
        "views_seen": subject.step * views_per_step(recipe.data),
        "run": subject.run,
        "backbone": to_json(subject.backbone.config),
        "config": to_json(recipe),
        "pixels": "RGB, uint8 / 127.5 - 1; short side to size 256 / 224, then the central square",
    }


def write(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Whole or not at all. Raises: SpecError when it cannot be written or the library is not there."""
    try:
        save: Any = import_module("safetensors.numpy").save
    except ImportError:
        raise SpecError(
            "--out: a library that is not here writes safetensors: pip install 'annotation-bootstrapping[probes]'"
        ) from None
    beside = path.with_name(path.name + ".tmp")
    try:
        beside.write_bytes(save(dict(tensors), metadata={ABOUT: json.dumps(header)}))
        beside.replace(path)
    except OSError as wrong:
        beside.unlink(missing_ok=True)
        raise SpecError(f"--out {path} cannot be written: {wrong.strerror or wrong}") from wrong
