"""k-NN: the same votes as a loop and as scikit-learn's, whatever is compared at once."""

import numpy as np
import pytest
from probing import sklearn

from abx.probes.knn import knn, knn_scores


def features(rng, m, classes=7, d=12, noise=1.5):
    labels = rng.integers(0, classes, m)
    centres = np.random.default_rng(5).normal(size=(classes, d))
    return (centres[labels] + noise * rng.normal(size=(m, d))).astype(np.float32), labels


def by_hand(train, labels, test, classes, k, temperature):
    unit = lambda x: x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    found = np.zeros((len(test), classes))
    for row, votes in zip(unit(test) @ unit(train).T, found, strict=True):
        for j in np.argsort(-row)[:k]:
            votes[labels[j]] += np.exp(row[j] / temperature)
    return found


def test_votes_equal_a_loop(rng):
    (train, labels), (test, _) = features(rng, 60), features(rng, 11)
    found = knn_scores(train, labels, test, 9, k=7, temperature=0.1)
    np.testing.assert_allclose(found, by_hand(train, labels, test, 9, 7, 0.1), rtol=1e-4)
    assert (found[:, 7:] == 0).all()  # classes that no training picture has


@pytest.mark.parametrize(("keys", "queries"), [(7, 3), (60, 11), (1, 1), (64, 100), (59, 10)])
def test_chunks_change_nothing(rng, keys, queries):
    """Also where the last is not full, and where it holds fewer than k."""
    (train, labels), (test, _) = features(rng, 60), features(rng, 11)
    found = knn_scores(train, labels, test, 7, k=5, keys=keys, queries=queries)
    np.testing.assert_allclose(found, by_hand(train, labels, test, 7, 5, 0.07), rtol=1e-4)


def test_lengths_do_not_count(rng):
    (train, labels), (test, _) = features(rng, 60), features(rng, 11)
    stretched = train * rng.uniform(0.1, 10, (60, 1)).astype(np.float32)
    np.testing.assert_allclose(
        knn_scores(stretched, labels, 3 * test, 7), knn_scores(train, labels, test, 7), rtol=1e-3
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e20, 1e30])
def test_scale_does_not_count(rng, scale):
    (train, labels), (test, _) = features(rng, 60), features(rng, 11)
    votes = knn_scores(np.float32(scale) * train, labels, np.float32(scale) * test, 7)
    np.testing.assert_allclose(votes, knn_scores(train, labels, test, 7), rtol=1e-3)


def test_k_is_cut(rng):
    (train, labels), (test, _) = features(rng, 4), features(rng, 3)
    np.testing.assert_allclose(knn_scores(train, labels, test, 7), by_hand(train, labels, test, 7, 4, 0.07), rtol=1e-4)
    assert knn_scores(train, labels, test[:0], 7).shape == (0, 7)


def test_half_precision_features(rng):
    (train, labels), (test, _) = features(rng, 60), features(rng, 30)
    same = knn(train.astype(np.float16), labels, test.astype(np.float16)) == knn(train, labels, test)
    assert same.mean() > 0.95


def test_equals_scikit_learn(rng):
    sklearn()
    from sklearn.neighbors import KNeighborsClassifier

    (train, labels), (test, true) = features(rng, 3000), features(rng, 1000)
    weights = lambda distance: np.exp((1 - distance) / 0.07)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=weights, algorithm="brute").fit(train, labels)
    ours = knn_scores(train, labels, test, 7, keys=777)
    assert 0.4 < (ours.argmax(1) == true).mean() < 0.95  # else all agree
    assert abs((ours.argmax(1) == true).mean() - theirs.score(test, true)) < 0.002
    shares = ours / ours.sum(1, keepdims=True)
    assert (np.abs(shares - theirs.predict_proba(test)).max(1) < 1e-3).mean() > 0.99
