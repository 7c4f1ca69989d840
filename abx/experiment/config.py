"""What every recipe has, as frozen dataclasses: the configuration is the object."""

import dataclasses
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from abx.data.sources import check_spec
from abx.data.streams import Data
from abx.methods.base import Method
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class Checkpointing:
    every: int = 1000
    """Steps between checkpoints; 0 = only at the end and when stopped."""
    keep: int = 2
    """How many of the newest to keep."""
    keep_best: bool = True
    """Keep the one with the highest eval/knn_top1 too."""


@dataclass(frozen=True)
class Logging:
    every: int = 10
    """Steps between lines of metrics.jsonl and of progress; 0 = only the last."""


@dataclass(frozen=True)
class Evaluation:
    every: int = 1000
    """Steps between looks at k-NN, attentive probe and value head, also before the first step; 0 = off."""
    train: str = ""
    """Labelled pictures for the probes' training, as a data string; empty = the (reward) training data."""
    test: str = ""
    """Labelled pictures to test on, and views for the value head's figures; empty = `scenes:test` for scenes, else none
    (value figures are then taken on fresh crops of the training data)."""
    train_images: int = 2000
    """Pictures in the probes' training set."""
    test_images: int = 1000
    """Pictures in the probes' test set."""
    batches: int = 2
    """Batches over which the value head's figures are averaged."""


@dataclass(frozen=True)
class Recipe:
    """A runnable experiment."""

    method: Method
    data: Data
    steps: int
    """Training steps."""
    optim: AdamW = field(default_factory=AdamW)
    ema: EMA = field(default_factory=EMA)
    eval: Evaluation = field(default_factory=Evaluation)
    ckpt: Checkpointing = field(default_factory=Checkpointing)
    log: Logging = field(default_factory=Logging)
    out: Path = Path("runs")
    """Folder of the run. The same command again goes on where it stopped."""
    seed: int = 0
    """Seed of initialisation, augmentation, crops and order."""
    resume: bool = True
    """Go on from the folder's newest checkpoint; --no-resume starts anew and removes what the folder holds of a run."""
    dry_run: bool = False
    """Print the plan and stop."""

    def problems(self) -> list[str]:
        """Everything that is wrong, one sentence each with the flag to change; nothing touches a device."""
        found = self.data.problems()
        found += [f"--method.{p}" for p in self.method.problems()]
        found += [f"--{p}" for p in self.optim.problems() + self.ema.problems()]
        for name, least in {"steps": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                found.append(f"--{name} must be at least {least}, not {getattr(self, name)}")
        for group, part in {"ckpt": self.ckpt, "log": self.log, "eval": self.eval}.items():
            for f in dataclasses.fields(part):
                value = getattr(part, f.name)
                least = 0 if f.name == "every" else 1
                if isinstance(value, int) and not isinstance(value, bool) and value < least:
                    found.append(f"--{group}.{f.name} must be at least {least}, not {value}")
        for name in ("train", "test"):
            spec = getattr(self.eval, name)
            if spec and (sentence := check_spec(spec)):
                found.append(f"--eval.{name}: {sentence}")
        for name, crops in self.data.crops().items():
            patch = self.method_patch()
            if patch and crops.size % patch:
                flag = f"--data.{'views' if name == 'train' else name + '_views'}.size"
                found.append(f"{flag} {crops.size} must be a multiple of the patch, {patch}")
        if self.out.exists() and not self.out.is_dir():
            found.append(f"--out {self.out} is a file, not a folder")
        return found

    def method_patch(self) -> int | None:
        """The backbone's patch, where the method has one backbone."""
        base = getattr(self.method, "base", self.method)
        return base.backbone.patch if hasattr(base, "backbone") else None


HARMLESS = ("out", "resume", "dry_run", "data.workers", "ckpt.", "log.", "eval.")
"""Settings that change nothing about the training itself, and so may differ when a run is resumed."""


def to_json(config: Any) -> Any:
    """A dataclass tree as plain JSON; each node says its class, so that `from_json` can build it again."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        node = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        kind = Recipe if isinstance(config, Recipe) else type(config)  # subclasses live in scripts and add no fields
        return {"class": f"{kind.__module__}.{kind.__qualname__}"} | node
    if isinstance(config, tuple):
        return [to_json(x) for x in config]
    return str(config) if isinstance(config, Path) else config


def from_json(node: Any) -> Any:
    """What `to_json` wrote, as dataclasses again. Only classes of this package are built."""
    if isinstance(node, list):
        return tuple(from_json(x) for x in node)
    if not isinstance(node, dict):
        return node
    module, _, name = node["class"].rpartition(".")
    if module.split(".")[0] != "abx":
        raise ValueError(f"{node['class']} is not a class of abx")
    kind = getattr(import_module(module), name)
    fields = {k: from_json(v) for k, v in node.items() if k != "class"}
    if kind is Recipe:
        fields["out"] = Path(fields["out"])
    return kind(**fields)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}"""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, part in tree.items() for k, v in flat(part, f"{prefix}.{name}" if prefix else name).items()}


def differences(old: Any, new: Any) -> list[str]:
    """Settings of two configurations (as JSON) that differ and matter: "optim.lr: was 0.001, now 0.002"."""
    a, b = flat(old), flat(new)
    return [
        f"{k}: was {a.get(k, 'absent')}, now {b.get(k, 'absent')}"
        for k in sorted(a.keys() | b.keys())
        if a.get(k) != b.get(k) and not k.startswith(HARMLESS)
    ]
