"""How many objects there are, and how near the nearest one is: numbers, asked for as classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from abx.data.schemes.scenes import Scenes
from abx.data.sources import Source
from abx.probes.questions import Answers, Facts, Language, Questions
from abx.probes.tasks.written import all_alike, nothing_known, of_words, one_word, unanswered

CLEVR_COUNTS = tuple(range(3, 11))
"""VTAB's eight classes of CLEVR; those of `scenes`, too."""
CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""VTAB's six classes of CLEVR."""
SCENES_DISTANCES = (0.0, 2.3, 2.55, 2.75, 3.0, 3.25, 100.0)
"""Six classes of about the same size for `scenes`, whose unit is another one: ours."""


@dataclass(frozen=True)
class Count:
    """How many objects there are."""

    name: ClassVar[str] = "count"
    prompt: ClassVar[int] = 1
    places: ClassVar[tuple[int, ...]] = (1,)
    counts: tuple[int, ...] = ()
    """The answers; () = those that occur in the training pictures. VTAB's of CLEVR: 3 to 10."""
    bins: int = 1024
    """Places of a coordinate; nothing here has one, and the language is the same."""

    def check(self, train: Source, test: Source) -> list[str]:
        return unanswered(train, test, lambda facts: facts.count >= 0, "number of objects")

    def over(self, train: Source, facts: Sequence[Facts]) -> "Count":
        return replace(self, counts=self.counts or tuple(sorted({each.count for each in facts if each.count >= 0})))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """Among the rest: numbers of objects that are none of the answers."""
        seen, asked = (numbers[numbers >= 0] for numbers in map(self._numbers, (train, test)))
        found = nothing_known(len(seen), len(asked), "number of objects") + all_alike(seen, "number of objects")
        for said, each in (("training", train), ("test", test)):
            if others := sorted({facts.count for facts in each if facts.count >= 0} - set(self.counts)):
                found.append(
                    f"there are {said} pictures with {', '.join(map(str, others[:5]))} objects, "
                    f"and the answers are {', '.join(map(str, self.counts))}"
                )
        return found

    def language(self, train: Source) -> Language:
        """Raises: ValueError, where the answers are those of the training pictures and it was not told of them."""
        return self._language()

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        return one_word(self._numbers(facts), self._language())

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        numbers = self._numbers(facts)
        return of_words(answers.scores[:, 0], numbers[numbers >= 0])

    def _language(self) -> Language:
        if not self.counts:
            raise ValueError("Count has no answers yet: ask over(train, facts) for those that occur in training data")
        return Language(len(self.counts), self.bins)

    def _numbers(self, facts: Sequence[Facts]) -> Int[np.ndarray, " m"]:
        """-1 for what is no answer."""
        number = {count: i for i, count in enumerate(self.counts)}
        return np.array([number.get(each.count, -1) for each in facts], np.int64)


@dataclass(frozen=True)
class Distance:
    """How near the nearest object is, in classes between thresholds (VTAB's "closest object distance")."""

    name: ClassVar[str] = "distance"
    prompt: ClassVar[int] = 1
    places: ClassVar[tuple[int, ...]] = (1,)
    thresholds: tuple[float, ...] = ()
    """Growing, in the source's own unit: class m reaches from above thresholds[m] to thresholds[m + 1]; what lies
    outside of all is of the first or the last class. () = `SCENES_DISTANCES` for scenes; else what makes six classes of
    the same size of the training pictures. VTAB's of CLEVR: 0, 8, 8.5, 9, 9.5, 10, 100."""
    bins: int = 1024
    """Places of a coordinate; nothing here has one, and the language is the same."""

    def check(self, train: Source, test: Source) -> list[str]:
        return unanswered(train, test, lambda facts: not np.isnan(facts.distance), "distance of the nearest object")

    def over(self, train: Source, facts: Sequence[Facts]) -> "Distance":
        if self.thresholds:
            return self
        if isinstance(train, Scenes):
            return replace(self, thresholds=SCENES_DISTANCES)
        known = [each.distance for each in facts if not np.isnan(each.distance)] or [0.0]
        # The same number twice would be a class of nothing.
        return replace(self, thresholds=(0.0, *np.unique(np.quantile(known, np.arange(1, 7) / 6)).tolist()))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """A class without pictures is none of it: thresholds are the same for all data."""
        seen, asked = (numbers[numbers >= 0] for numbers in map(self._numbers, (train, test)))
        what = "distance of the nearest object"
        return nothing_known(len(seen), len(asked), what) + all_alike(seen, f"class of the {what}")

    def language(self, train: Source) -> Language:
        """Raises: ValueError, where the thresholds depend on the training pictures and it was not told of them."""
        if not self.thresholds and isinstance(train, Scenes):
            return self.over(train, ())._language()
        return self._language()

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        return one_word(self._numbers(facts), self._language())

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        numbers = self._numbers(facts)
        return of_words(answers.scores[:, 0], numbers[numbers >= 0])

    def _language(self) -> Language:
        if not self.thresholds:
            raise ValueError("Distance has no thresholds yet: ask over(train, facts) for those of training data")
        return Language(len(self.thresholds) - 1, self.bins)

    def _numbers(self, facts: Sequence[Facts]) -> Int[np.ndarray, " m"]:
        """The last m with thresholds[m] < distance; -1 where it is unknown."""
        distances = np.array([each.distance for each in facts], np.float64)
        last = np.searchsorted(np.array(self.thresholds), distances, side="left") - 1
        return np.where(np.isnan(distances), -1, np.clip(last, 0, len(self.thresholds) - 2))
