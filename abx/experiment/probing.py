"""What is probed, how and on what, as frozen dataclasses: the configuration of `recipes/probe.py` and `abx probe`."""

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from abx.data.specs import check_spec
from abx.experiment.config import unwritable
from abx.experiment.loading import Network, Pool, config_of, problems_of_network
from abx.experiment.offering import Pixels
from abx.experiment.probe_settings import (
    DecoderSettings,
    FineTuneSettings,
    KNNSettings,
    LinearSettings,
    MapSettings,
)
from abx.experiment.rows import FILE
from abx.experiment.saved import flat, to_json, typed
from abx.nn.answers import AnswerConfig
from abx.probes.logistic import Logistic
from abx.probes.named import Named, TaskError, parse
from abx.probes.tasks import Detection
from abx.probes.zeroshot import ZeroShot

Kind: TypeAlias = Literal["knn", "linear", "logistic", "map", "decoder", "finetune", "zeroshot", "retrieval"]
NO_TRAINING = frozenset({"zeroshot", "retrieval"})
"""Probes that take no training data: the run's own text tower answers."""
TOKENS = frozenset({"map", "decoder"})
"""Probes that read tokens; pooled features do for the others."""
OF_NETWORKS = ("network", "step", "init", "pool", "size", "view")
"""Flags that mean nothing for features from elsewhere."""
DRAWN_TRAIN, DRAWN_TEST = 2_000, 1_000
"""Drawn pictures that are used unless another number is given: there are 100,000, each a few milliseconds' work."""


@dataclass(frozen=True)
class Saving:
    every: int = 500
    """Steps between checkpoints of a probe in training; 0 = only at the end and when it is stopped."""


@dataclass(frozen=True)
class Saying:
    every: int = 50
    """Steps between lines of progress of a probe in training; 0 = only at the last step."""


@dataclass(frozen=True)
class Probe:
    """Which probes of which network, on what."""

    run: str = "none"
    """Folder of a run, e.g. runs/ab_simclr-smoke; none = an untrained network, see --init."""
    network: Network = "online"
    """Which of the run's networks: the trained one, or its moving average. DINO's figures are the target's (A-26)."""
    step: str = "newest"
    """Which of its checkpoints: newest, best (by the k-NN accuracy that was logged), or the number of a step."""
    init: str = "S/16"
    """With --run none: Ti, S, B, L or H, with the side of a patch: ViT-S/16; or the folder of a run, whose backbone is
    then as it was before the first step; or a file of weights, .safetensors or .npz."""
    init_pixels: Pixels = "auto"
    """How the network of a file wants pictures: half = in [-1, 1]; imagenet = less ImageNet's mean, over its deviation;
    auto = as the file says."""
    init_heads: int = 0
    """Attention heads of the network of a file whose names do not tell; 0 = those of the usual ViT of its width."""
    pool: Pool = "gap"
    """With --run none: from tokens to features. A file says so itself."""
    features: tuple[Path, ...] = ()
    """In place of a network, two files of features from anywhere, to train on and to test on: .npz with `features` and
    `labels`, as abx embed writes it, and `tokens` for map and decoder. The task is then classification."""
    probes: tuple[Kind, ...] = ("knn", "linear", "map", "decoder")
    """One or more. Nothing is trained: knn, zeroshot, retrieval. On pooled features: linear (several learning rates),
    logistic (no learning rate: to the optimum). On tokens: map, decoder. On pictures: finetune, the backbone too."""
    task: str = "scenes-classification"
    """A task with its data: imagenet:DIR, food101:DIR, clevr-count:DIR, coco-detection:DIR, scenes-count, ...; DIR is
    what abx data prepare wrote. Or one alone, for --train and --test: classification, objects (class of a given box),
    detection, count, distance, action."""
    train: str = ""
    """Data to train the probes on, in place of the task's own: `scenes`, `folder:PATH` with a sub-folder for each
    class, `tar:GLOB`, `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture."""
    test: str = ""
    """Data to test them on; classes go by name."""
    train_images: int | None = None
    """Training pictures to use at most, a fixed random choice; 0 = all. None = all, but 2,000 of drawn ones."""
    test_images: int | None = None
    """Test pictures to use at most; 0 = all. None = all, but 1,000 of drawn ones."""
    size: int = 0
    """Side of the views in pixels, a multiple of the patch; 0 = what the network was made for."""
    view: Literal["auto", "centre", "whole"] = "auto"
    """centre: short side to size 256 / 224, then the central square. whole: all of the picture squeezed to a square.
    auto = centre for classification and action, whole where places or numbers of objects are asked for."""
    knn: KNNSettings = field(default_factory=KNNSettings)
    linear: LinearSettings = field(default_factory=LinearSettings)
    logistic: Logistic = field(default_factory=Logistic)
    map: MapSettings = field(default_factory=MapSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    finetune: FineTuneSettings = field(default_factory=FineTuneSettings)
    zeroshot: ZeroShot = field(default_factory=ZeroShot)
    out: Path | None = None
    """Folder for results.jsonl and for probes in training; None = the run's own, or runs/probe-none."""
    seed: int = 0
    """Seed of all that is random: initialisation, order of the pictures, and what the linear probe holds out. What the
    logistic one holds out has its own (--logistic.seed)."""
    resume: bool = True
    """Go on with probes whose training was cut short. --no-resume: their checkpoints are DELETED."""
    batch: int = 256
    """Pictures per forward pass over all devices. Changes no result."""
    threads: int = 0
    """Threads that read and decode pictures; 0 = as many as there are cores."""
    cache: bool = True
    """Keep features under $ABX_CACHE (~/.cache/abx), and use them where network and pictures are the same."""
    ckpt: Saving = field(default_factory=Saving)
    log: Saying = field(default_factory=Saying)
    dry_run: bool = False
    """Say what would be done, and stop; nothing is written and no feature computed."""
    json: bool = False
    """Also print one JSON object, on the last line: {"results": [{"probe": "knn", "task": ..., "top1": ...}, ...]}."""

    def problems(self) -> list[str]:
        """Everything that is wrong, one sentence each, beginning with the flag to change; nothing touches a device."""
        numbers = {k: v for k, v in flat(to_json(self)).items() if isinstance(v, float | list)}
        broken = [f"--{k} must be a finite number, not {typed(v)}" for k, v in numbers.items() if not _finite(v)]
        named = {sentence.split()[0] for sentence in broken}
        if self.features:
            return broken + self._of_files() + self._of_settings(named)
        found = problems_of_network(
            self.run, self.network, self.step, self.init, self.size, self.pool, self.init_pixels, self.init_heads
        )
        if self.run == "none" and (texts := [name for name in self.probes if name in NO_TRAINING]):
            found.append(
                f"--probes {' '.join(texts)}: a network of no run has no text tower; give a --run that has one"
            )
        config = None if found else config_of(self.run, self.init, self.size, self.pool)
        if config is not None and (sentence := heads_that_do_not_fit(self.map.heads, config.width)):
            found.append(sentence)
        return broken + [s for s in found + self._of_data() if s.split()[0] not in named] + self._of_settings(named)

    def _of_settings(self, named: set[str]) -> list[str]:
        """`named`: flags of which something is said already."""
        found = []
        for name in ("knn", "linear", "logistic", "map", "decoder", "finetune", "zeroshot"):
            found += [f"--{name}.{sentence}" for sentence in getattr(self, name).problems()]
        for name, least in (("train_images", 0), ("test_images", 0), ("batch", 1), ("threads", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                found.append(f"--{name} must be at least {least}, not {value}")
        for group, part in (("ckpt", self.ckpt), ("log", self.log)):
            if part.every < 0:
                found.append(f"--{group}.every must be at least 0, not {part.every}")
        if not 0 <= self.seed < 2**31:
            found.append(f"--seed must be in [0, 2147483647], not {self.seed}")
        if sentence := unwritable(self.folder) or _no_place(self.folder / FILE):
            found.append(f"--out {self.folder}: {sentence}")
        return [sentence for sentence in found if sentence.split()[0] not in named]

    def _of_files(self) -> list[str]:
        found = []
        if len(self.features) != 2:
            found.append(f"--features must be two files, to train on and to test on, not {len(self.features)}")
        if self.run != "none" or self.train or self.test:
            found.append("--features stands in place of --run, --train and --test; give no such flag")
        for name in OF_NETWORKS:
            if getattr(self, name) != getattr(Probe, name):
                found.append(f"--{name} is of networks, and --features stands in place of one; give no such flag")
        if self.task not in ("classification", Probe.task):
            found.append(f"--task must be classification with --features, not {self.task}")
        if others := [name for name in self.probes if name in ("finetune", *NO_TRAINING)]:
            found.append(f"--probes {' '.join(others)}: these take a network, and not features alone")
        return found + self._of_choice()

    def _of_choice(self) -> list[str]:
        if self.probes and len(set(self.probes)) == len(self.probes):
            return []
        return [f"--probes must name one or more, each once, not {' '.join(self.probes) or 'none'}"]

    def _of_data(self) -> list[str]:
        found = self._of_choice()
        try:
            task = self.named
        except TaskError as wrong:
            return [*found, f"--task: {wrong}"]
        # A question with a box in it, or an answer of several words, is nothing for a probe that tells classes apart.
        others = [name for name in self.probes if name not in ("decoder", "retrieval")]
        if task.task.name not in ("classification", "count", "distance") and others:
            why = f"--task {self.task} can be asked of the decoder probe alone: --probes decoder"
            found.append(f"--probes {' '.join(others)}: {why}")
        elif task.task.name != "classification" and "zeroshot" in self.probes:
            found.append(f"--probes zeroshot: {self.task} has no names of classes; give --task classification")
        if self.view == "centre" and task.task.name in ("objects", "detection"):
            found.append(f"--view must be whole for {self.task}, not centre: boxes are places in the whole picture")
        specs = {"train": task.train, "test": task.test} if self.trains else {"test": task.test}
        if lacking := [f"--{name}" for name, spec in specs.items() if not spec]:
            found.append(f"{' and '.join(lacking)} must say on which data: --task {self.task} names none")
        found += [f"--{name}: {said}" for name, spec in specs.items() if spec and (said := check_spec(spec))]
        return found

    @property
    def named(self) -> Named:
        """The task, and the data to use. Raises: TaskError."""
        found = parse(self.task)
        task = found.task
        if isinstance(task, Detection):
            task = dataclasses.replace(task, order=self.decoder.detection_order)
        return Named(task, self.train or found.train, self.test or found.test)

    @property
    def trains(self) -> bool:
        """Whether any of the probes takes training data."""
        return not NO_TRAINING.issuperset(self.probes)

    @property
    def folder(self) -> Path:
        """Where results go."""
        if self.out is None and self.features:
            return Path("runs/probe-features")
        return self.out or Path("runs/probe-none" if self.run == "none" else self.run)

    def shows(self, kind: str) -> Literal["centre", "whole"]:
        """What a view shows of a picture, for a kind of task."""
        if self.view != "auto":
            return self.view
        # VTAB squeezes CLEVR's pictures, too. Of actions the paper says nothing: as of classes.
        return "centre" if kind in ("classification", "action") else "whole"


def heads_that_do_not_fit(heads: int, width: int) -> str | None:
    """A sentence, if the attentive probe cannot read tokens of this width; 0 heads = as many as fit."""
    if heads <= 0 or width % heads == 0:
        return None
    return f"--map.heads must divide the tokens' width, {width}, which {heads} does not"


def _no_place(file: Path) -> str | None:
    """Why no line can be added to a file in a folder that can be written to."""
    if not file.exists():
        return None
    if not file.is_file():
        return f"{file} is no file"
    return None if os.access(file, os.R_OK | os.W_OK) else f"nothing may be written to {file}"


def _finite(value: float | list[Any]) -> bool:
    return all(math.isfinite(v) for v in (value if isinstance(value, list) else [value]) if isinstance(v, float))


PRESETS = {
    "smoke": Probe(
        linear=LinearSettings(epochs=60, batch=128),
        map=MapSettings(epochs=15, batch=128),
        decoder=DecoderSettings(AnswerConfig(width=96, heads=3, mlp=384), epochs=20, batch=128, detection_batch=64),
        finetune=FineTuneSettings(epochs=10, batch=64),
        ckpt=Saving(every=100),
    ),
    "small": Probe(
        linear=LinearSettings(epochs=90, batch=256),
        map=MapSettings(epochs=30, batch=256),
        decoder=DecoderSettings(epochs=30, batch=256, detection_batch=64),
        finetune=FineTuneSettings(epochs=50, batch=256),
    ),
    "paper": Probe(),
}
"""smoke: minutes on a CPU; small: data sets of tens of thousands of pictures; paper: METHODS §5.1 and §5.2."""
