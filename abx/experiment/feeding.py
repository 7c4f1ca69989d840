"""What trainable probes are trained on, from features that are kept: batches as a pure function of (seed, step)."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from abx.data.loader import Loaded
from abx.probes.batches import Asked, Labelled
from abx.probes.questions import Facts, Questions, Task

AHEAD = 2
"""Batches that are made before they are asked for."""


@dataclass(frozen=True)
class Shuffled:
    """Numbers below `length` in random order, and again in another, for ever, `batch` at a time; batches run on over
    the ends of epochs."""

    length: int
    batch: int
    seed: int

    def __call__(self, step: int) -> list[tuple[int, Int[np.ndarray, " b"]]]:
        """Epochs and the numbers that a step takes of each; one epoch or two, unless the batch is larger than all."""
        parts, place, left = [], step * self.batch, self.batch
        while left:
            epoch, at = divmod(place, self.length)
            taken = _order(self.length, self.seed, epoch)[at : at + left]
            parts.append((epoch, taken))
            place, left = place + len(taken), left - len(taken)
        return parts


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)


@dataclass(frozen=True, eq=False)
class LabelledBatches:
    """Features with their classes, by step."""

    features: Float[np.ndarray, "m t d"] | Float[np.ndarray, "m d"]
    rows: Int[np.ndarray, " n"]
    """Which of them have a class and are trained on."""
    labels: Int[np.ndarray, " n"]
    """Of these."""
    shuffled: Shuffled

    def __call__(self, step: int) -> Labelled:
        return self.of(np.concatenate([numbers for _, numbers in self.shuffled(step)]))

    def of(self, numbers: Int[np.ndarray, " b"]) -> Labelled:
        return Labelled(np.asarray(self.features[self.rows[numbers]]), self.labels[numbers])


class AskedBatches:
    """Questions about pictures with the pictures' tokens, by step. What is random in them is drawn anew each epoch."""

    def __init__(
        self, tokens: Float[np.ndarray, "m t d"], task: Task, facts: Sequence[Facts], shuffled: Shuffled
    ) -> None:
        """`facts`: of all m pictures; `shuffled`: of the questions about them."""
        self.tokens, self.task, self.facts, self.shuffled = tokens, task, facts, shuffled
        self.questions = lru_cache(maxsize=2)(self._questions)

    def __call__(self, step: int) -> Asked:
        parts = [self.of(epoch, numbers) for epoch, numbers in self.shuffled(step)]
        return parts[0] if len(parts) == 1 else Asked(*map(np.concatenate, zip(*parts, strict=True)))

    def of(self, epoch: int, numbers: Int[np.ndarray, " b"]) -> Asked:
        found = self.questions(epoch)
        tokens = np.asarray(self.tokens[found.picture[numbers]])
        return Asked(tokens, found.tokens[numbers], found.weights[numbers])

    def _questions(self, epoch: int) -> Questions:
        # A key that no order has: epochs of orders are below.
        return self.task.questions(
            self.facts, np.random.Generator(np.random.Philox(key=[self.shuffled.seed, 2**62 + epoch]))
        )


@contextmanager
def ahead(make: Callable[[int], Any], start: int) -> Iterator[Iterator[Loaded]]:
    """The batches of step `start`, `start` + 1, ..., as `fit` takes them, made by a thread while others are used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(make, start + i) for i in range(AHEAD))

        def batches() -> Iterator[Loaded]:
            for step in count(start + AHEAD):
                yield Loaded(waiting.popleft().result(), {}, {}, {})
                waiting.append(pool.submit(make, step))

        try:
            yield batches()
        finally:
            pool.shutdown(cancel_futures=True)
