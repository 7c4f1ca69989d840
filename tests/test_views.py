"""Crops: exactly the pixels of their boxes, from one decoding, in squares of one size."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import Numbered, smooth
from PIL import Image

from abx import boxes
from abx.data.images import center_crop, crop_resize
from abx.data.loader import batches
from abx.data.views import RandomCrops

SIDES = st.integers(1, 250)
SEEDS = st.integers(0, 2**32 - 1)


def coordinates(h: int, w: int) -> np.ndarray:
    """Red is the row, green the column."""
    y, x = np.mgrid[:h, :w]
    return np.stack([y, x, 0 * y], -1).astype(np.uint8)


def pixels(box: np.ndarray, h: int, w: int) -> list[int]:
    return [int(v) for v in np.rint(box * np.array([h, w, h, w]))]


@given(SIDES, SIDES, SEEDS)
@example(1, 1, 0)
@example(1, 250, 0)
@example(250, 1, 0)
def test_a_crop_of_its_own_size_is_the_box_pixel_by_pixel(h, w, seed):
    """Square boxes cropped to their own side: no resizing is left, so every pixel must say where it was."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(1, min(h, w) + 1))
    y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
    box = np.array([y / h, x / w, (y + side) / h, (x + side) / w], np.float32)
    np.testing.assert_array_equal(
        crop_resize(coordinates(h, w), box, side), coordinates(h, w)[y : y + side, x : x + side]
    )


@given(SIDES, SIDES, SEEDS, st.integers(1, 40))
def test_no_view_sees_what_is_outside_its_box(h, w, seed, size):
    """The box is painted, all else is white: a filter that reached over the edge would bring white in."""
    box = boxes.random_box(np.random.default_rng(seed), (h, w))
    y0, x0, y1, x1 = pixels(box, h, w)
    image = np.full((h, w, 3), 255, np.uint8)
    image[y0:y1, x0:x1] = 40
    assert (crop_resize(image, box, size) == 40).all()


def test_a_crop_shows_the_whole_box_in_order():
    """Enlarged four times, and its mean and its corners are those of the box."""
    image, box = smooth(80, 120), np.array([0.25, 0.5, 0.75, 1.0], np.float32)
    crop, inside = crop_resize(image, box, 160), image[20:60, 60:120]
    np.testing.assert_allclose(crop.mean((0, 1)), inside.mean((0, 1)), atol=1)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(crop[corner].astype(int), inside[corner], atol=3)


def test_shrinking_is_antialiased():
    """A chequered board of single pixels becomes even grey, not a moiré."""
    board = np.repeat(255 * (np.indices((96, 96)).sum(0) % 2)[..., None], 3, -1).astype(np.uint8)
    shrunk = crop_resize(board, np.array([0, 0, 1, 1], np.float32), 13).astype(int)
    assert np.abs(shrunk[1:-1, 1:-1] - 127.5).max() < 6


@given(SIDES, SIDES, SEEDS, st.integers(1, 5))
@example(1, 1, 0, 3)
def test_views_come_with_the_boxes_they_were_cut_from(h, w, seed, n):
    image, crops = coordinates(h, w), RandomCrops(n=n, size=24, scale=(0.1, 0.6))
    views = crops(image, np.random.default_rng(seed))
    assert views.images.shape == (n, 24, 24, 3)
    assert views.images.dtype == np.uint8
    assert views.boxes.shape == (n, 4)
    assert views.boxes.dtype == np.float32
    assert views.boxes.min() >= 0
    assert views.boxes.max() <= 1
    for crop, box in zip(views.images, views.boxes, strict=True):
        y0, x0, y1, x1 = pixels(box, h, w)
        assert y0 < y1
        assert x0 < x1
        mean = crop[..., :2].mean((0, 1))
        np.testing.assert_allclose(mean, [(y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2], atol=1)


def test_the_crops_of_one_image_differ_and_follow_the_generator():
    crops, image = RandomCrops(n=6, size=8), smooth()
    first, again, other = (crops(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.boxes, again.boxes)
    np.testing.assert_array_equal(first.images, again.images)
    assert len(np.unique(np.concatenate([first.boxes, other.boxes]), axis=0)) == 12


@pytest.mark.parametrize("n", [1, 5])
def test_an_image_is_read_once_however_many_views_are_cut(n, tmp_path):
    source = Numbered(10, log=str(tmp_path / "log"))
    batches(source, RandomCrops(n=n, size=4), 7, seed=0)[2]
    assert source.reads() == 7


@pytest.mark.parametrize("hw", [(1, 1), (3, 4000), (4000, 3), (64, 48), (31, 33)])
def test_center_crop_is_a_square_of_any_picture(hw):
    assert center_crop(smooth(*hw), 32).shape == (32, 32, 3)


def test_center_crop_of_a_square_at_its_own_size_changes_nothing():
    np.testing.assert_array_equal(center_crop(coordinates(40, 40), 40, ratio=1.0), coordinates(40, 40))
    np.testing.assert_array_equal(center_crop(coordinates(64, 64), 56, ratio=64 / 56), coordinates(64, 64)[4:60, 4:60])


@pytest.mark.parametrize("hw", [(120, 180), (200, 100), (90, 90)])
def test_center_crop_is_the_usual_evaluation(hw, rng):
    """Resize the short side, then cut: what everyone does, in the other order, to within two grey levels."""
    blocks = rng.integers(0, 256, (hw[0] // 10, hw[1] // 10, 3), np.uint8)
    image = np.asarray(Image.fromarray(blocks).resize(hw[::-1], Image.Resampling.BICUBIC))
    short = 64 / min(hw)
    resized = Image.fromarray(image).resize((round(hw[1] * short), round(hw[0] * short)), Image.Resampling.BICUBIC)
    y, x = (resized.height - 56) // 2, (resized.width - 56) // 2
    usual = np.asarray(resized)[y : y + 56, x : x + 56].astype(int)
    assert np.abs(center_crop(image, 56) - usual).max() <= 2


def test_center_crop_refuses_a_ratio_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        center_crop(smooth(), 32, ratio=0.9)


@pytest.mark.parametrize(
    ("crops", "said"),
    [
        (RandomCrops(n=0), "views.n must be at least 1, not 0"),
        (RandomCrops(size=0), "views.size must be from 1 to 4096"),
        (RandomCrops(scale=(0.5, 0.1)), "views.scale must be 0 < low <= high <= 1, not 0.5 0.1"),
        (RandomCrops(scale=(0.0, 0.1)), "views.scale"),
        (RandomCrops(scale=(0.5, 1.5)), "views.scale"),
        (RandomCrops(ratio=(2.0, 1.0)), "views.ratio must be 0 < low <= high, not 2.0 1.0"),
        (RandomCrops(scale=(float("nan"), 1.0)), "views.scale"),
    ],
)
def test_impossible_crops_are_named_by_their_flag(crops: RandomCrops, said: str):
    (problem,) = crops.problems("views")
    assert problem.startswith(said)


def test_usual_crops_have_no_problem():
    assert RandomCrops().problems("x") == []
    assert RandomCrops(n=1, size=1, scale=(1.0, 1.0), ratio=(1.0, 1.0)).problems("x") == []
