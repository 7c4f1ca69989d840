"""A network without what it was trained with, as one file whose header says what it is."""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

import abx
from abx.checksum import by_path
from abx.data.sources import SpecError
from abx.data.streams import views_per_step
from abx.experiment.elsewhere import CROP
from abx.experiment.loading import Subject, holds_weights
from abx.experiment.saved import to_json
from abx.experiment.weights import ABOUT
from abx.nn import ViT, timm

Parts = Literal["backbone", "all"]
Format = Literal["auto", "safetensors", "timm", "stablehlo"]
SUFFIXES = {"safetensors": ".safetensors", "timm": ".safetensors", "stablehlo": ".stablehlo"}
"""Of the file of each format."""


def problems(out: Path, format: Format, parts: Parts) -> list[str]:
    """Why there can be no such file, as far as can be told without trying; each begins with its flag."""
    kind = resolved(out, format)
    if kind is None:
        return [f"--out must end in {' or '.join(dict.fromkeys(SUFFIXES.values()))}, not {out.name}"]
    found = []
    if out.suffix != SUFFIXES[kind]:
        found.append(f"--out must end in {SUFFIXES[kind]} for --format {kind}, not {out.name}")
    if parts == "all" and kind != "safetensors":
        found.append(f"--parts must be backbone for --format {kind}, which has no place for heads and towers")
    if kind == "stablehlo" and find_spec("flatbuffers") is None:
        found.append("--format stablehlo needs flatbuffers: pip install 'annotation-bootstrapping[export]'")
    return found


def problems_of_file(run: str, init: str, parts: Parts) -> list[str]:
    """What is wrong with --init, which goes with RUN none and is a file then, and with what is wanted of it."""
    if run != "none":
        return ["--init must be left out but for RUN none"] if init else []
    found = []
    if not init or not holds_weights(init):
        found.append(f"--init must be a file of weights with RUN none{', not ' * bool(init)}{init}")
    if parts == "all":
        found.append("--parts must be backbone with RUN none: of a file nothing else is read")
    return found


def resolved(out: Path, format: Format) -> Format | None:
    """The format that is meant: auto goes by the end of the file's name; None where that is no file's."""
    if format != "auto":
        return format
    return {".safetensors": "safetensors", ".stablehlo": "stablehlo"}.get(out.suffix)  # type: ignore[return-value]


def arrays(subject: Subject, parts: Parts) -> dict[str, np.ndarray]:
    """By dotted names, as they stand in the model: `backbone.blocks.layers.attn.qkv.weight`."""
    tree = {"backbone": subject.backbone} if parts == "backbone" else subject.model
    return {name: np.ascontiguousarray(leaf) for name, leaf in by_path(tree).items()}


def about(subject: Subject, parts: Parts) -> dict[str, Any]:
    """What the file is, where it is from, and how pictures are shown to it."""
    recipe, size = subject.recipe, subject.backbone.config.size
    # A file of others does not say how it was trained.
    trained: dict[str, Any] = {"init": subject.init}
    if recipe is not None:
        trained = {
            "network": subject.network,
            "step": subject.step,
            "views_seen": subject.step * views_per_step(recipe.data),
            "config": to_json(recipe),
        }
    return {
        "format": 1,
        "abx": abx.__version__,
        "parts": parts,
        "run": subject.run,
        **trained,
        "backbone": to_json(subject.backbone.config),
        "pixels": "RGB, uint8 / 127.5 - 1; short side to size 256 / 224, then the central square",
        "preprocessing": {"size": size, "mean": [0.5] * 3, "std": [0.5] * 3, "crop": CROP, "resize": "bicubic"},
    }


def safetensors_of(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file; the header as JSON under "abx"."""
    from safetensors.numpy import save

    found: bytes = save(dict(tensors), metadata={ABOUT: json.dumps(header)})
    return found


def timm_arrays(backbone: ViT) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(x) for name, x in timm.to_timm(backbone).items()}


def write(path: Path, made: Callable[[], bytes]) -> int:
    """Whole or not at all; returns the file's size. Raises: SpecError when it cannot be written."""
    beside = path.with_name(path.name + ".tmp")
    try:
        size = beside.write_bytes(made())
        beside.replace(path)
    except OSError as wrong:
        beside.unlink(missing_ok=True)
        raise SpecError(f"--out {path} cannot be written: {wrong.strerror or wrong}") from wrong
    return size
