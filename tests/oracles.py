"""Pictures that can be asked everything, features that hold the answers, and a probe for each kind of question."""

from typing import Any, NamedTuple

import numpy as np

from abx.nn.answers import AnswerConfig
from abx.probes.batches import Asked
from abx.probes.decoder import DecoderProbe, answer
from abx.probes.questions import Facts, Language
from abx.probes.tasks import CLEVR_DISTANCES, Action, Classification, Count, Detection, Distance, ObjectClass
from abx.types import Objects

TINY = AnswerConfig(width=32, depth=2, heads=4, mlp=64, dropout=0.0)
BINS, CLASSES, SLOTS = 6, ("a", "b", "c", "d"), 2
"""Places of a coordinate; classes; objects in a picture, at most."""


def facts(rng):
    """All that can be asked about a picture, at random. Boxes are of different corners, on the places."""
    things = int(rng.integers(1, SLOTS + 1))
    corners = rng.permutation(9)[:things]
    low = np.stack([corners // 3, corners % 3], 1) * 2
    boxes = np.concatenate([low, low + rng.integers(1, 3, (things, 2))], 1).clip(0, BINS - 1) / (BINS - 1)
    objects = Objects(boxes.astype(np.float32), rng.integers(0, len(CLASSES), things))
    return Facts(
        label=int(rng.integers(4)),
        objects=objects,
        count=int(rng.integers(1, 4)),
        distance=float(rng.uniform(7, 11)),
        verb=int(rng.integers(3)),
        noun=int(rng.integers(4)),
    )


def oracle(known, task, rng, *, blind=False):
    """Tokens that say what there is to say: one for each object, one for all the rest, in random order; else noise."""
    d = 5 * BINS + 32
    tokens = 0.1 * rng.normal(size=(len(known), SLOTS + 2, d)).astype(np.float32)
    hot = lambda at, n: np.eye(n, dtype=np.float32)[at]
    for row, each in zip(tokens, known, strict=True):
        for slot, (box, label) in enumerate(zip(each.objects.boxes, each.objects.labels, strict=True)):
            ids = np.rint(box * (BINS - 1)).astype(int)
            row[slot, : 4 * BINS] += hot(ids, BINS).ravel()
            row[slot, 4 * BINS : 4 * BINS + 4] += hot(label, 4)
        near = int(np.searchsorted(task.thresholds, each.distance) - 1) if isinstance(task, Distance) else 0
        rest = np.concatenate(
            [hot(each.label, 4), hot(each.count, 4), hot(each.verb, 4), hot(each.noun, 4), hot(near, 6)]
        )
        row[SLOTS, 5 * BINS : 5 * BINS + len(rest)] += rest
        row[:] = row[rng.permutation(len(row))]
    return rng.normal(size=tokens.shape).astype(np.float32) if blind else tokens


class Asking(NamedTuple):
    task: Any
    probe: DecoderProbe
    steps: int
    """Until it has learnt to read an oracle."""
    figure: str
    chance: float
    """Above what guessing gets."""


def asking(task, words, steps, figure, chance):
    return Asking(task, DecoderProbe(Language(words, BINS), TINY, smoothing=0.0), steps, figure, chance)


ASKED = {
    "classification": asking(Classification(CLASSES, BINS), 4, 70, "top1", 0.4),
    "objects": asking(ObjectClass(CLASSES, BINS), 4, 200, "top1", 0.4),
    "count": asking(Count((1, 2, 3), BINS), 3, 70, "top1", 0.5),
    "distance": asking(Distance(CLEVR_DISTANCES, BINS), 6, 70, "top1", 0.5),
    "action": asking(Action(("v", "w", "x"), CLASSES, BINS), 7, 80, "action_top1", 0.25),
    "detection": asking(Detection(CLASSES, SLOTS, bins=BINS), 5, 400, "ap50", 0.1),
}


def batches(task, size=32, **how):
    """step -> questions about pictures that were never seen before."""

    def batch(number):
        rng = np.random.default_rng((7, number))
        known = [facts(rng) for _ in range(size)]
        tokens, questions = oracle(known, task, rng, **how), task.questions(known, rng)
        rows = rng.choice(len(questions.tokens), size, replace=len(questions.tokens) < size)
        return Asked(tokens[questions.picture[rows]], questions.tokens[rows], questions.weights[rows])

    return batch


def figure(asked, model, m=200, **how):
    rng = np.random.default_rng(99)
    known = [facts(rng) for _ in range(m)]
    tokens, questions = oracle(known, asked.task, rng, **how), asked.task.questions(known, None)
    prompts = questions.tokens[:, : asked.task.prompt]
    answers = answer(model, tokens[questions.picture], prompts, asked.probe.language, asked.task.places)
    return asked.task.metrics(known, answers)[asked.figure]
