"""What the probes of one command share: pictures, their features, and what is known of them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from abx.data.sources import Source, SpecError
from abx.experiment.probing import Probe
from abx.nn import ViT
from abx.probes.features import Features, Look
from abx.probes.questions import Answers, Facts, Language, Task
from abx.probes.towers import Towers

Figures = dict[str, Any]


class Part(NamedTuple):
    """Pictures for training, or for testing."""

    source: Source
    spec: str
    records: Int[np.ndarray, " r"]
    """Those that are used, in the order of the features' pictures, but with those that could not be read."""
    features: Features
    facts: list[Facts]
    """The features', in the numbers that the training data give to classes."""


class Material(NamedTuple):
    """What all probes share."""

    recipe: Probe
    backbone: ViT | None
    """None for features from elsewhere."""
    origin: dict[str, Any]
    """What a row says of where the network is from."""
    look: Look
    task: Task
    language: Language | None
    """None where no probe is asked in words."""
    train: Part | None
    """None where no probe is trained."""
    test: Part
    towers: Towers | None
    about: dict[str, Any]
    """All that features and facts of the training pictures depend on: it tells one trained probe from another."""
    sha256: str
    """Of the backbone's parameters, before; or of the file of features."""

    @property
    def labelled(self) -> "tuple[Labels, Labels]":
        """Of the training pictures and of the test pictures."""
        assert self.train is not None
        return self.labels(self.train.facts), self.labels(self.test.facts)

    def labels(self, facts: list[Facts]) -> "Labels":
        """Classes, by the words of the answers: where an answer is one word and the question just the task."""
        assert self.language is not None
        asked = self.task.questions(facts, None)
        return Labels(asked.picture, asked.tokens[:, self.task.places[0]] - self.language.first_word)

    def scored(self, scores: Float[np.ndarray, "m c"]) -> Figures:
        """Figures of scores of the words, for the test pictures that have a label.

        Raises: SpecError for scores that are no numbers, which would count as chance.
        """
        assert self.language is not None
        if not np.isfinite(scores).all():
            raise SpecError("the probe's scores are no finite numbers: its features or learning rate are too large")
        best = scores.argmax(1)[:, None] + self.language.first_word
        return self.task.metrics(self.test.facts, Answers(best, np.asarray(scores, np.float32)[:, None]))


class Labels(NamedTuple):
    rows: Int[np.ndarray, " n"]
    """Which pictures have one."""
    numbers: Int[np.ndarray, " n"]
