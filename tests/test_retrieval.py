"""Retrieval: recall equals its definition by counting over all orders of what is tied; nothing is got for nothing."""

from itertools import permutations
from math import comb

import jax
import numpy as np
import pytest
from small import BACKBONE, METHODS

from abx.data.sources import SpecError
from abx.data.texts import Texts
from abx.methods import CLIP
from abx.methods.batches import features
from abx.nn import TextConfig
from abx.probes import retrieval as module
from abx.probes.questions import Facts
from abx.probes.retrieval import KS, captions_of, recalls, retrieval
from abx.probes.towers import towers_of

TEXTS = Texts(length=12)
SPOKEN = CLIP(BACKBONE, TextConfig(vocab=512, length=12, width=24, depth=1, heads=2, mlp=48), embed=20)


def counted(similar, own, k):
    """The share of all orders that sort a row and have one of its own among the first k, averaged over rows."""
    hits = []
    for row, mine in zip(similar, own, strict=True):
        orders = [order for order in permutations(range(len(row))) if all(np.diff(row[list(order)]) <= 0)]
        hits.append(np.mean([mine[list(order[:k])].any() for order in orders]))
    return float(np.mean(hits))


@pytest.mark.parametrize("seed", range(4))
def test_recall_is_the_share_of_orders_that_hit(seed, monkeypatch):
    """Embeddings of small integers, so that many similarities are exactly equal."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(module, "KS", (1, 2, 3))
    monkeypatch.setattr(module, "ROWS", 2)  # the last chunk is a part of one
    pictures = rng.integers(-1, 2, (3, 2)).astype(np.float32)
    texts = rng.integers(-1, 2, (6, 2)).astype(np.float32)
    owner = np.array([0, 1, 2, 1, 1, 0])
    found = recalls(pictures, texts, owner)
    own = np.arange(3)[:, None] == owner
    assert sum(len(np.unique(row)) < len(row) for row in pictures @ texts.T), "nothing is tied"
    for k in (1, 2, 3):
        assert found[f"i2t_r{k}"] == pytest.approx(counted(pictures @ texts.T, own, k), abs=1e-12)
        assert found[f"t2i_r{k}"] == pytest.approx(counted(texts @ pictures.T, own.T, k), abs=1e-12)


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan])
def test_collapsed_embeddings_score_chance(value):
    m, each = 40, 5
    n = m * each
    found = recalls(np.full((m, 8), value, np.float32), np.full((n, 8), value, np.float32), np.arange(n) // each)
    for k in KS:
        assert found[f"i2t_r{k}"] == pytest.approx(1 - comb(n - each, k) / comb(n, k))
        assert found[f"t2i_r{k}"] == pytest.approx(k / m)


def test_any_own_text_is_a_hit_and_every_text_looks_for_its_own_picture(rng):
    """Of each picture one caption is the picture, and four are another picture's."""
    m = 30
    pictures = np.eye(m, dtype=np.float32)
    owner = np.repeat(np.arange(m), 5)
    about = np.where(np.arange(5 * m) % 5 == 2, owner, (owner + 7) % m)
    # A little nearer to what they are said of than those that are wrong.
    texts = pictures[about] * np.where(about == owner, 1.0, 0.9).astype(np.float32)[:, None]
    found = recalls(pictures, texts, owner)
    assert found["i2t_r1"] == 1.0
    assert found["t2i_r1"] == pytest.approx(0.2)
    # The wrong four have all other pictures at 0, among which theirs is one: k - 1 places of m - 1.
    assert found["t2i_r10"] == pytest.approx(0.2 + 0.8 * 9 / (m - 1))


def test_chunks_change_nothing(rng, monkeypatch):
    pictures, texts = (rng.standard_normal((n, 6)).astype(np.float32) for n in (37, 80))
    owner = np.concatenate([np.arange(37), rng.integers(0, 37, 43)])
    whole = recalls(pictures, texts, owner)
    monkeypatch.setattr(module, "ROWS", 7)
    assert recalls(pictures, texts, owner) == whole
    assert 0 < whole["i2t_r1"] < whole["i2t_r10"] < 1


def test_the_loss_has_the_same_opinion():
    """Of a batch of pairs, recall at 1 is the accuracy that CLIP's loss reports."""
    case = METHODS["clip"]
    batch = case.batch(np.random.default_rng(0))
    model, _ = case.method.init(jax.random.key(0))
    _, aux = case.method.loss(model, model, (), batch, jax.random.key(0))
    towers = towers_of(model, TEXTS)
    pooled = np.asarray(features(model.backbone, batch.views.images[:, 0]))
    pictures, texts = towers.pictures(pooled), towers.sentences(np.asarray(batch.text))
    found = recalls(pictures, texts, np.arange(len(pictures)))
    assert found["i2t_r1"] == pytest.approx(float(aux.metrics["reward/accuracy"]))


FACTS = [
    Facts(captions=("three cubes in a field", "a field")),
    Facts(),
    Facts(captions=("", "two rings near a wall")),
    Facts(captions=("a pond",)),
]


def test_captions_keep_their_pictures():
    texts, owner = captions_of(FACTS)
    assert [(texts[i], int(owner[i])) for i in range(len(texts))] == [
        ("three cubes in a field", 0),
        ("a field", 0),
        ("", 2),
        ("two rings near a wall", 2),
        ("a pond", 3),
    ]


def test_pictures_without_a_caption_and_empty_captions_are_left_out():
    """Pictures whose features are made to be where their own text is: everything is found."""
    model, _ = SPOKEN.init(jax.random.key(0))
    towers = towers_of(model, TEXTS)
    firsts = [next((c for c in fact.captions if c), "a wall") for fact in FACTS]
    wanted = towers.sentences(towers.tokens(firsts)[0])
    pooled = wanted @ np.linalg.pinv(np.asarray(model.head.weight))
    found = retrieval(towers, pooled, FACTS)
    assert (found["n_test"], found["n_texts"]) == (3, 4)
    assert found["i2t_r1"] == 1.0
    assert found["i2t_r5"] == found["t2i_r5"] == found["t2i_r10"] == 1.0


def test_nothing_to_find_is_one_sentence():
    model, _ = SPOKEN.init(jax.random.key(0))
    towers = towers_of(model, TEXTS)
    with pytest.raises(SpecError, match="needs pictures with captions"):
        retrieval(towers, np.zeros((2, 32), np.float32), [Facts(), Facts(captions=("",))])
