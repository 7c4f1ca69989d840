"""Curves on axes: numbers that people read, points where they belong."""

import numpy as np
import pytest

from abx.analysis.charts import Curve, chart, colour, round_numbers
from abx.analysis.page import PAPER
from abx.analysis.plots import Through, plot_sweep

RED, BLUE = (200, 0, 0), (0, 0, 200)


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((0, 300), [0, 50, 100, 150, 200, 250, 300]),
        ((-0.013, 0.021), [-0.02, -0.01, 0, 0.01, 0.02, 0.03]),
        ((1e6, 3e6), [1e6, 1.5e6, 2e6, 2.5e6, 3e6]),
    ],
)
def test_round_numbers(ends, wanted):
    found = round_numbers(*ends)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_round_numbers_hold_whatever_they_are_of(rng):
    for _ in range(300):
        low = float(rng.normal() * 10.0 ** rng.integers(-3, 4))
        high = low + float(rng.uniform(0.1, 5) * 10.0 ** rng.integers(-3, 4))
        found = round_numbers(low, high)
        assert found[0] <= low + 1e-6 * (high - low)
        assert found[-1] >= high - 1e-6 * (high - low)
        assert 4 <= len(found) <= 9


def where(picture, ink):
    """Middle of the pixels of about this colour: column, row."""
    near = np.abs(np.asarray(picture, int) - ink).sum(-1) < 60
    rows, columns = np.nonzero(near)
    return columns.mean(), rows.mean()


def test_points_lie_where_they_belong():
    curves = [Curve("a", [0, 10], [0.25, 0.25], RED), Curve("b", [0, 10], [0.75, 0.75], BLUE, dashed=True)]
    picture = chart("t", curves, "x", "y", size=(200, 100), y_range=(0, 1), key=False)
    (x_red, y_red), (x_blue, y_blue) = where(picture, RED), where(picture, BLUE)
    assert y_red - y_blue == pytest.approx(100 * 0.5 / 1.04, abs=1.5)
    assert x_red == pytest.approx(x_blue, abs=4)


def test_what_is_no_number_is_left_out():
    holes = Curve("a", [0, 1, 2], [0.1, np.nan, 0.3], RED, spread=[0.1, np.nan, 0.1])
    assert np.isfinite(where(chart("t", [holes], "x", "y"), RED)).all()
    nothing = Curve("a", [0, 1], [np.nan, np.nan], RED)
    with_key, empty = chart("t", [nothing], "x", "y"), chart("t", [nothing], "x", "y", key=False)
    assert with_key.height > empty.height
    assert np.isnan(where_or_nan(empty, RED))


def where_or_nan(picture, ink):
    near = np.abs(np.asarray(picture, int) - ink).sum(-1) < 60
    return float(np.nonzero(near)[0].mean()) if near.any() else np.nan


def test_one_checkpoint_is_a_point_with_a_bar():
    one = [Curve("a", [40], [0.2], RED, [0.05]), Curve("chance", [40], [0.1], BLUE, dashed=True)]
    picture = chart("t", one, "training step", "")
    assert where(picture, RED)[1] < where(picture, BLUE)[1]


def test_colours_are_ten_and_none_is_the_paper():
    assert len({colour(k) for k in range(10)}) == 10
    assert colour(13) == colour(3)
    assert PAPER not in {colour(k) for k in range(10)}


def test_a_sweep_of_two_methods():
    points = {"x": [0.0, 0.5], "mean": [0.3, 0.4], "std": [0.0, 0.02], "runs": [1, 2]}
    picture = plot_sweep("Figure 5", "gamma", {"eval/knn_top1": {"AB over CLIP": points, "DINO": points}}, "footer")
    assert picture.width > 400
    assert Through("a", [1, 2], [{"b": [{"c": 3}]}, {"b": [{"c": 4.5}]}]).all("b", 0, "c") == [3, 4.5]
