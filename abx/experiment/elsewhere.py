"""Lines to paste that load an exported file: in a recipe, in timm, as a program."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from abx import nn
from abx.analysis.listing import command_of
from abx.experiment.loading import Subject
from abx.nn import ViTConfig, timm

CROP = 0.875
"""Share of the short side that an evaluation's view shows (see `abx.data.images.center_crop`)."""
OWN = ("--out", "--init", "--init-pixels", "--resume", "--no-resume", "--force", "--no-force", "--dry-run")
"""Flags of the run that a command began, not of what it trains."""
ALONE = ("--resume", "--no-resume", "--force", "--no-force", "--dry-run")
"""Those that no value follows."""
SIZES = ("width", "depth", "heads", "mlp")


def loaders(kind: str, out: Path, config: ViTConfig) -> list[str]:
    """Python that loads the file elsewhere: what to import, and two lines.

    Args:
        kind: timm or stablehlo.
    """
    if kind == "timm":
        load = f"model.load_state_dict(safetensors.torch.load_file({str(out)!r}))"
        return ["import timm, safetensors.torch", f"model = {timm_call(config)}", load]
    size = config.size
    opened = f"network = jax.export.deserialize(bytearray(zipfile.ZipFile({str(out)!r}).read('network')))"
    call = f"features = network.call(pixels)  # uint8, b x {size} x {size} x 3 -> b x {config.width}"
    return ["import jax.export, zipfile", opened, call]


def timm_call(config: ViTConfig) -> str:
    """The call that makes timm build this very network, and say how pictures are shown to it."""
    # Any of its plain ViTs will do: every size is given, and so is what belongs to its own weights.
    said = [f"{name}={value!r}" for name, value in timm.arguments(config).items()]
    shown = f"input_size=(3, {config.size}, {config.size}), crop_pct={CROP}, interpolation='bicubic'"
    overlay = f"pretrained_cfg_overlay=dict({shown}, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))"
    return f"timm.create_model('vit_small_patch16_224', {', '.join([*said, overlay])})"


def commands(out: Path, subject: Subject) -> list[str]:
    """Two commands for a file of our own format: a run that begins with it, and its features."""
    init = shlex.join(["--init", str(out)])
    return [shlex.join(_recipe(out, subject)), f"abx embed none {init}"]


def _recipe(out: Path, subject: Subject) -> list[str]:
    """The command that made the run, with another folder; for what no recipe made, SimCLR's with the network's sizes.

    That of the run has all flags of its own: whichever make the backbone what it is are among them.
    """
    words = command_of(Path(subject.run))
    if subject.recipe is not None and words and Path(words[0]).absolute().parent.name == "recipes":
        return ["python", *without(words, OWN), "--init", str(out), "--out", f"{subject.recipe.out}-again"]
    sizes, begun = _flags(subject.backbone.config), f"runs/simclr-{out.stem}"
    return ["python", "recipes/simclr.py", *sizes, "--init", str(out), "--out", begun]


def _flags(config: ViTConfig) -> list[str]:
    """What makes the backbone of recipes/simclr.py one of these sizes."""
    usual, numbers = ViTConfig(), [getattr(config, name) for name in SIZES]
    named = [size for size in ("Ti", "S", "B", "L", "H") if [getattr(getattr(nn, size), n) for n in SIZES] == numbers]
    found = ["--size", named[0]] if named else _given(config, SIZES)
    found += _given(config, ("patch", "size"))
    more = ("position", "pool", "registers", "gelu")
    found += _given(config, [name for name in more if getattr(config, name) != getattr(usual, name)])
    return [*found, "--data.views.size", str(config.size)]


def _given(config: ViTConfig, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (f"--method.backbone.{name}", str(getattr(config, name)))]


def without(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """A command without some flags, however they are written, and their values."""
    kept, value = list[str](), False
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if not value and flag not in flags:
            kept.append(word)
        value = not value and flag in flags and flag not in ALONE and "=" not in word
    return kept
