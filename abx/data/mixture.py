"""Several sources as one, each with its share: `0.75*folder:a + 0.25*tar:b`."""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from abx.data.sources import Source, SpecError, printable
from abx.types import Objects, Record, Sample, Vocabulary


def split(spec: str, schemes: Sequence[str]) -> list[tuple[Fraction, str]]:
    """The parts of a data string and their weights; (1, spec) where it is one part without a weight.

    A `+` joins parts where a space stands on both sides of it and a scheme, or a weight and a scheme, follows: paths
    may hold any other.

    Raises: SpecError, for a weight that is no positive number, and where only some parts have one.
    """
    scheme = "|".join(map(re.escape, schemes))
    parts = re.split(rf"\s\+\s+(?=(?:[^\s*]+\s*\*\s*)?(?:{scheme})\b)", spec.strip())
    found = [re.fullmatch(rf"([^\s*:/]+)\s*\*\s*((?:{scheme})\b.*)", part.strip(), re.DOTALL) for part in parts]
    if not any(found) and len(parts) == 1:
        return [(Fraction(1), spec)]
    weighted = []
    for part, match in zip(parts, found, strict=True):
        if match is None:
            raise SpecError(f"{printable(part)!r} needs a weight: write 0.5*{printable(part)}")
        try:
            weight = Fraction(match[1]).limit_denominator(1_000_000)
        except (ValueError, ZeroDivisionError):
            weight = Fraction(0)
        if weight <= 0:
            raise SpecError(f"the weight of {printable(match[2])} must be a positive number, not {printable(match[1])}")
        weighted.append((weight, match[2].strip()))
    return weighted


Known = TypeVar("Known", Sample, Record)


class Mixture:
    """A `Source` of all records of some sources, one after the other; `draw` says which of them a stream takes when.

    Of the first p places of a stream, source k has p w_k / sum(w) to less than the number of sources, for every p.

    Classes, and the numbers in the vocabulary, go by name: those of all sources together, in order of appearance.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[Fraction]) -> None:
        self.parts, self.weights = tuple(sources), tuple(weights)
        self.ends = np.cumsum([len(source) for source in sources])
        self.classes = _union([source.classes for source in sources])
        self.vocabulary = Vocabulary(*map(_union, zip(*(source.vocabulary for source in sources), strict=True)))
        self.problems = tuple(problem for source in sources for problem in source.problems)
        self._classes = [_numbers(source.classes, self.classes) for source in sources]
        self._words = [
            [_numbers(own, all_) for own, all_ in zip(source.vocabulary, self.vocabulary, strict=True)]
            for source in sources
        ]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def place(self, i: int) -> tuple[int, int]:
        """Number of a source, and of the record in it.

        Raises: IndexError outside 0 <= i < len.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        k = int(np.searchsorted(self.ends, i, side="right"))
        return k, int(i - (self.ends[k - 1] if k else 0))

    def epochs(self, images: int) -> list[float]:
        """How often each part has been gone through after so many images of a stream."""
        total = sum(self.weights)
        return [images * float(w / total) / len(part) for w, part in zip(self.weights, self.parts, strict=True)]

    def stored(self, i: int) -> Record:
        k, j = self.place(i)
        return self._renumbered(k, self.parts[k].stored(j))

    def __getitem__(self, i: int) -> Sample:
        k, j = self.place(i)
        return self._renumbered(k, self.parts[k][j])

    def name(self, i: int) -> str:
        k, j = self.place(i)
        return self.parts[k].name(j)

    def _renumbered(self, k: int, sample: Known) -> Known:
        objects, verbs, nouns = self._words[k]
        found = sample.objects
        if found is not None and objects:
            labels = np.array([objects.get(label, label) for label in found.labels.tolist()], np.int64)
            found = Objects(found.boxes, labels, found.flags)
        return sample._replace(
            label=self._classes[k].get(sample.label, sample.label),
            objects=found,
            verb=verbs.get(sample.verb, sample.verb),
            noun=nouns.get(sample.noun, sample.noun),
        )


def _union(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))


def _numbers(own: tuple[str, ...], together: tuple[str, ...]) -> dict[int, int]:
    """From a source's own numbers to those of all together."""
    number = {name: i for i, name in enumerate(together)}
    return {i: number[name] for i, name in enumerate(own)}
