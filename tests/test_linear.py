"""Linear probes: logistic regression is scikit-learn's; classifiers trained side by side know nothing of each other."""

import jax
import numpy as np
import optax
import pytest
from probing import assert_eight_devices_equal_one, epochs, sentences, sklearn, trained

from abx.methods import Method
from abx.probes import logistic
from abx.probes.batches import Labelled
from abx.probes.linear import LinearProbe
from abx.probes.logistic import Logistic, held_out
from abx.probes.standard import Standard

KEY = jax.random.key(0)


def features(rng, m, classes=6, d=20, noise=2.0):
    """Numbers of very different scales, as those of an untrained network are."""
    labels = rng.integers(0, classes, m)
    centres = np.random.default_rng(5).normal(size=(classes, d))
    scales = 10.0 ** np.linspace(-2, 2, d)
    return ((centres[labels] + noise * rng.normal(size=(m, d))) * scales + scales).astype(np.float32), labels


@pytest.mark.parametrize("c", [0.001, 1.0, 100.0])
def test_equals_scikit_learn(rng, c):
    sklearn()
    from sklearn.linear_model import LogisticRegression

    (train, labels), (test, true) = features(rng, 1000), features(rng, 2000)
    fitted = Logistic(l2=(1 / (c * len(train)),)).fit(train, labels, 6)
    mean, deviation = train.mean(0), train.std(0)
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit((train - mean) / deviation, labels)
    ours = fitted.scores(test).argmax(1)
    x = (test - mean) / deviation
    assert abs((ours == true).mean() - theirs.score(x, true)) < 0.002
    probabilities = np.exp(fitted.scores(test) - np.logaddexp.reduce(fitted.scores(test), 1, keepdims=True))
    np.testing.assert_allclose(probabilities, theirs.predict_proba(x), atol=2e-3)


def test_converges_whatever_is_computed_at_once(rng, monkeypatch):
    train, labels = features(rng, 300)
    whole = Logistic(l2=(1e-2,)).fit(train, labels, 6)
    assert whole.gradient <= 1e-5
    assert 0 < whole.steps < 1000
    monkeypatch.setattr(logistic, "ROWS", 77)
    parts = Logistic(l2=(1e-2,)).fit(train, labels, 6)
    np.testing.assert_allclose(whole.weight, parts.weight, atol=1e-3)


def test_a_limit_on_steps_is_kept(rng):
    train, labels = features(rng, 100)
    fitted = Logistic(l2=(1e-6,), steps=3).fit(train, labels, 6)
    assert fitted.steps == 3
    assert fitted.gradient > 1e-5


def test_the_penalty_is_chosen_on_what_is_held_out(rng):
    """Where features tell little and rows are few, a strong one; where everything can be told, not the one that tells
    nothing. The last fit uses all rows."""
    noisy, labels = features(rng, 1000, d=100, noise=6.0)
    choice = Logistic(l2=(1e-8, 0.3), held_out=0.8)
    assert choice.fit(noisy, labels, 6).l2 == 0.3
    clean, labels = features(rng, 240, noise=0.3)
    fitted = Logistic(l2=(1e6, 1e-3), held_out=0.2, tolerance=1e-6).fit(clean, labels, 6)
    assert fitted.l2 == 1e-3
    assert fitted.held_out_top1 > 0.95
    alone = Logistic(l2=(1e-3,), tolerance=1e-6).fit(clean, labels, 6)
    np.testing.assert_allclose(fitted.weight, alone.weight, atol=1e-3)
    assert np.isnan(alone.held_out_top1)


def test_held_out():
    counts = lambda labels, share: np.bincount(labels[held_out(labels, share, 0)], minlength=labels.max() + 1).tolist()
    labels = np.repeat([0, 1, 2, 3], [1, 2, 50, 200_000])
    assert counts(labels, 0.01) == [0, 1, 1, 2000]  # never a class's only one
    assert counts(labels[:253], 0.01) == [0, 1, 10, 40]  # a fifth of few
    assert counts(np.zeros(10_000, int), 0.01) == [1000]
    assert counts(labels[:253], 0.5) == [0, 1, 25, 100]
    first, again, other = (held_out(labels, 0.01, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_a_number_that_never_changes_does_no_harm(rng):
    train, labels = features(rng, 200, noise=0.3)
    train[:, 3] = 7.0
    fitted = Logistic(l2=(1e-3,)).fit(train, labels, 6)
    assert np.isfinite(fitted.scores(train)).all()
    assert (fitted.scores(train).argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e20, 1e30])
def test_scale_does_no_harm(rng, scale):
    """Nor do numbers that never change, or by rounding alone, whatever the scale of the others."""
    train, labels = features(rng, 200, noise=0.3)
    train[:, 3], train[:, 4] = 7.0, 1 / 3 + 1e-8 * rng.random(200)
    standard = [Standard(x)(x) for x in (train, np.float32(scale) * train)]
    np.testing.assert_allclose(standard[1], standard[0], atol=1e-3)
    np.testing.assert_allclose(standard[1][:, 3:5], 0, atol=1e-4)
    fitted = Logistic(l2=(1e-3,)).fit(np.float32(scale) * train, labels, 6)
    assert (fitted.scores(np.float32(scale) * train).argmax(1) == labels).mean() > 0.95


def test_each_rate_learns_as_if_alone(rng):
    """With plain gradient steps and with Adam, whose steps do not grow with the loss."""
    whole = Labelled(*features(rng, 256))
    for tx in (optax.sgd(0.05), optax.adam(0.01)):
        together, _ = trained(LinearProbe(6, (0.1, 1.0, 5.0)), epochs(whole, 32), 20, tx, whole)
        for i, rate in enumerate((0.1, 1.0, 5.0)):
            alone, _ = trained(LinearProbe(6, (rate,)), epochs(whole, 32), 20, tx, whole)
            a, b = together.model.linear.weight[i], alone.model.linear.weight[0]
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.abs(together.model.linear.weight[0] - together.model.linear.weight[2]).max() > 0.1


def test_the_best_rate_is_found_and_close_to_logistic_regression(rng):
    whole, rest, (test, true) = Labelled(*features(rng, 2000)), Labelled(*features(rng, 500)), features(rng, 2000)
    probe = LinearProbe(6, (1e-4, 1.0, 1e4))
    state, metrics = trained(probe, epochs(whole, 200), 150, optax.adam(3e-3), whole)
    chosen, top1 = probe.best(state.model, *rest)
    assert chosen == 1
    assert top1[1] == max(top1)
    top = lambda scores: (scores.argmax(1) == true).mean()
    fitted = Logistic(l2=(1e-3,)).fit(*whole, 6)
    assert top(probe.scores(state.model, chosen, test)) == pytest.approx(top(fitted.scores(test)), abs=0.02)
    assert metrics["probe/top1"] > 0.7


def test_what_standardises_is_never_trained(rng):
    whole = Labelled(*features(rng, 64))
    state, _ = trained(LinearProbe(6), epochs(whole, 32), 5, optax.adam(0.1), whole)
    np.testing.assert_array_equal(state.model.standard.mean, LinearProbe(6).init(KEY, whole)[0].standard.mean)


def test_eight_devices_equal_one(rng):
    assert_eight_devices_equal_one(LinearProbe(6), Labelled(*features(rng, 32)))


def test_problems():
    assert isinstance(LinearProbe(), Method)
    assert LinearProbe().problems() == Logistic().problems() == []
    assert sentences(LinearProbe(), classes=1, rates=(1.0, -1.0)) == ["classes", "rates"]
    nan = float("nan")
    wrong = {"l2": (nan,), "held_out": nan, "tolerance": nan, "steps": 0, "seed": -1}
    assert sentences(Logistic(), **wrong) == list(wrong)
