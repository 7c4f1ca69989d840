"""What a picture shows, and what is in a given box of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int

from abx.data.sources import Source
from abx.probes.metrics import passed_over
from abx.probes.questions import Answers, Facts, Language, Questions
from abx.probes.tasks.written import (
    all_alike,
    listed,
    names,
    nothing_known,
    of_words,
    one_word,
    strangers,
    told,
    unanswered,
    written,
)


@dataclass(frozen=True)
class Classification:
    """The class of a picture."""

    name: ClassVar[str] = "classification"
    prompt: ClassVar[int] = 1
    places: ClassVar[tuple[int, ...]] = (1,)
    classes: tuple[str, ...] = ()
    """Names of the answers; () = those of the training data."""
    bins: int = 1024
    """Places of a coordinate; nothing here has one, and the language is the same."""

    def check(self, train: Source, test: Source) -> list[str]:
        found = unanswered(train, test, lambda facts: facts.label >= 0, "class")
        return found + strangers(self.classes or train.classes, test.classes, "classes of pictures")

    def over(self, train: Source, facts: Sequence[Facts]) -> "Classification":
        return replace(self, classes=names(self.classes or train.classes, _classes(facts)))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """Among the rest: classes of which no training picture is used."""
        seen, asked = (labels[labels >= 0] for labels in map(_classes, (train, test)))
        found = nothing_known(len(seen), len(asked), "class") + all_alike(seen, "class")
        present = set(seen.tolist())
        empty = [name for i, name in enumerate(self.classes) if i not in present]
        if empty and not found:
            known = len(self.classes)
            none = f"of {len(empty)} of the {known} classes no training picture is used: {listed(empty)}"
            found.append(f"{none}; take more --train-images, or data without these classes")
        return found

    def language(self, train: Source) -> Language:
        return told(self.classes or train.classes, self.bins)

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        return one_word(_classes(facts), told(self.classes, self.bins))

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        labels = _classes(facts)
        return of_words(answers.scores[:, 0], labels[labels >= 0])


@dataclass(frozen=True)
class ObjectClass:
    """The class of an object whose box is given: a question for each object. Crowds and difficult objects are left out,
    as is usual."""

    name: ClassVar[str] = "objects"
    prompt: ClassVar[int] = 5
    places: ClassVar[tuple[int, ...]] = (5,)
    classes: tuple[str, ...] = ()
    """Names of the answers; () = those of the training data."""
    bins: int = 1024
    """Places that a coordinate of a box can have."""

    def check(self, train: Source, test: Source) -> list[str]:
        found = unanswered(train, test, lambda facts: bool(_asked(facts).any()), "box with a class")
        return found + strangers(self.classes or train.vocabulary.objects, test.vocabulary.objects, "classes of boxes")

    def over(self, train: Source, facts: Sequence[Facts]) -> "ObjectClass":
        return replace(self, classes=names(self.classes or train.vocabulary.objects, _labels(facts)))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """Classes without a training object are none of it: a few pictures of COCO have few of its classes."""
        seen, asked = _labels(train), _labels(test)
        return nothing_known(len(seen), len(asked), "box with a class") + all_alike(seen, "class of an object")

    def language(self, train: Source) -> Language:
        return told(self.classes or train.vocabulary.objects, self.bins)

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        language = told(self.classes, self.bins)
        picture = np.repeat(np.arange(len(facts)), [int(_asked(each).sum()) for each in facts])
        boxes = [each.objects.boxes[_asked(each)] for each in facts if each.objects is not None]
        prompts = language.place(np.concatenate([np.zeros((0, 4)), *boxes]))
        return written(picture, _labels(facts)[:, None] + language.first_word, prompts)

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        return of_words(answers.scores[:, 0], _labels(facts))


def _classes(facts: Sequence[Facts]) -> Int[np.ndarray, " m"]:
    return np.array([each.label for each in facts], np.int64)


def _asked(facts: Facts) -> Bool[np.ndarray, " o"]:
    """Which objects there is a question about."""
    if facts.objects is None:
        return np.zeros(0, bool)
    return (facts.objects.labels >= 0) & ~passed_over(facts.objects)


def _labels(facts: Sequence[Facts]) -> Int[np.ndarray, " m"]:
    """Of all these objects, picture by picture."""
    labels = [each.objects.labels[_asked(each)] for each in facts if each.objects is not None]
    return np.concatenate([np.zeros(0, np.int64), *labels])
