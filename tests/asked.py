"""Probes so small that they are over in seconds, of a run of two steps on pictures of three colours."""

import numpy as np
import pytest
from runs import tiny

from abx.boxes import random_box
from abx.data import specs
from abx.data.sources import BadRecord, Samples, SpecError
from abx.experiment import Evaluation, probe
from abx.experiment import run as running
from abx.experiment.probe_settings import DecoderSettings, FineTuneSettings, LinearSettings, MapSettings
from abx.experiment.probing import Probe, Saving, Saying
from abx.nn.answers import AnswerConfig
from abx.optim import AdamW
from abx.probes.logistic import Logistic
from abx.types import Objects, Sample, Vocabulary

CLASSES = ("red", "green", "blue")
SMALL = AnswerConfig(width=16, depth=1, heads=2, mlp=16)
QUICK = AdamW(lr=3e-3, warmup=0.0, weight_decay=0.0, weight_decay_end=0.0)


class Some(Samples):
    """Pictures of three colours with objects, one of which cannot be read."""

    def __init__(self, count, seed, bad=(), classes=CLASSES):
        rng = np.random.default_rng(seed)
        super().__init__([self.one(i, rng) for i in range(count)], classes, Vocabulary(("ball", "cube")))
        self.bad = bad

    @staticmethod
    def one(i, rng):
        image = rng.integers(0, 60, (20, 24, 3), np.uint8)
        image[..., i % 3] += 150
        boxes = np.stack([random_box(rng, (20, 24)) for _ in range(2)])
        return Sample(image, i % 3, (f"picture {i}",), Objects(boxes, np.array([i % 2, 1])), 3 + i % 4, 1.0)

    def __getitem__(self, i):
        if i in self.bad:
            raise BadRecord("is torn")
        return super().__getitem__(i)


def two_steps(tmp_path_factory):
    """A run of two steps, and its last state."""
    recipe = tiny("simclr", tmp_path_factory.mktemp("run") / "simclr", steps=2, eval=Evaluation(every=0))
    return recipe, running.run(recipe)


def pictures(monkeypatch, tmp_path):
    """The data strings `folder:.../train` and the like; more can be put in."""
    monkeypatch.setenv("ABX_CACHE", str(tmp_path / "cache"))
    found = {}
    for i, name in enumerate(("train", "test")):
        (tmp_path / name).mkdir()
        found[f"folder:{tmp_path / name}"] = Some(37 - 12 * i, i, bad=(5,))
    original = specs.open_source
    monkeypatch.setattr(specs, "open_source", lambda spec: found[spec] if spec in found else original(spec))
    return found


def recipe_on(data, run, out, **more):
    """Trainings of a few steps."""
    train, test, *_ = data
    settings = {
        "linear": LinearSettings(epochs=2, batch=8, optim=QUICK),
        "map": MapSettings(epochs=2, batch=8, optim=QUICK),
        "decoder": DecoderSettings(SMALL, epochs=2, batch=8, detection_batch=8, optim=QUICK),
        "finetune": FineTuneSettings(epochs=2, batch=8, optim=QUICK),
        "ckpt": Saving(0),
        "log": Saying(1),
        "batch": 16,
        "logistic": Logistic(l2=(1e-3,)),
        "task": "classification",
    }
    return Probe(**settings | {"run": str(run.out), "train": train, "test": test, "out": out} | more)


def figures(found):
    """Rows without what differs from time to time."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "date", "command")} for row in found]


def refused(recipe, capsys):
    """What stands on stderr when the command ends with 2."""
    with pytest.raises((SystemExit, SpecError)) as stopped:
        probe.probe(recipe)
    if isinstance(stopped.value, SpecError):
        return str(stopped.value)
    assert stopped.value.code == 2
    return capsys.readouterr().err
