"""What every recipe has, as frozen dataclasses: the configuration is the object."""

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from abx import nn
from abx.data.layouts import ImageData
from abx.data.specs import check_spec
from abx.data.streams import Data
from abx.data.views import views_per_image
from abx.experiment.beginning import problems as problems_of_init
from abx.experiment.logs import Logging
from abx.experiment.meshes import Meshes
from abx.experiment.offering import Pixels
from abx.experiment.planning import Planning
from abx.experiment.saved import flat, to_json, typed
from abx.methods.ab import AB
from abx.methods.base import Method
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True)
class Checkpointing:
    every: int = 1000
    """Steps between checkpoints; 0 = only at the end and when the run is stopped (Ctrl-C, preemption)."""
    keep: int = 2
    """How many of the newest checkpoints to keep."""
    keep_best: bool = True
    """Also keep the checkpoint with the highest k-NN accuracy (eval/knn_top1)."""
    keep_every: int = 0
    """Also keep every checkpoint whose step is a multiple of this; 0 = none."""

    def most(self, steps: int) -> int:
        """How many a run of so many steps may have at a time, with the one that is being written."""
        # Of those in between, whose steps are multiples of both, the last may be the one that is being written.
        between = (steps - 1) // math.lcm(self.every, self.keep_every) if self.every and self.keep_every else 0
        return self.keep + self.keep_best + between + 1


@dataclass(frozen=True)
class Guard:
    """A step whose loss or gradient is not finite is never taken: the run stops with code 1, and keeps state, batch and
    key of that step for abx replay."""

    spike: float = 0.0
    """Stop as well at a loss so many times the mean of the last 20 that were logged; 0 = never. 3 to 10 find what has
    gone wrong before it is infinite."""

    def problems(self) -> list[str]:
        return [] if self.spike == 0 or self.spike > 1 else [f"guard.spike must be 0 or above 1, not {self.spike}"]


@dataclass(frozen=True)
class Evaluation:
    every: int = 1000
    """Steps between evaluations (k-NN, attentive probe, value head); also before the first and after the last step.
    0 = off."""
    train: str = ""
    """Labelled pictures on which the probes are trained: `scenes`, `folder:PATH` with one sub-folder per class, or
    `tar:GLOB`. Empty = the training data (of two kinds, the reward's)."""
    test: str = ""
    """Labelled pictures on which the probes are tested, and whose crops the value head is measured on. Empty =
    `scenes:test` when training on scenes, else part of the training data. Without labels there are no probes."""
    train_images: int = 2000
    """Largest number of pictures that the probes are trained on."""
    test_images: int = 1000
    """Largest number of pictures that the probes are tested on."""
    batches: int = 2
    """Batches (of the training batch size) over which the value head's figures are averaged."""


@dataclass(frozen=True)
class Recipe:
    """A runnable experiment."""

    data: Data
    method: Method
    steps: int
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""
    optim: AdamW = field(default_factory=AdamW)
    ema: EMA = field(default_factory=EMA)
    eval: Evaluation = field(default_factory=Evaluation)
    ckpt: Checkpointing = field(default_factory=Checkpointing)
    log: Logging = field(default_factory=Logging)
    guard: Guard = field(default_factory=Guard)
    out: Path = Path("runs")
    """Folder to write the run to. The same command again goes on where it stopped."""
    seed: int = 0
    """Seed of everything random: initialisation, order of the pictures, crops, augmentation."""
    resume: bool = True
    """Go on from the newest checkpoint in --out, if any. --no-resume: the run in --out is DELETED and begun anew."""
    force: bool = False
    """Go on although settings or data are not what the run began with; what differs is printed."""
    size: Literal["", "Ti", "S", "B", "L", "H"] = ""
    """Backbone of one of these sizes, in place of its own width, depth, heads and mlp (paper, Figure 4 left)."""
    init: str = ""
    """File of weights to begin with, for both networks: .safetensors by abx export or with names of timm, DINO or
    DINOv2; .npz of big_vision. Empty = random ones."""
    init_pixels: Pixels = "auto"
    """How the network of --init wants pictures: half = in [-1, 1]; imagenet = less ImageNet's mean, over its deviation;
    auto = as the file says."""
    mesh: Meshes = field(default_factory=Meshes)
    plan: Planning = field(default_factory=Planning)
    profile: int = 0
    """Trace so many steps, from the eleventh on, into profile/ of --out, for TensorBoard or Perfetto; 0 = none."""
    dry_run: bool = False
    """Print the plan (sizes, FLOPs, epochs, hours, disk) and stop; nothing is written."""

    def problems(self) -> list[str]:
        """Everything that is wrong, one sentence each, beginning with the flag to change; nothing touches a device."""
        numbers = {k: v for k, v in flat(to_json(self)).items() if isinstance(v, float | list)}
        broken = [f"--{k} must be a finite number, not {typed(v)}" for k, v in numbers.items() if not _finite(v)]
        named = {sentence.split()[0] for sentence in broken}

        found = self.data.problems()
        found += [f"--method.{p}" for p in self.method.problems()]
        found += [f"--{p}" for p in self.optim.problems() + self.ema.problems()]
        if self.guard.spike and not self.log.every:
            found.append("--log.every must be at least 1 with --guard.spike, which looks at the losses that are logged")
        found += [f"--{p}" for part in (self.guard, self.log, self.mesh, self.plan) for p in part.problems()]
        if self.steps < 1:
            found.append(f"--steps must be at least 1, not {self.steps}")
        if self.profile < 0:
            found.append(f"--profile must be at least 0, not {self.profile}")
        if not 0 <= self.seed < 2**31:
            found.append(f"--seed must be in [0, 2147483647], not {self.seed}")
        groups: dict[str, Checkpointing | Logging | Evaluation] = {
            "ckpt": self.ckpt,
            "log": self.log,
            "eval": self.eval,
        }
        for group, part in groups.items():
            for f in dataclasses.fields(part):
                value = getattr(part, f.name)
                least = 0 if f.name.endswith("every") else 1
                if isinstance(value, int) and not isinstance(value, bool) and value < least:
                    found.append(f"--{group}.{f.name} must be at least {least}, not {value}")
        for name in ("train", "test"):
            spec = getattr(self.eval, name)
            if spec and (sentence := check_spec(spec)):
                found.append(f"--eval.{name}: {sentence}")
        for name, stream in self.data.streams().items():
            backbone = self.backbone
            for kind, crops in stream.crops.kinds().items():
                if backbone and backbone.patch > 0 and crops.size > 0 and crops.size % backbone.patch:
                    flag = self.data.flag(name, "views") + kind
                    found.append(f"{flag}.size must be a multiple of the patch, {backbone.patch}, not {crops.size}")
                elif backbone and isinstance(self.data, ImageData) and crops.size != backbone.size:
                    # Masks and what is put in the place of what they hide are made for one grid of patches.
                    flag = self.data.flag(name, "views") + kind
                    found.append(f"{flag}.size must be --method.backbone.size, {backbone.size}, not {crops.size}")
        if self.init and not self._goes_on():
            found += self._of_init()
        if not found:
            found += self._apart()
        if sentence := unwritable(self.out):
            found.append(f"--out {self.out}: {sentence}")
        return broken + [sentence for sentence in found if sentence.split()[0] not in named]

    def _goes_on(self) -> bool:
        """Whether there is a checkpoint to resume, as far as the folder's names say."""
        saved = self.out / "checkpoints"
        return self.resume and saved.is_dir() and any(path.name.isdecimal() for path in saved.iterdir())

    def _of_init(self) -> list[str]:
        """Why the weights of --init cannot be those of the backbone."""
        if self.backbone is None:
            return [f"--init {self.init}: this method has not one backbone that it could be for"]
        if self.backbone.problems():
            return []
        prefix = "--method." + ("base." if hasattr(self.method, "base") else "") + "backbone"
        return problems_of_init(self.init, self.init_pixels, self.backbone, prefix)

    def _apart(self) -> list[str]:
        """Where settings that are well by themselves do not fit each other."""
        tower, found = getattr(getattr(self.method, "base", self.method), "text", None), []
        for path, value in flat(to_json(self.method)).items():
            if path.rpartition(".")[2] == "freeze_prototypes" and value >= self.steps:
                found.append(f"--method.{path} must be less than --steps, {self.steps}, not {value}")
        moves = not isinstance(self.method, AB) or self.method.self_pairs
        if not moves and views_per_image(self.data.streams()["value"].crops) < 2:
            found.append("--data.value_views.n must be at least 2 with --method.no-self-pairs: one view leads nowhere")
        for name, stream in self.data.streams().items():
            if not isinstance(tower, TextConfig) or stream.texts is None:
                continue
            flag = "--method." + ("base." if hasattr(self.method, "base") else "") + "text"
            size, length = stream.texts.vocabulary_size, stream.texts.length
            if tower.vocab < size:
                found.append(f"{flag}.vocab must be at least {size}, the tokens of the tokenizer, not {tower.vocab}")
            if tower.length < length:
                whose = self.data.flag(name, "text") + ".length"
                found.append(f"{flag}.length must be at least {length}, that of {whose}, not {tower.length}")
        return found

    def sized(self: R) -> R:
        """The same recipe with the numbers that `size` stands for."""
        backbone = self.backbone
        if not self.size or backbone is None:
            return self
        wanted: ViTConfig = getattr(nn, self.size)
        numbers = {name: getattr(wanted, name) for name in ("width", "depth", "heads", "mlp")}
        method: Any = self.method
        sized = dataclasses.replace(backbone, **numbers)
        if hasattr(method, "base"):
            method = dataclasses.replace(method, base=dataclasses.replace(method.base, backbone=sized))
        else:
            method = dataclasses.replace(method, backbone=sized)
        return dataclasses.replace(self, method=method, size="")

    @property
    def backbone(self) -> ViTConfig | None:
        """The backbone's sizes, where the method has one backbone."""
        found = getattr(getattr(self.method, "base", self.method), "backbone", None)
        return found if isinstance(found, ViTConfig) else None


def _finite(value: float | list[Any]) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(math.isfinite(v) for v in values if isinstance(v, float))


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written to a folder that may not exist yet, as far as can be told without trying."""
    there = folder.absolute()
    try:
        while not (there.exists() or there.is_symlink()):
            there = there.parent
        if there.is_symlink() and not there.exists():
            return f"{there} is a broken link"
        if not there.is_dir():
            return f"{there} is a file, not a folder"
    except OSError as wrong:  # a name that is too long, a part that may not be looked into
        return f"it cannot be a folder: {wrong.strerror}"
    return None if os.access(there, os.W_OK | os.X_OK) else f"nothing may be written to {there}"
