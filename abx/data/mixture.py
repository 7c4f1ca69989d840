"""Several sources as one, each with its share: `0.75*folder:a + 0.25*tar:b`."""

import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from abx.data.sources import OnDisk, Source, SpecError, printable
from abx.types import Objects, Record, Sample, Vocabulary


def split(spec: str, schemes: Sequence[str]) -> list[tuple[Fraction, str]]:
    """The parts of a data string and their weights; (1, spec) where it is one part without a weight.

    A `+` joins parts where a space stands on both sides of it and a scheme, or a weight and a scheme, follows: paths
    may hold any other.

    Raises:
        SpecError: for a weight that is no positive number, where only some parts have one, and for what was most likely
            meant as another part.
    """
    scheme = "|".join(map(re.escape, schemes))
    parts = re.split(rf"\s\+\s+(?=(?:[^\s*]+\s*\*\s*)?(?:{scheme})\b)", spec.strip())
    found = [re.fullmatch(rf"([^\s*:/]+)\s*\*\s*((?:{scheme})\b.*)", part.strip(), re.DOTALL) for part in parts]
    for part, match in zip(parts, found, strict=True):
        behind = match[2] if match and re.fullmatch(_NUMBER, match[1]) else part.strip()
        if mistake := _mistake(behind, schemes):
            raise SpecError(f"{printable(spec)}: {mistake}")
    if not any(found) and len(parts) == 1:
        return [(Fraction(1), spec)]
    weighted = []
    for part, match in zip(parts, found, strict=True):
        if match is None:
            raise SpecError(f"{printable(part)!r} needs a weight: write 0.5*{printable(part)}")
        try:
            # As a float first: a fraction would keep all the zeros of 1e99999999.
            weight = Fraction(match[1]) if 0 < float(match[1]) < math.inf else Fraction(0)
        except ValueError:
            weight = Fraction(0)
        if weight <= 0:
            raise SpecError(f"the weight of {printable(match[2])} must be a positive number, not {printable(match[1])}")
        weighted.append((weight, match[2].strip()))
    if sum(whole([weight for weight, _ in weighted])) > MAX_PERIOD:
        raise SpecError(f"the weights of {printable(spec)} are too fine: use up to six digits")
    return weighted


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def _mistake(part: str, schemes: Sequence[str]) -> str:
    """What is wrong with a part that seems to hold another, or to be of no known scheme; "" for nothing.

    Paths may hold anything, so what is there is a path.
    """
    known, weighted = "|".join(map(re.escape, schemes)), rf"{_NUMBER}\s*\*\s*"
    path = re.match(rf"(?:{known}):(.*)", part, re.DOTALL)
    if os.path.lexists(os.path.expanduser(path[1] if path else part)):
        return ""
    joined = re.search(rf"\S(\s*)\+(\s*)(?:{weighted}(?:{known})\b|(?:{known}):)", part)
    if joined and not (joined[1] and joined[2]):
        return "put spaces around the + that joins two parts"
    named = re.search(rf"(?:^|\s\+\s+){weighted}(\w[\w.-]*)(:|\s|$)|\s\+\s+(\w+):", part)
    if named is None:
        return ""
    name = named[1] or named[3]
    close = difflib.get_close_matches(name, schemes, 1)
    if name in schemes or not (close or named[2] == ":"):
        return ""
    hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(schemes)}"
    return f"{printable(name)} is no kind of data: {hint}"


def whole(weights: Sequence[Fraction]) -> list[int]:
    """The smallest whole numbers in the same proportion."""
    common = math.lcm(*(weight.denominator for weight in weights))
    numbers = [int(weight * common) for weight in weights]
    return [number // math.gcd(*numbers) for number in numbers]


MAX_PERIOD = 1_000_000
"""Places after which a mixture's order of parts repeats, at most."""
Known = TypeVar("Known", Sample, Record)


class Mixture:
    """A `Source` of all records of some sources, one after the other; `turn` says when a stream takes from which.

    Shares are exact: with weights of 3 and 1, of every 4 places 3 are the first part's. Up to any place between, a part
    has had its share to less than the number of parts.

    Classes, and the numbers in the vocabulary, go by name: those of all sources together, in order of appearance. What
    has no name in its own source is unknown here.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[Fraction]) -> None:
        self.parts, self.weights = tuple(sources), tuple(weights)
        self.ends = np.cumsum([len(source) for source in sources])
        self._counts = whole(weights)
        # A part with n of the N places of a period has its m-th in the middle of the m-th of n equal stretches.
        wanted = np.concatenate([(np.arange(n) + 0.5) / n for n in self._counts])
        parts = np.repeat(np.arange(len(sources), dtype=np.int32), self._counts)
        order = np.argsort(wanted, kind="stable")
        self._part, self._nth = parts[order], np.concatenate([np.arange(n) for n in self._counts])[order]
        self.classes = _union([source.classes for source in sources])
        self.vocabulary = Vocabulary(*map(_union, zip(*(source.vocabulary for source in sources), strict=True)))
        self.problems = tuple(problem for source in sources for problem in source.problems)
        self.notes = tuple(note for source in sources for note in source.notes)
        self._classes = [_numbers(source.classes, self.classes) for source in sources]
        self._words = [
            [_numbers(own, all_) for own, all_ in zip(source.vocabulary, self.vocabulary, strict=True)]
            for source in sources
        ]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def turn(self, place: int) -> tuple[int, int]:
        """Which part a place of a stream belongs to, and how many places of that part come before it."""
        period, at = divmod(place, len(self._part))
        k = int(self._part[at])
        return k, period * self._counts[k] + int(self._nth[at])

    def place(self, i: int) -> tuple[int, int]:
        """Number of a source, and of the record in it.

        Raises: IndexError outside 0 <= i < len.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        k = int(np.searchsorted(self.ends, i, side="right"))
        return k, i - self.first(k)

    def first(self, k: int) -> int:
        """Number of a part's first record."""
        return int(self.ends[k]) - len(self.parts[k])

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

    def files(self, records: Int[np.ndarray, " r"]) -> Iterable[str | bytes]:
        """See `sources.OnDisk`; of parts without files none."""
        for k, part in enumerate(self.parts):
            if isinstance(part, OnDisk):
                yield from part.files(records[(records >= self.first(k)) & (records < self.ends[k])] - self.first(k))

    def name(self, i: int) -> str:
        k, j = self.place(i)
        return self.parts[k].name(j)

    def _renumbered(self, k: int, sample: Known) -> Known:
        objects, verbs, nouns = self._words[k]
        found = sample.objects
        if found is not None:
            labels = np.array([objects.get(label, -1) for label in found.labels.tolist()], np.int64)
            found = None if (labels < 0).any() else Objects(found.boxes, labels, found.flags)
        return sample._replace(
            label=self._classes[k].get(sample.label, -1),
            objects=found,
            verb=verbs.get(sample.verb, -1),
            noun=nouns.get(sample.noun, -1),
        )


def _union(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))


def _numbers(own: tuple[str, ...], together: tuple[str, ...]) -> dict[int, int]:
    """From a source's own numbers to those of all together."""
    number = {name: i for i, name in enumerate(together)}
    return {i: number[name] for i, name in enumerate(own)}
