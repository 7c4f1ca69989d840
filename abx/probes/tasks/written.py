"""What tasks share: writing questions down, counting their answers, and saying what is wrong with data."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from abx.data.sources import BadRecord, Source, printable
from abx.probes import metrics
from abx.probes.questions import EOS, EOS_WEIGHT, PROMPT, Facts, Language, Questions

LOOKED_AT = 256
"""Records of a source in which an answer is looked for before anything is computed."""
NAMED = 5
"""So many names are said of many."""


def written(
    picture: Int[np.ndarray, " m"],
    answers: Int[np.ndarray, "m a"],
    prompts: Int[np.ndarray, "m p"] | None = None,
) -> Questions:
    """Questions whose answers are so many tokens, each of weight 1.

    Args:
        prompts: what stands between the task's own token and the answer, if anything does.
    """
    m, a = answers.shape
    between = np.zeros((m, 0), np.int32) if prompts is None else prompts
    p = 1 + between.shape[1]
    tokens = np.concatenate([np.full((m, 1), PROMPT), between, answers, np.full((m, 1), EOS)], 1)
    weights = np.array([0.0] * p + [1.0] * a + [EOS_WEIGHT], np.float32)
    return Questions(picture.astype(np.int64), tokens.astype(np.int32), np.tile(weights, (m, 1)))


def one_word(numbers: Int[np.ndarray, " m"], language: Language) -> Questions:
    """A question of one word about each picture whose answer has a number; -1 for none."""
    asked = np.flatnonzero(numbers >= 0)
    return written(asked, numbers[asked, None] + language.first_word)


def of_words(scores: Float[np.ndarray, "m w"], truth: Int[np.ndarray, " m"]) -> dict[str, float]:
    """top1, mean_per_class, n_test; and top5 where there are more than five words."""
    found = {"top1": metrics.top_k(scores, truth, 1)}
    if scores.shape[1] > 5:
        found["top5"] = metrics.top_k(scores, truth, 5)
    return found | {"mean_per_class": metrics.mean_per_class(scores.argmax(1), truth), "n_test": float(len(truth))}


def unanswered(train: Source, test: Source, answered: Callable[[Facts], bool], what: str) -> list[str]:
    """A sentence for each of the two in which none of some records, evenly spread, has an answer.

    Args:
        what: that a picture should have: "class".
    """
    found = []
    for said, source in (("training", train), ("test", test)):
        looked = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int)).tolist() if len(source) else []
        if not any(_answered(source, i, answered) for i in looked):
            note = "".join(f"; {note}" for note in source.notes[:1])
            found.append(f"no picture of the {said} data has a {what} ({len(looked)} of {len(source)} looked at){note}")
    return found


def _answered(source: Source, i: int, answered: Callable[[Facts], bool]) -> bool:
    try:
        return answered(Facts(*source.stored(i)[1:]))
    except BadRecord:
        return False


def strangers(train: Sequence[str], test: Sequence[str], what: str) -> list[str]:
    """A sentence, if names of test are none of train's.

    Args:
        what: what is named: "class of pictures".
    """
    unknown = [name for name in test if name not in set(train)]
    if not unknown or not train:  # no names at all: that no picture has an answer is said elsewhere
        return []
    return [f"the test data has names for the {what} that the training data does not have: {listed(unknown)}"]


def nothing_known(train: int, test: int, what: str) -> list[str]:
    """A sentence for each of the two in which no picture that is used has an answer.

    Args:
        train, test: how many answers there are.
        what: is asked for: "class of a picture".
    """
    return [
        f"none of the {said} pictures that are used has a known {what}"
        for said, count in (("training", train), ("test", test))
        if not count
    ]


def all_alike(train: Int[np.ndarray, " m"], what: str) -> list[str]:
    """A sentence, if there is one answer only."""
    if len(np.unique(train)) != 1:
        return []
    return [f"the {what} is the same in all of the training pictures that are used, so there is nothing to learn"]


def names(given: tuple[str, ...], numbers: Int[np.ndarray, " m"]) -> tuple[str, ...]:
    """The names; where there are none, the numbers up to the largest."""
    return given or tuple(str(i) for i in range(int(numbers.max(initial=-1)) + 1))


def told(classes: tuple[str, ...], bins: int, more: int = 0) -> Language:
    """The language of these classes, and so many words more.

    Raises: ValueError, where there are none.
    """
    if not classes:
        raise ValueError("the task has no classes yet: ask over(train, facts) for those of the training data")
    return Language(len(classes) + more, bins)


def listed(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    said = ", ".join(printable(name) for name in names[:NAMED])
    return said if len(names) <= NAMED else f"{said} and {len(names) - NAMED} more"
