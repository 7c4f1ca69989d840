"""What values are told: the numbers make up the loss, and the page shows them."""

import html
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import TINY_AB
from small import METHODS, VARIANTS

from abx.analysis.targets import floor_of, largest_errors, loss_of, pair_losses, targets_of
from abx.analysis.targets_page import targets_page

NAMES = (
    "ab_simclr, in chunks, augmented",
    pytest.param("ab_clip", marks=pytest.mark.whole),
    pytest.param("ab_dino, in chunks, moves only", marks=pytest.mark.whole),
)


def numbers(method, batch, seed=0):
    """Of a network and a target network that differ."""
    model, carry = jax.jit(lambda key: method.init(key, batch))(jax.random.key(seed))
    target, _ = jax.jit(lambda key: method.init(key, batch))(jax.random.key(seed + 1))
    key = jax.random.key(7)
    found = targets_of(method, model, target, carry, batch, key)
    return jax.tree.map(np.asarray, found), (model, target, carry, batch, key)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_make_up_the_loss_that_the_method_reports(name):
    case = (METHODS | VARIANTS)[name]
    method = replace(case.method, value_embed=20)
    found, asked = numbers(method, case.batch(np.random.default_rng(0)))
    _, aux = jax.jit(method.loss)(*asked)
    assert loss_of(found) == pytest.approx(float(aux.metrics["value/loss"]), rel=1e-4)
    made = (1 - found.gamma) * found.reward + found.gamma * found.next_value
    np.testing.assert_allclose(found.target, made, atol=1e-6)
    # From what the file holds, without this package: four nested loops.
    b, n, _, l = found.logits.shape
    total, pairs = 0.0, 0
    for image, i, j in np.ndindex(b, n, n):
        if found.counted[i, j]:
            y, q = found.target[image, j], found.value[image, i, j]
            total += sum(-(y[a] * np.log(q[a]) + (1 - y[a]) * np.log(1 - q[a])) for a in range(l))
            pairs += 1
    assert total / pairs == pytest.approx(loss_of(found), rel=1e-3)
    assert floor_of(found) <= loss_of(found)


@pytest.fixture(scope="module")
def found():
    batch = METHODS["ab_simclr"].batch(np.random.default_rng(0))
    return numbers(TINY_AB, batch)


def test_without_a_discount_the_target_is_the_reward_of_the_view_that_is_reached(found):
    _, (model, target, carry, batch, key) = found
    plain = replace(TINY_AB, gamma=0.0)
    told = targets_of(plain, model, target, carry, batch, key)
    np.testing.assert_array_equal(told.target, told.reward)
    assert np.abs(np.asarray(found[0].target) - told.reward).max() > 1e-3


def test_the_chosen_action_is_the_one_of_the_highest_value(found):
    numbers, (_, target, carry, batch, key) = found
    own = targets_of(TINY_AB, target, target, carry, batch, key)  # the same network on both sides: q is next_q
    q = own.value
    np.testing.assert_array_equal(own.chosen, q.argmax(2))
    np.testing.assert_allclose(own.next_value, q.max(2), rtol=1e-4)
    np.testing.assert_array_equal(numbers.chosen, own.chosen)


def test_the_largest_errors_are_the_largest(found):
    numbers, _ = found
    errors = largest_errors(numbers, 10)
    sizes = [abs(numbers.error[e.image, e.source, e.view, e.annotation]) for e in errors]
    assert len({(e.image, e.annotation) for e in errors}) == 10
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == np.abs(numbers.error).max()
    assert largest_errors(numbers, 0) == []


def test_pairs_that_do_not_count_are_no_errors(found):
    numbers, _ = found
    moves = numbers._replace(counted=~np.eye(3, dtype=bool))
    assert all(e.source != e.view for e in largest_errors(moves, 40))
    losses = pair_losses(moves)
    assert loss_of(moves) == pytest.approx(losses[:, ~np.eye(3, dtype=bool)].mean())


def test_page(found):
    numbers, (*_, batch, _) = found
    errors = largest_errors(numbers, 10)
    views = np.asarray(batch.value.images)
    picture = np.full((40, 60, 3), 99, np.uint8)
    page = targets_page("a <run>", ["one & two"], numbers, lambda b: picture, views, lambda l: f"<b>text {l}</b>")
    assert "<script" not in page
    assert "<b>text" not in page
    assert html.escape("a <run>") in page
    assert f"{loss_of(numbers):.4f}" in page
    assert page.count('<section class="error">') == 10
    for e in errors:
        assert html.escape(f"<b>text {e.annotation}</b>") in page
        assert f"{numbers.value[e.image, e.source, e.view, e.annotation]:.4f}" in page
    # A table of all pairs for each: rows of values, then what their targets are made of.
    assert len(re.findall(r"<span class=\"grey\">[+-]", page)) == 10 * 9
    assert page.count('class="here"') == 10
    pictured = targets_page("t", [], numbers, lambda b: picture, views, lambda l: views[0, 0], 1)
    assert pictured.count('alt="annotation"') == 1
    assert "0 largest errors" in targets_page("t", [], numbers, lambda b: picture, views, lambda l: "", 0)
