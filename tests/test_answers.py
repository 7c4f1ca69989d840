"""The decoder of answers: what it sees, what its loss is, and that it writes one by one what it is taught at once."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import ASKED, SLOTS, TINY, batches
from probing import assert_eight_devices_equal_one, sentences

from abx.methods import Method
from abx.nn.answers import AnswerConfig, AnswerDecoder
from abx.probes.decoder import DecoderProbe, answer
from abx.probes.questions import Language

KEY = jax.random.key(0)


def untrained(asked, batch, **config):
    probe = replace(asked.probe, decoder=replace(TINY, **config))
    return probe.init(KEY, batch)[0]


def test_written_one_by_one_as_taught_at_once():
    """What is written is the most probable of what may stand there, given the picture and what was written before."""
    asked = ASKED["detection"]
    batch, language, places = batches(asked.task, 8)(0), asked.probe.language, asked.task.places
    model = untrained(asked, batch)
    found = answer(model, batch.tokens, batch.questions[:, :1], language, places)
    assert found.tokens.shape == (8, 5 * SLOTS)
    assert found.scores.shape == (8, SLOTS, 5)
    sequence = np.concatenate([batch.questions[:, :1], found.tokens, batch.questions[:, -1:]], 1)
    logits = np.asarray(jax.vmap(model)(batch.tokens, sequence))
    for at in range(1, 1 + 5 * SLOTS):
        ids = np.arange(language.size)
        allowed = ids >= language.first_word if at in places else (ids == 1) | ((ids > 2) & (ids < language.first_word))
        best = np.where(allowed, logits[:, at], -np.inf).argmax(1)
        np.testing.assert_array_equal(best, found.tokens[:, at - 1])
    words = np.asarray(jax.nn.softmax(logits[:, np.array(places), language.first_word :]))
    np.testing.assert_allclose(words, found.scores, rtol=1e-4, atol=1e-6)
    assert len(np.unique(found.tokens)) > 5  # else all of this would say little


def test_a_token_is_predicted_from_the_earlier_ones_and_the_picture():
    asked = ASKED["objects"]
    batch = batches(asked.task, 2)(0)
    model = untrained(asked, batch)
    tokens, question = batch.tokens[0], batch.questions[0]
    logits = model(tokens, question)
    for at in range(len(question)):
        other = question.copy()
        other[at] = 4 if question[at] != 4 else 5
        far = np.abs(model(tokens, other) - logits).max(1)
        assert (far[: at + 1] == 0).all()
        assert (far[at + 1 :] > 1e-4).all()
    assert (np.abs(model(-batch.tokens[0], question) - logits).max(1) > 1e-4).all()


def test_the_loss_is_what_weights_say():
    asked = ASKED["detection"]
    batch = batches(asked.task, 4)(0)
    probe = replace(asked.probe, smoothing=0.2)
    model = untrained(asked, batch)
    logp = np.asarray(jax.nn.log_softmax(jax.vmap(model)(batch.tokens, batch.questions)), np.float64)
    total = 0.0
    for row, weights, terms in zip(batch.questions, batch.weights, logp, strict=True):
        for token, weight, term in zip(row, weights, terms, strict=True):
            total -= weight * (0.8 * term[token] + 0.2 * term.mean())
    loss = jax.jit(lambda b: probe.loss(model, model, (), b, KEY)[0])
    np.testing.assert_allclose(loss(batch), total / batch.weights.sum(), rtol=1e-4)
    np.testing.assert_allclose(loss(batch._replace(weights=3 * batch.weights)), loss(batch), rtol=1e-5)
    nothing = loss(batch._replace(weights=0 * batch.weights))
    assert nothing == 0


def test_dropout_leaves_out_its_share_and_the_mean():
    layer = AnswerDecoder(replace(TINY, dropout=0.25), 8, 10, 4, key=KEY).layers
    dropped = np.asarray(layer._drop(jnp.ones((100, 100)), KEY))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)
    asked = ASKED["classification"]
    batch = batches(asked.task, 2)(0)
    model = untrained(asked, batch, dropout=0.25)
    run = lambda key: np.asarray(model(batch.tokens[0], batch.questions[0], key=key))
    np.testing.assert_array_equal(run(None), untrained(asked, batch)(batch.tokens[0], batch.questions[0]))
    assert np.abs(run(KEY) - run(None)).max() > 1e-3
    assert np.abs(run(KEY) - run(jax.random.key(1))).max() > 1e-3


def test_bfloat16_is_close_and_half_precision_features_are_read():
    asked = ASKED["detection"]
    batch = batches(asked.task, 4)(0)
    half = batch._replace(tokens=batch.tokens.astype(np.float16))
    a = jax.vmap(untrained(asked, batch, dtype="float32"))(half.tokens, batch.questions)
    b = jax.vmap(untrained(asked, batch, dtype="bfloat16"))(half.tokens, batch.questions)
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_eight_devices_equal_one():
    """Also what is left out by dropout, and where some devices hold more of what counts than others."""
    asked = ASKED["detection"]
    batch = batches(asked.task, 16)(0)
    assert len(set(batch.weights.sum(1).tolist())) > 1
    assert_eight_devices_equal_one(replace(asked.probe, decoder=replace(TINY, dropout=0.2), smoothing=0.1), batch)


def test_problems():
    probe = DecoderProbe()
    assert isinstance(probe, Method)
    assert probe.problems() == []
    assert sentences(probe, language=Language(1, 1), smoothing=float("nan")) == [
        "language.words",
        "language.bins",
        "smoothing",
    ]
    wrong = {"width": 0, "depth": 0, "heads": 0, "mlp": 0, "dropout": 1.0}
    assert sentences(probe, decoder=AnswerConfig(**wrong)) == [f"decoder.{name}" for name in wrong]
    assert sentences(probe, decoder=AnswerConfig(heads=5)) == ["decoder.heads"]
    with pytest.raises(ValueError, match=r"decoder\.heads must divide"):
        AnswerDecoder(AnswerConfig(heads=5), 8, 10, 4, key=KEY)
