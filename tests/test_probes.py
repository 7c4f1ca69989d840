import jax
import numpy as np
import pytest
from conftest import TINY

from abx.nn import ViT
from abx.probes import online


def test_knn_on_clusters(rng):
    centres = rng.normal(size=(4, 16))
    labels = np.repeat(np.arange(4), 30)
    x = (centres[labels] + 0.1 * rng.normal(size=(120, 16))).astype(np.float32)
    assert (np.asarray(online.knn(x[::2], labels[::2], x[1::2], k=5)) == labels[1::2]).all()


def test_knn_equals_a_loop(rng):
    train, test = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=(9, 8)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    found = np.asarray(online.knn(train, labels, test, k=7, temperature=0.1))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit(test.astype(np.float64)) @ unit(train.astype(np.float64)).T
    for row, answer in zip(similarity, found, strict=True):
        votes = np.zeros(3)
        for j in np.argsort(-row)[:7]:
            votes[labels[j]] += np.exp(row[j] / 0.1)
        assert votes.argmax() == answer


def test_effective_rank(rng):
    flat = rng.normal(size=(500, 1)) * rng.normal(size=(1, 8))
    assert online.effective_rank(flat) == pytest.approx(1, abs=1e-6)
    assert online.effective_rank(rng.normal(size=(5000, 8))) == pytest.approx(8, rel=0.01)
    assert online.effective_rank(np.ones((10, 4))) == 1


def test_attentive_finds_the_one_token_that_tells(rng):
    """The class is written in one token of eight, at a random place: attention finds it, chance is 1/3."""
    labels = rng.integers(0, 3, 300)
    tokens = rng.normal(size=(300, 8, 12)).astype(np.float32)
    place = rng.integers(0, 8, 300)
    tokens[np.arange(300), place, labels] += 6
    found = online.attentive(tokens[:200], labels[:200], tokens[200:], steps=200, batch=64, lr=3e-3)
    assert (found == labels[200:]).mean() > 0.85
    shuffled = online.attentive(tokens[:200], rng.permutation(labels[:200]), tokens[200:], steps=50, batch=64)
    assert (shuffled == labels[200:]).mean() < 0.6


def test_features_do_not_depend_on_the_chunk(rng):
    backbone = ViT(TINY, key=jax.random.key(0))
    images = rng.integers(0, 256, (7, 16, 16, 3), np.uint8)
    for a, b in zip(online.tokens_of(backbone, images, 3), online.tokens_of(backbone, images, 7), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
