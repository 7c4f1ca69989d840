"""What is being done, and to what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from abx.data.sources import Source
from abx.probes import metrics
from abx.probes.questions import Answers, Facts, Language, Questions
from abx.probes.tasks.written import all_alike, names, nothing_known, strangers, told, unanswered, written


@dataclass(frozen=True)
class Action:
    """Verb and noun of a frame: two words. Of the language's words the verbs come first, then the nouns."""

    name: ClassVar[str] = "action"
    prompt: ClassVar[int] = 1
    places: ClassVar[tuple[int, ...]] = (1, 2)
    verbs: tuple[str, ...] = ()
    """Names of verbs; () = those of the training data."""
    nouns: tuple[str, ...] = ()
    """Names of nouns; () = those of the training data."""
    bins: int = 1024
    """Places of a coordinate; nothing here has one, and the language is the same."""

    def check(self, train: Source, test: Source) -> list[str]:
        found = unanswered(train, test, _known, "verb and a noun")
        found += strangers(self.verbs or train.vocabulary.verbs, test.vocabulary.verbs, "verbs")
        return found + strangers(self.nouns or train.vocabulary.nouns, test.vocabulary.nouns, "nouns")

    def over(self, train: Source, facts: Sequence[Facts]) -> "Action":
        words, pairs = train.vocabulary, _pairs(facts)
        verbs = names(self.verbs or words.verbs, pairs[:, 0])
        return replace(self, verbs=verbs, nouns=names(self.nouns or words.nouns, pairs[:, 1]))

    def lacking(self, train: Sequence[Facts], test: Sequence[Facts]) -> list[str]:
        """Words without a training picture are none of it: EPIC-KITCHENS has verbs that only its validation has."""
        seen, asked = _pairs(train), _pairs(test)
        found = nothing_known(len(seen), len(asked), "verb and noun")
        return found + all_alike(seen @ np.array([len(self.nouns), 1]), "action")

    def language(self, train: Source) -> Language:
        return told((self.verbs or train.vocabulary.verbs) + (self.nouns or train.vocabulary.nouns), self.bins)

    def questions(self, facts: Sequence[Facts], rng: np.random.Generator | None) -> Questions:
        first = told(self.verbs + self.nouns, self.bins).first_word
        asked = np.array([i for i, each in enumerate(facts) if _known(each)], np.int64)
        return written(asked, _pairs(facts) + np.array([first, first + len(self.verbs)]))

    def metrics(self, facts: Sequence[Facts], answers: Answers) -> dict[str, float]:
        """verb_top1, noun_top1; action_top1, of both right; n_test. The noun is that after the verb written."""
        pairs, verbs = _pairs(facts), len(self.verbs)
        verb, noun = answers.scores[:, 0, :verbs], answers.scores[:, 1, verbs:]
        both = (verb.argmax(1) == pairs[:, 0]) & (noun.argmax(1) == pairs[:, 1])
        return {
            "verb_top1": metrics.top_k(verb, pairs[:, 0], 1),
            "noun_top1": metrics.top_k(noun, pairs[:, 1], 1),
            "action_top1": float(both.mean()),
            "n_test": float(len(pairs)),
        }


def _known(facts: Facts) -> bool:
    return facts.verb >= 0 and facts.noun >= 0


def _pairs(facts: Sequence[Facts]) -> Int[np.ndarray, "m 2"]:
    return np.array([(each.verb, each.noun) for each in facts if _known(each)], np.int64).reshape(-1, 2)
