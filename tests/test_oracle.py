"""The decoder probe, as `abx probe` runs it, on drawn scenes: it reads what features say, and of itself it knows
nothing. Minutes each: -m slow.

Detection names the largest object first. In random order (pix2seq's, the default) the same features are read as
exactly, but not to name an object twice takes a decoder so small many times longer to learn.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from abx.experiment import probe
from abx.experiment.probe_settings import DecoderSettings
from abx.experiment.probing import Probe, Saying
from abx.nn.answers import AnswerConfig
from abx.optim import AdamW
from abx.probes.features import Features
from abx.probes.named import SCENES
from abx.probes.questions import facts_of
from abx.probes.tasks import SCENES_DISTANCES, Detection

pytestmark = pytest.mark.slow

SIZE = 96
"""Side of the scenes in pixels: corners of boxes are multiples of 1 / 96."""
MOST = 10
"""Objects in a scene, at most."""


class Asked(NamedTuple):
    figure: str
    enough: float
    """What features that hold the answers must reach."""
    epochs: int


ASKED = {
    "classification": Asked("top1", 0.95, 10),
    "objects": Asked("top1", 0.95, 5),
    "detection": Asked("ap50", 0.9, 25),
    "count": Asked("top1", 0.95, 10),
    "distance": Asked("top1", 0.95, 10),
    "action": Asked("action_top1", 0.95, 10),
}


def hot(at, n):
    return np.eye(n, dtype=np.float16)[at]


def told(source, facts):
    """Tokens [1 + MOST, d]: one of the whole picture, and one for each object that says where and what it is, and how
    many are larger."""
    near = int(np.searchsorted(SCENES_DISTANCES, facts.distance)) - 1
    things = len(source.vocabulary.objects)
    whole = [(facts.label, len(source.classes)), (facts.count, MOST + 1), (near, len(SCENES_DISTANCES))]
    whole += [(facts.verb, len(source.vocabulary.verbs)), (facts.noun, len(source.vocabulary.nouns))]
    first = np.concatenate([hot(at, n) for at, n in whole])
    sides = facts.objects.boxes[:, 2:] - facts.objects.boxes[:, :2]
    order = np.argsort(-sides.prod(1), kind="stable")
    corners = hot(np.rint(facts.objects.boxes[order] * SIZE).astype(int), SIZE + 1).reshape(len(order), -1)
    each = np.concatenate([corners, hot(facts.objects.labels[order], things), hot(np.arange(len(order)), MOST)], 1)
    tokens = np.zeros((1 + MOST, len(first) + each.shape[1]), np.float16)
    tokens[0, : len(first)] = first
    tokens[1 : 1 + len(each), len(first) :] = each
    return tokens


def oracle(backbone, source, look, *, records, **more):
    """In place of `kept`: features that hold all answers, whatever the network."""
    facts = [facts_of(source.stored(int(i))) for i in records]
    tokens = np.stack([told(source, each) for each in facts])
    names = [source.name(int(i)) for i in records]
    return Features(tokens, tokens.mean(1).astype(np.float32), facts, names, np.arange(len(names)), []), False


@pytest.mark.parametrize("name", ASKED)
def test_features_that_hold_the_answer_are_read_and_others_are_not(name, tmp_path, monkeypatch):
    if name == "detection":
        pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    monkeypatch.setenv("ABX_CACHE", str(tmp_path / "cache"))
    # A third of the tokens for as many objects as there are at most.
    monkeypatch.setitem(SCENES, "scenes-detection", Detection(max_objects=MOST))
    asked = ASKED[name]
    settings = DecoderSettings(
        AnswerConfig(width=64, depth=4, heads=2, mlp=256, dropout=0.0),
        epochs=asked.epochs,
        batch=128,
        detection_batch=64,
        detection_order="area",
        optim=AdamW(lr=3e-3, warmup=0.05, weight_decay=1e-4, weight_decay_end=1e-4, clip=1.0),
    )
    recipe = Probe(
        init="Ti/16", size=SIZE, probes=("decoder",), task=f"scenes-{name}", decoder=settings, log=Saying(100),
        train_images=2_000, test_images=500, out=tmp_path / "untrained",
    )  # fmt: skip
    assert not recipe.problems()
    (untrained,) = probe.probe(recipe)
    monkeypatch.setattr(probe, "kept", oracle)
    (read,) = probe.probe(replace(recipe, out=tmp_path / "oracle"))
    assert read[asked.figure] > asked.enough
    assert untrained[asked.figure] < asked.enough - 0.1
