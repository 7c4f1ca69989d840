"""What is where: the objects of a picture, one after the other, five tokens each (pix2seq; METHODS §5.4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from abx.data.sources import Source
from abx.probes import metrics
from abx.probes.metrics import Found, MissingLibrary, agreement, average_precision, passed_over
from abx.probes.questions import EOS, EOS_WEIGHT, PAD, PROMPT, Answers, Facts, Language, Questions
from abx.probes.tasks.written import names, nothing_known, strangers, told, unanswered
from abx.types import Objects

Order: TypeAlias = Literal["random", "area"]
SPOKEN = 5
"""Tokens of an object: y0, x0, y1, x1, class."""


@dataclass(frozen=True)
class Detection:
    """All objects of a picture, each as its box and its class.

    For training they stand in `order`, and other boxes fill the rest, whose class is "fake" and whose coordinates
    need not be predicted: so the probe goes on to the end, however many there are, and what it says of a class tells
    whether there is anything. Crowds and difficult objects are left out.

    Unlike in pix2seq, the probe reads the classes that stand before: pix2seq puts random ones in their places.
    """

    name: ClassVar[str] = "detection"
    prompt: ClassVar[int] = 1
    classes: tuple[str, ...] = ()
    """Names of the answers; () = those of the training data."""
    max_objects: int = 32
    """Objects that a probe learns to name and names; of more, the largest. Our choice: pix2seq has 100."""
    noise: bool = True
    """Whether boxes called "fake" are added; else EOS follows the last object."""
    order: Order = "random"
    """In which objects are named for training: random, as in pix2seq, or the largest first. What comes next can then be
    known, which is learnt in a fraction of the time."""
    bins: int = 1024
    """Places that a coordinate of a box can have."""

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(self.prompt + SPOKEN * i + 4 for i in range(self.max_objects))

    def check(self, train: Source, test: Source) -> list[str]:
        found = unanswered(train, test, lambda facts: facts.objects is not None and len(facts.objects.boxes) > 0, "box")
        found += strangers(self.classes or train.vocabulary.objects, test.vocabulary.objects, "classes of boxes")
        try:
            metrics.coco_library()
        except MissingLibrary as missing:
            found.append(str(missing))
        return found

    def over(self, train: Source, facts: Sequence[Facts]) -> "Detection":
        return replace(self, classes=names(self.classes or train.vocabulary.objects, _labels(facts)))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """One class alone is enough, and classes without a training object are none of it."""
        return nothing_known(len(_labels(train)), len(_labels(test)), "box with a class")

    def language(self, train: Source) -> Language:
        return told(self.classes or train.vocabulary.objects, self.bins, more=1)

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        """Without `rng` the prompts alone. A picture without objects is asked about, one of unknown objects is not."""
        asked = [(i, each.objects) for i, each in enumerate(facts) if each.objects is not None]
        tokens = np.full((len(asked), self.prompt + SPOKEN * self.max_objects + 1), PAD, np.int32)
        weights = np.zeros(tokens.shape, np.float32)
        tokens[:, 0] = PROMPT
        if rng is not None:
            language = told(self.classes, self.bins, more=1)
            for row, weight, (_, objects) in zip(tokens, weights, asked, strict=True):
                self._write(language, objects, rng, row[1:], weight[1:])
        return Questions(np.array([i for i, _ in asked], np.int64), tokens, weights)

    def _write(
        self,
        language: Language,
        objects: Objects,
        rng: np.random.Generator,
        row: Int[np.ndarray, " s"],
        weight: Float[np.ndarray, " s"],
    ) -> None:
        """Tokens and weights of one picture's answer."""
        kept = _kept(objects, self.max_objects)
        kept = rng.permutation(kept) if self.order == "random" else kept
        boxes, labels = objects.boxes[kept].astype(np.float64), objects.labels[kept]
        filled = self.max_objects - len(kept) if self.noise else 0
        boxes = np.concatenate([boxes, _fakes(rng, boxes, filled)])
        labels = np.concatenate([labels, np.full(filled, language.words - 1)])
        spoken = np.concatenate([language.place(boxes), labels[:, None] + language.first_word], 1)
        end = spoken.size
        row[:end], row[end] = spoken.ravel(), EOS
        weight[:end], weight[end] = 1.0, EOS_WEIGHT
        weight[SPOKEN * len(kept) : end].reshape(-1, SPOKEN)[:, :4] = 0.0

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        """ap, ap50, and whatever the classes are iou, f1; n_test pictures.

        Raises: MissingLibrary.
        """
        truth = [each.objects for each in facts if each.objects is not None]
        found = self.read(answers)
        return average_precision(found, truth) | agreement(found, truth) | {"n_test": float(len(truth))}

    def read(self, answers: Answers) -> list[Found]:
        """What was found in each picture: the inverse of what `questions` writes.

        The class is the most probable of the real ones and the score its probability, as in pix2seq: where "fake" is
        more probable, the box comes late in the order by score, and `Found.sure` is false. What follows a token that is
        no coordinate, where one should stand, is not read.
        """
        language = told(self.classes, self.bins, more=1)
        spoken = answers.tokens.reshape(len(answers.tokens), -1, SPOKEN)
        ids = spoken[..., :4]
        said = ((ids >= language.first_place) & (ids < language.first_word)).all(-1)
        going = np.logical_and.accumulate(said, 1)
        boxes = language.coordinate(ids)
        boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2])
        real, fake = answers.scores[..., :-1], answers.scores[..., -1]
        labels, scores = real.argmax(-1), real.max(-1)
        sure = scores > fake
        return [Found(b[g], n[g], s[g], c[g]) for b, n, s, c, g in zip(boxes, labels, scores, sure, going, strict=True)]


def _labels(facts: Sequence[Facts]) -> Int[np.ndarray, " m"]:
    """Of all objects that are asked about."""
    known = [each.objects for each in facts if each.objects is not None]
    return np.concatenate([np.zeros(0, np.int64), *(o.labels[_kept(o, len(o.labels))] for o in known)])


def _kept(objects: Objects, most: int) -> Int[np.ndarray, " o"]:
    """Which objects are named: the largest of those that are asked about."""
    asked = np.flatnonzero(~passed_over(objects) & (objects.labels >= 0))
    areas = np.prod(objects.boxes[asked, 2:] - objects.boxes[asked, :2], 1)
    return asked[np.argsort(-areas, kind="stable")[:most]]


def _fakes(rng: np.random.Generator, boxes: Float[np.ndarray, "o 4"], count: int) -> Float[np.ndarray, "p 4"]:
    """Boxes that are no objects, in random order, as pix2seq has them: some name an object once more, as many as a die
    says, their edges moved by about a twentieth of its sides; half of the others have an object's size and lie
    anywhere; the rest is of any size (ours: from one uniform point to another). Some lie on an object by chance."""
    corners = np.sort(rng.random((count, 2, 2)), 1)
    found = corners.reshape(count, 4)
    if not len(boxes):
        return found
    again = int(rng.integers(count + 1))
    moved = again + int(rng.binomial(count - again, 0.5))
    like = boxes[rng.integers(len(boxes), size=moved)]
    sizes = like[:, 2:] - like[:, :2]
    edges = rng.normal(0, 0.05, (again, 4)).clip(-0.1, 0.1) * np.tile(sizes[:again], 2)
    found[:again] = (like[:again] + edges).clip(0, 1)
    corner = rng.random((moved - again, 2)) * (1 - sizes[again:])
    found[again:moved] = np.concatenate([corner, corner + sizes[again:]], 1)
    return rng.permutation(found)
