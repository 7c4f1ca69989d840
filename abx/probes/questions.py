"""What a decoder probe is asked of a picture, and in which words: the language of a task, its questions, their answers.

A question is a sequence of tokens: a prompt (the task's own token, and for some tasks a box), the answer, EOS, PAD to
the common length. Box coordinates are words of their own; a class is one word (ours: Beyer et al. 2023 spell class
names with a text tokenizer, which makes the same questions longer and no different).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int32

from abx.data.sources import Source
from abx.types import Objects, Record

PAD, EOS = 0, 1
PROMPT = 2
"""The first token of every question."""
EOS_WEIGHT = 0.1
"""Weight of predicting EOS (pix2seq's)."""


@dataclass(frozen=True)
class Language:
    """Token ids of a task: PAD, EOS, the prompt, then `bins` coordinates, then `words` answers."""

    words: int
    """Different answers: the classes of the task; for detection one more, the last: "fake", of a box around nothing."""
    bins: int = 1024
    """Places that a coordinate of a box can have."""

    @property
    def first_place(self) -> int:
        """Id of the coordinate 0."""
        return PROMPT + 1

    @property
    def first_word(self) -> int:
        return self.first_place + self.bins

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.first_word + self.words

    def place(self, coordinates: Float[np.ndarray, "*b"]) -> Int32[np.ndarray, "*b"]:
        """Tokens of coordinates in [0, 1]; what lies outside is cut to it."""
        inside = np.clip(np.asarray(coordinates, np.float64), 0.0, 1.0)
        return np.rint(inside * (self.bins - 1)).astype(np.int32) + np.int32(self.first_place)

    def coordinate(self, ids: Int[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
        """Coordinates in [0, 1] that tokens stand for; of other tokens than places, the nearer end."""
        return np.clip((np.asarray(ids, np.float64) - self.first_place) / (self.bins - 1), 0.0, 1.0)

    def word(self, i: int) -> int:
        """Raises: IndexError outside 0 <= i < words."""
        if not 0 <= i < self.words:
            raise IndexError(f"word {i} of {self.words}")
        return self.first_word + i


class Facts(NamedTuple):
    """What is known of a picture: a `Record` without the picture."""

    label: int = -1
    captions: tuple[str, ...] = ()
    objects: Objects | None = None
    count: int = -1  # type: ignore[assignment]  # hides tuple.count
    distance: float = float("nan")
    verb: int = -1
    noun: int = -1


def facts_of(record: Record) -> Facts:
    return Facts(*record[1:])


class Questions(NamedTuple):
    """Questions of one task, all of the same length s."""

    picture: Int[np.ndarray, " m"]
    """Which picture each is about: a position in the facts that were asked about."""
    tokens: Int32[np.ndarray, "m s"]
    """Prompt, answer, EOS, PAD."""
    weights: Float[np.ndarray, "m s"]
    """How much it counts to predict tokens[:, t] from tokens[:, :t] and the picture; 0 for prompt and padding."""


class Answers(NamedTuple):
    """What a probe said to questions."""

    tokens: Int[np.ndarray, "m a"]
    """Tokens that it wrote after the prompt."""
    scores: Float[np.ndarray, "m c w"]
    """Probabilities of the language's words at the c positions of an answer where a word stands (`Task.places`)."""


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass. Fields that are () mean those of the training data, of which `over` tells it."""

    @property
    def name(self) -> str: ...

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""

    @property
    def places(self) -> tuple[int, ...]:
        """Positions in a question's tokens where a word of the answer stands."""

    def check(self, train: Source, test: Source) -> list[str]:
        """What is wrong with asking this of these data, as far as some records of each tell: sentences."""

    def over(self, train: Source, facts: Sequence[Facts]) -> "Task":
        """The task with the answers that training data have.

        Args:
            facts: those of the training pictures that are used.
        """

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """What is wrong with the facts of pictures that are used, test's in train's numbers (`renumbered`): sentences:
        nothing to ask, classes of which there is nothing to learn, fewer than two classes."""

    def language(self, train: Source) -> Language: ...

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        """Questions about pictures, none about those that lack what is asked for.

        How many there are, about which picture each is and how long they are does not depend on `rng`.

        Args:
            rng: for training: draws what is random in a question, e.g. the order of objects. None for testing.

        Raises: ValueError, where the task needed to be told of its data first (`over`).
        """

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        """How good answers to `questions(facts, None)` are."""


def renumbered(facts: Sequence[Facts], source: Source, train: Source) -> list[Facts]:
    """Facts of a source with the numbers that another one gives to classes of the same names; -1 where it has none.

    Where either has no names, numbers stay as they are.
    """
    label = _numbers(source.classes, train.classes)
    thing = _numbers(source.vocabulary.objects, train.vocabulary.objects)
    verb = _numbers(source.vocabulary.verbs, train.vocabulary.verbs)
    noun = _numbers(source.vocabulary.nouns, train.vocabulary.nouns)
    found = []
    for each in facts:
        objects = each.objects
        if objects is not None and thing is not None:
            numbers = np.array([thing[n] if 0 <= n < len(thing) else -1 for n in objects.labels.tolist()], np.int64)
            objects = objects._replace(labels=numbers)
        found.append(
            each._replace(
                label=_number(each.label, label),
                objects=objects,
                verb=_number(each.verb, verb),
                noun=_number(each.noun, noun),
            )
        )
    return found


def _numbers(names: tuple[str, ...], others: tuple[str, ...]) -> list[int] | None:
    if not names or not others or names == others:
        return None
    index = {name: i for i, name in enumerate(others)}
    return [index.get(name, -1) for name in names]


def _number(number: int, numbers: list[int] | None) -> int:
    if numbers is None:
        return number
    return numbers[number] if 0 <= number < len(numbers) else -1
