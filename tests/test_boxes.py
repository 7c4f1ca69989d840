import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abx import boxes

SIZES = st.integers(1, 5000)


@st.composite
def placed(draw, n=3):
    """n boxes with positive sides."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    return np.stack([boxes.random_box(rng, (97, 131)) for _ in range(n)])


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_random_box_lies_on_pixels_inside_the_image(h, w, seed):
    box = boxes.random_box(np.random.default_rng(seed), (h, w))
    pixels = box * np.array([h, w, h, w])
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)
    y0, x0, y1, x1 = np.rint(pixels)
    assert 0 <= y0 < y1 <= h
    assert 0 <= x0 < x1 <= w


def test_random_box_follows_torchvisions_law(rng):
    """Area uniform in the scale, log of the ratio uniform: Kolmogorov-Smirnov distance of 4,000 draws."""
    h, w, m = 2000, 2000, 4000
    drawn = np.stack([boxes.random_box(rng, (h, w), (0.05, 0.5)) for _ in range(m)])
    height, width = drawn[:, 2] - drawn[:, 0], drawn[:, 3] - drawn[:, 1]
    area = np.sort((height * width - 0.05) / 0.45)
    ratio = np.sort((np.log(width / height) - np.log(3 / 4)) / (np.log(4 / 3) - np.log(3 / 4)))
    uniform = (np.arange(m) + 0.5) / m
    limit = 1.95 / np.sqrt(m)  # 0.1 % of honest samples exceed it
    assert np.abs(area - uniform).max() < limit
    assert np.abs(ratio - uniform).max() < limit
    place = np.sort(drawn[:, 0] / (1 - height))
    assert np.abs(place - uniform).max() < limit


@pytest.mark.parametrize(("hw", "sides"), [((3, 4000), (3, 4)), ((4000, 3), (4, 3)), ((1, 1), (1, 1))])
def test_random_box_falls_back_to_the_largest_central_one(hw, sides):
    box = boxes.random_box(np.random.default_rng(0), hw, (0.9, 1.0))
    pixels = np.rint(box * np.array([*hw, *hw]))
    assert (pixels[2] - pixels[0], pixels[3] - pixels[1]) == sides
    assert abs(box[0] + box[2] - 1) < 0.01
    assert abs(box[1] + box[3] - 1) < 0.01


@given(placed())
def test_a_box_in_its_own_frame_is_the_unit_box(b):
    np.testing.assert_allclose(
        boxes.relative_boxes(b)[np.arange(3), np.arange(3)], np.tile([0, 0, 1, 1], (3, 1)), atol=1e-5
    )


@given(placed())
def test_actions_compose_and_invert(b):
    rel = boxes.relative_boxes(b).astype(np.float64)
    ij, jk, ik, ji = rel[0, 1], rel[1, 2], rel[0, 2], rel[1, 0]
    size = ij[2:] - ij[:2]
    composed = np.concatenate([ij[:2] + size * jk[:2], ij[:2] + size * jk[2:]])
    np.testing.assert_allclose(composed, ik, atol=1e-3)
    np.testing.assert_allclose(ji[:2], -ij[:2] / size, atol=1e-3)


def test_relative_boxes_by_hand():
    b = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.25, 1.0, 0.5]], np.float32)
    np.testing.assert_allclose(boxes.relative_boxes(b)[0, 1], [1, 0.5, 2, 1])
    np.testing.assert_allclose(boxes.relative_boxes(b)[1, 0], [-1, -1, 0, 1])


@given(placed(1))
def test_quantize_round_trip_is_within_half_a_bin(b):
    bins, low, high = 512, -4.0, 5.0
    ids = boxes.quantize(b, bins, low, high)
    centre = low + (ids + 0.5) * (high - low) / bins
    assert np.abs(centre - b).max() <= 0.5 * (high - low) / bins + 1e-5


def test_quantize_clips_to_the_edge_bins():
    ids = boxes.quantize(np.array([-9.0, -4.0, 4.9999, 9.0], np.float32))
    assert ids.dtype == np.int32
    assert ids.tolist() == [0, 0, 511, 511]


@given(placed(2))
def test_iou_laws(b):
    a, c = b
    assert boxes.iou(a, a) == pytest.approx(1)
    assert 0 <= boxes.iou(a, c) <= 1
    assert boxes.iou(a, c) == pytest.approx(boxes.iou(c, a))


def test_iou_by_hand():
    a = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]], np.float32)
    b = np.array([[0, 0, 1, 0.5], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.2, 0.2]], np.float32)
    np.testing.assert_allclose(boxes.iou(a, b), [0.5, 0, 0])


@given(placed(1))
def test_flip_is_its_own_inverse_and_keeps_the_size(b):
    np.testing.assert_allclose(boxes.flip(boxes.flip(b)), b, atol=1e-6)
    np.testing.assert_allclose((boxes.flip(b) - b)[:, [0, 2]], 0)
    np.testing.assert_allclose(boxes.flip(b)[:, 3] - boxes.flip(b)[:, 1], b[:, 3] - b[:, 1], atol=1e-6)


def test_numpy_in_numpy_out_jax_in_jax_out(rng):
    b = np.stack([boxes.random_box(rng, (50, 60)) for _ in range(4)])
    for f in (boxes.relative_boxes, boxes.quantize, boxes.flip, lambda x: boxes.iou(x, x)):
        there, here = f(b), f(jnp.asarray(b))
        assert isinstance(there, np.ndarray)
        assert isinstance(here, jnp.ndarray)
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
