"""Each probe in turn: from features, and what is known of the pictures, to figures."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from abx import parallel
from abx.data.loader import Loaded, batches
from abx.data.sources import Source, SpecError
from abx.data.views import RandomCrops
from abx.data.workers import stream
from abx.experiment.feeding import AskedBatches, LabelledBatches, Shuffled, ahead
from abx.experiment.fitting import trained
from abx.experiment.probing import Kind, Probe
from abx.nn import ViT
from abx.probes.attentive import AttentiveModel
from abx.probes.batches import Pictures
from abx.probes.decoder import answer
from abx.probes.features import Features, Look, pictures
from abx.probes.finetune import FineTuneModel, started_from
from abx.probes.knn import knn_scores
from abx.probes.logistic import held_out
from abx.probes.questions import Answers, Facts, Language, Task
from abx.probes.retrieval import retrieval
from abx.probes.towers import Towers
from abx.types import Record, Sample, Vocabulary

STANDARD = 2_048
"""Training pictures, at most, by whose tokens the tokens are standardised: with 196 tokens of 384 numbers 0.3 GB."""
SHARED = 16
"""Batches are multiples of it, so that two rows or more fall to each of up to eight devices, which then all give the
same result. Fine-tuning mixes pictures in pairs."""
ANSWERED = 256
"""Pictures, or questions, that a trained probe answers at a time."""

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
        """Figures of scores of the words, for the test pictures that have a label."""
        assert self.language is not None
        best = scores.argmax(1)[:, None] + self.language.first_word
        return self.task.metrics(self.test.facts, Answers(best, np.asarray(scores, np.float32)[:, None]))


class Labels(NamedTuple):
    rows: Int[np.ndarray, " n"]
    """Which pictures have one."""
    numbers: Int[np.ndarray, " n"]


def measure(kind: Kind, m: Material) -> Figures:
    """The figures of one probe; `n_train` and `n_test` are pictures, or for objects questions."""
    return MEASURES[kind](m)


def _knn(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    settings = m.recipe.knn
    pooled, asked = m.train.features.pooled[rows], m.test.features.pooled[test.rows]
    scores = knn_scores(pooled, labels, asked, m.language.words, k=settings.k, temperature=settings.temperature)
    return m.scored(scores) | {"n_train": len(rows), "k": min(settings.k, len(rows))}


def _logistic(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    fitted = m.recipe.logistic.fit(m.train.features.pooled[rows], labels, m.language.words)
    scores = fitted.scores(m.test.features.pooled[test.rows])
    return m.scored(scores) | {"n_train": len(rows), "l2": fitted.l2, "gradient": fitted.gradient}


def _linear(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    settings, pooled = m.recipe.linear, m.train.features.pooled
    out = held_out(labels, settings.held_out, m.recipe.seed)
    used = int((~out).sum())
    method, batch = settings.method(m.language.words), _batch(settings.batch, used)
    make = LabelledBatches(pooled, rows[~out], labels[~out], Shuffled(used, batch, m.recipe.seed))
    state = trained(
        f"linear-{m.task.name}",
        method,
        partial(ahead, make),
        make.of(np.arange(used)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=_steps(settings.epochs, used, batch),
        batch=batch,
        about=m.about | {"held_out": settings.held_out},
        rescale=method.rescale,
    )
    # Where every class has one picture there is none to spare, and the choice falls to the pictures trained on.
    chosen_by = out if out.any() else ~out
    best, _ = method.best(state.model, pooled[rows[chosen_by]], labels[chosen_by])
    scores = method.scores(state.model, best, m.test.features.pooled[test.rows])
    return m.scored(scores) | {"n_train": len(rows), "rate": settings.rates[best], "batch": batch}


def _map(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    tokens, asked = m.train.features.tokens, m.test.features.tokens
    assert tokens is not None
    assert asked is not None
    settings = m.recipe.map
    batch = _batch(settings.batch, len(rows))
    make = LabelledBatches(tokens, rows, labels, Shuffled(len(rows), batch, m.recipe.seed))
    state = trained(
        f"map-{m.task.name}",
        settings.method(m.language.words),
        partial(ahead, make),
        make.of(_sample(len(rows), m.recipe.seed)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=_steps(settings.epochs, len(rows), batch),
        batch=batch,
        about=m.about,
    )
    scores = [
        np.asarray(_by_tokens(state.model, _spread(np.asarray(asked[chunk]))))[:count]
        for chunk, count in _chunks(test.rows)
    ]
    return m.scored(np.concatenate(scores)) | {"n_train": len(rows), "batch": batch}


def _decoder(m: Material) -> Figures:
    assert m.train is not None
    assert m.language is not None
    tokens, asked = m.train.features.tokens, m.test.features.tokens
    assert tokens is not None
    assert asked is not None
    settings = m.recipe.decoder
    count = len(m.task.questions(m.train.facts, None).picture)
    batch = _batch(settings.batch_of(m.task.name), count)
    make = AskedBatches(tokens, m.task, m.train.facts, Shuffled(count, batch, m.recipe.seed))
    state = trained(
        f"decoder-{m.task.name}",
        settings.method(m.language, m.task.name),
        partial(ahead, make),
        make.of(0, _sample(count, m.recipe.seed)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=_steps(settings.epochs, count, batch),
        batch=batch,
        about=m.about,
    )
    questions = m.task.questions(m.test.facts, None)
    prompts, found = questions.tokens[:, : m.task.prompt], list[Answers]()
    for chunk, meant in _chunks(np.arange(len(prompts))):
        seen = _spread(np.asarray(asked[questions.picture[chunk]]))
        said = answer(state.model, seen, _spread(prompts[chunk]), m.language, m.task.places)
        found.append(Answers(said.tokens[:meant], said.scores[:meant]))
    answers = Answers(*(np.concatenate(part) for part in zip(*found, strict=True)))
    return m.task.metrics(m.test.facts, answers) | {"n_train": count, "batch": batch}


def _finetune(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    assert m.backbone is not None
    settings, backbone = m.recipe.finetune, m.backbone
    batch = _batch(settings.batch, len(rows))
    method = settings.method(backbone.config, m.language.words)
    source, views = Chosen(m.train, rows), RandomCrops(n=1, size=m.look.size, scale=settings.scale)

    def pairs(loaded: Loaded) -> Loaded:
        return loaded._replace(batch=Pictures(loaded.batch.images[:, 0], labels[loaded.records["train"]]))

    state = trained(
        f"finetune-{m.task.name}",
        method,
        partial(_cropped, batches(source, views, batch, m.recipe.seed), m.recipe.threads, pairs),
        None,
        recipe=m.recipe,
        optim=settings.optim,
        steps=_steps(settings.epochs, len(rows), batch),
        batch=batch,
        about=m.about | {"scale": settings.scale},
        rescale=method.rescale,
        start=partial(started_from, backbone=backbone),
    )
    # Those that could be read before can be read again.
    records, rejected = m.test.records[m.test.features.places[test.rows]], list[tuple[str, str]]()
    seen = pictures(m.test.source, records, m.look, _answered(), rejected, m.recipe.threads)
    scores = [np.asarray(_by_pictures(state.model, _spread(each.images)))[: len(each.places)] for each in seen]
    if rejected:
        raise SpecError(f"--test: {rejected[0][0]} could be read before and now cannot: {rejected[0][1]}")
    return m.scored(np.concatenate(scores)) | {"n_train": len(rows), "batch": batch}


def _zeroshot(m: Material) -> Figures:
    assert m.towers is not None
    # By the test data's own names and numbers: there are no others where nothing is trained.
    facts, classes = m.test.features.facts, m.test.source.classes
    labels = np.array([fact.label for fact in facts], np.int64)
    return m.recipe.zeroshot.results(m.towers, m.test.features.pooled, labels, classes) | {"n_train": 0}


def _retrieval(m: Material) -> Figures:
    assert m.towers is not None
    return retrieval(m.towers, m.test.features.pooled, m.test.features.facts) | {"n_train": 0}


MEASURES: dict[Kind, Callable[[Material], Figures]] = {
    "knn": _knn,
    "linear": _linear,
    "logistic": _logistic,
    "map": _map,
    "decoder": _decoder,
    "finetune": _finetune,
    "zeroshot": _zeroshot,
    "retrieval": _retrieval,
}


class Chosen:
    """The pictures of a part that have a label, as a source of their own."""

    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, part: Part, rows: Int[np.ndarray, " n"]) -> None:
        self.source, self.records = part.source, part.records[part.features.places[rows]]
        self.classes: tuple[str, ...] = part.source.classes
        self.vocabulary: Vocabulary = part.source.vocabulary

    def __len__(self) -> int:
        return len(self.records)

    def stored(self, i: int) -> Record:
        return self.source.stored(self._record(i))

    def __getitem__(self, i: int) -> Sample:
        return self.source[self._record(i)]

    def name(self, i: int) -> str:
        return self.source.name(self._record(i))

    def _record(self, i: int) -> int:
        if not 0 <= i < len(self.records):
            raise IndexError(f"record {i} of {len(self.records)}")
        return int(self.records[i])


@contextmanager
def _cropped(made: Any, threads: int, pairs: Callable[[Loaded], Loaded], start: int) -> Iterator[Iterator[Loaded]]:
    """Batches of random crops, from `start` on, as `fit` takes them."""
    with stream(made, start, threads, "thread") as loaded:
        yield map(pairs, loaded)


def _batch(wanted: int, rows: int) -> int:
    """Rows of a batch: no more than there are, and a multiple of `SHARED` and of twice the devices, but at least one of
    these."""
    unit = math.lcm(SHARED, 2 * parallel.mesh().size)
    return max(min(wanted, rows) // unit, 1) * unit


def _steps(epochs: int, rows: int, batch: int) -> int:
    return -(-epochs * rows // batch)


def _sample(count: int, seed: int) -> Int[np.ndarray, " n"]:
    """Up to `STANDARD` numbers below `count`, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:STANDARD])


def _answered() -> int:
    """`ANSWERED`, or the next multiple of the devices."""
    devices = parallel.mesh().size
    return -(-ANSWERED // devices) * devices


def _chunks(rows: Int[np.ndarray, " n"]) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """The rows, always as many, and how many of them are meant: the last are filled up with the first row."""
    size = _answered()
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.concatenate([part, np.full(size - len(part), rows[0])]), len(part)


def _spread(rows: np.ndarray) -> Any:
    """Over the devices."""
    return parallel.place(rows, parallel.batched(parallel.mesh()))


@jax.jit
def _by_tokens(model: AttentiveModel, tokens: Float[Array, "b t d"]) -> Float[Array, "b c"]:
    return jax.vmap(model)(tokens)


@jax.jit
def _by_pictures(model: FineTuneModel, images: Array) -> Float[Array, "b c"]:
    return jax.vmap(model)(images)
