"""Each probe in turn: from features, and what is known of the pictures, to figures."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float

from abx.experiment.feeding import AskedBatches, LabelledBatches, Shuffled, ahead
from abx.experiment.finetuning import finetune
from abx.experiment.fitting import trained
from abx.experiment.material import Figures, Material
from abx.experiment.portions import batch_size, chunks, sample, spread, steps_for
from abx.experiment.probing import Kind
from abx.probes.attentive import AttentiveModel
from abx.probes.decoder import answer
from abx.probes.knn import knn_scores
from abx.probes.logistic import held_out
from abx.probes.questions import Answers
from abx.probes.retrieval import retrieval
from abx.probes.zeroshot import nameless


def measure(kind: Kind, m: Material) -> Figures:
    """The figures of one probe; `n_train` and `n_test` are pictures, or for objects questions."""
    return MEASURES[kind](m)


def needs(m: Material) -> list[str]:
    """What the test pictures lack that probes without a training ask for: sentences."""
    facts, found = m.test.features.facts, list[str]()
    if "retrieval" in m.recipe.probes and not any(fact.captions for fact in facts):
        found.append("--probes retrieval: none of the test pictures has a caption")
    if "zeroshot" in m.recipe.probes:
        if not any(fact.label >= 0 for fact in facts):
            found.append("--probes zeroshot: none of the test pictures has a class")
        elif sentence := nameless(m.test.source.classes):
            found.append(f"--probes zeroshot: {sentence}")
    return found


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
    method, batch = settings.method(m.language.words), batch_size(settings.batch, used)
    make = LabelledBatches(pooled, rows[~out], labels[~out], Shuffled(used, batch, m.recipe.seed))
    steps = steps_for(settings.epochs, used, batch)
    state = trained(
        f"linear-{m.task.name}",
        method,
        partial(ahead, make),
        make.of(np.arange(used)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=steps,
        batch=batch,
        about=m.about | {"held_out": settings.held_out},
        rescale=method.rescale,
    )
    # Where every class has one picture there is none to spare, and the choice falls to the pictures trained on.
    chosen_by = out if out.any() else ~out
    best, _ = method.best(state.model, pooled[rows[chosen_by]], labels[chosen_by])
    scores = method.scores(state.model, best, m.test.features.pooled[test.rows])
    return m.scored(scores) | {"n_train": used, "rate": settings.rates[best], "batch": batch, "steps": steps}


def _map(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    tokens, asked = m.train.features.tokens, m.test.features.tokens
    assert tokens is not None
    assert asked is not None
    settings = m.recipe.map
    batch = batch_size(settings.batch, len(rows))
    make = LabelledBatches(tokens, rows, labels, Shuffled(len(rows), batch, m.recipe.seed))
    steps = steps_for(settings.epochs, len(rows), batch)
    state = trained(
        f"map-{m.task.name}",
        settings.method(m.language.words),
        partial(ahead, make),
        make.of(sample(len(rows), m.recipe.seed)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=steps,
        batch=batch,
        about=m.about,
    )
    scores = [
        np.asarray(_by_tokens(state.model, spread(np.asarray(asked[chunk]))))[:count]
        for chunk, count in chunks(test.rows)
    ]
    return m.scored(np.concatenate(scores)) | {"n_train": len(rows), "batch": batch, "steps": steps}


def _decoder(m: Material) -> Figures:
    assert m.train is not None
    assert m.language is not None
    tokens, asked = m.train.features.tokens, m.test.features.tokens
    assert tokens is not None
    assert asked is not None
    settings = m.recipe.decoder
    count = len(m.task.questions(m.train.facts, None).picture)
    batch = batch_size(settings.batch_of(m.task.name), count)
    make = AskedBatches(tokens, m.task, m.train.facts, Shuffled(count, batch, m.recipe.seed))
    steps = steps_for(settings.epochs, count, batch)
    state = trained(
        f"decoder-{m.task.name}",
        settings.method(m.language, m.task.name),
        partial(ahead, make),
        make.of(0, sample(count, m.recipe.seed)),
        recipe=m.recipe,
        optim=settings.optim,
        steps=steps,
        batch=batch,
        about=m.about,
    )
    questions = m.task.questions(m.test.facts, None)
    prompts, found = questions.tokens[:, : m.task.prompt], list[Answers]()
    for chunk, meant in chunks(np.arange(len(prompts))):
        seen = spread(np.asarray(asked[questions.picture[chunk]]))
        said = answer(state.model, seen, spread(prompts[chunk]), m.language, m.task.places)
        found.append(Answers(said.tokens[:meant], said.scores[:meant]))
    answers = Answers(*(np.concatenate(part) for part in zip(*found, strict=True)))
    return m.task.metrics(m.test.facts, answers) | {"n_train": count, "batch": batch, "steps": steps}


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
    "finetune": finetune,
    "zeroshot": _zeroshot,
    "retrieval": _retrieval,
}


@jax.jit
def _by_tokens(model: AttentiveModel, tokens: Float[Array, "b t d"]) -> Float[Array, "b c"]:
    return jax.vmap(model)(tokens)
