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
from abx.experiment.loading import Subject
from abx.experiment.saved import to_json
from abx.experiment.weights import ABOUT
from abx.nn import ViT, ViTConfig, timm

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
    recipe = subject.recipe
    assert recipe is not None
    size = subject.backbone.config.size
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
        "preprocessing": {"size": size, "mean": [0.5] * 3, "std": [0.5] * 3, "crop": 0.875, "resize": "bicubic"},
    }


def timm_call(config: ViTConfig) -> str:
    """The call that makes timm build this very network."""
    # Any of its plain ViTs will do: every size is given. This one has our mean and deviation.
    said = [f"{name}={value!r}" for name, value in timm.arguments(config).items()]
    return f"timm.create_model('vit_small_patch16_224', {', '.join(said)})"


def loaders(kind: Format, out: Path, config: ViTConfig) -> tuple[str, str]:
    """The two lines that load the file elsewhere."""
    if kind == "timm":
        load = f"model.load_state_dict(safetensors.torch.load_file({str(out)!r}))"
        return f"model = {timm_call(config)}", load
    if kind == "stablehlo":
        size = config.size
        opened = f"network = jax.export.deserialize(bytearray(zipfile.ZipFile({str(out)!r}).read('network')))"
        return opened, f"features = network.call(pixels)  # uint8, b x {size} x {size} x 3 -> b x {config.width}"
    what = str(out)
    return f"python recipes/simclr.py --init {what}  # or any other", f"abx embed none --init {what}"


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
