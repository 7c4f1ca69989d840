"""Several kinds of crops of one picture, and crops that lie near each other without being other crops."""

import inspect
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from abx import boxes
from abx.data import images, overlap
from abx.data.layouts import ABMultiCropData, AugmentedCaptionData, MultiCropData, SLIPData
from abx.data.streams import open_sources, views_per_step
from abx.data.views import MultiCrops, RandomCrops, WeakStrongCrops, cut, views_per_image
from abx.types import MultiCrop, Pairs, WeakStrong

HW = (300, 400)
MULTI = MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(5, 16, (0.05, 0.4)))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Boxes without the check of their type, which takes ten times as long as a box."""
    monkeypatch.setattr(boxes, "random_box", inspect.unwrap(boxes.random_box))


def pairs(crops: RandomCrops, count: int, seed: int = 0) -> np.ndarray:
    """Boxes of two crops of so many images, "count 2 4"."""
    rng = np.random.default_rng(seed)
    return np.stack([crops.place(HW, rng)[0] for _ in range(count)])


@pytest.mark.parametrize("strength", [-10.0, 15.0])
def test_crops_near_each_other_are_each_as_likely_as_ever(strength):
    """Area, shape and place of the second crop have the distribution that they have alone (Kolmogorov-Smirnov)."""
    count = 400
    placed, alone = pairs(RandomCrops(2, overlap=strength), count), pairs(RandomCrops(2), 3 * count, seed=1)
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    features: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "area": area,
        "top": lambda b: b[..., 0],
        "right": lambda b: b[..., 3],
        "shape": lambda b: (b[..., 3] - b[..., 1]) / (b[..., 2] - b[..., 0]),
    }
    for which in (0, 1):
        for name, feature in features.items():
            # Ten thousand to one against for each of the 16 comparisons.
            assert ks_2samp(feature(placed[:, which]), feature(alone).ravel()).pvalue > 1e-4, (which, name)


def test_strength_controls_the_overlap():
    """The figures that the help text gives, to the error of 250 pairs."""
    found = {}
    for strength in (-20.0, 0.0, 6.0, 15.0):
        placed = pairs(RandomCrops(2, overlap=strength), 250)
        found[strength] = float(np.mean(boxes.iou(placed[:, 0], placed[:, 1])))
    assert found == pytest.approx({-20.0: 0.13, 0.0: 0.26, 6.0: 0.45, 15.0: 0.62}, abs=0.04)


def test_small_crops_lie_near_the_first_large_one():
    rng = np.random.default_rng(0)
    iou = {}
    for strength in (0.0, 10.0):
        crops = MultiCrops(MULTI.globals, MULTI.locals, overlap=strength)
        placed = [crops.place(HW, rng) for _ in range(80)]
        assert all([len(kind) for kind in each] == [2, 5] for each in placed)
        iou[strength] = np.mean([boxes.iou(np.repeat(large[:1], 5, 0), small).mean() for large, small in placed])
    assert iou[10.0] > 1.1 * iou[0.0]


def test_balancing_ends_where_every_box_is_chosen_equally_often():
    rng = np.random.default_rng(0)
    draw = lambda: boxes.random_box(rng, HW)
    left, right = (np.stack([draw() for _ in range(overlap.POOL)]) for _ in range(2))
    kernel = np.exp(15.0 * np.asarray(boxes.iou(*np.broadcast_arrays(left[:, None], right[None])), np.float64))
    rows = np.stack([overlap._balanced(np.roll(kernel, -i, axis=0)) for i in range(overlap.POOL)])
    np.testing.assert_allclose(rows.sum(0), 1, atol=0.03)
    np.testing.assert_allclose(rows.sum(1), 1, atol=0.03)


def test_one_decoding_for_all_kinds(monkeypatch):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*HW, 3), np.uint8)
    Image.fromarray(picture).save(file := io.BytesIO(), "PNG")
    decoded = []
    monkeypatch.setattr(images, "_rgb", lambda image, plain=images._rgb: decoded.append(1) or plain(image))
    kinds = cut(MULTI, file.getvalue(), np.random.default_rng(1))
    assert len(decoded) == 1
    assert [kind.images.shape for kind in kinds] == [(2, 32, 32, 3), (5, 16, 16, 3)]
    for kind in kinds:
        for image, box in zip(kind.images, kind.boxes, strict=True):
            np.testing.assert_array_equal(image, images.crop_resize(picture, box, image.shape[0]))


def test_no_small_crops():
    crops = MultiCrops(MULTI.globals, RandomCrops(0, 16))
    assert crops.problems("views") == []
    large, small = cut(crops, np.zeros((*HW, 3), np.uint8), np.random.default_rng(0))
    assert large.images.shape == (2, 32, 32, 3)
    assert small.images.shape == (0, 16, 16, 3)
    assert views_per_image(crops) == 2


def test_problems_name_the_kind():
    crops = MultiCrops(RandomCrops(2, 0), RandomCrops(1, 8, overlap=2.0), overlap=99.0)
    found = crops.problems("--data.views")
    assert [p.split()[0] for p in found] == [
        "--data.views.globals.size",
        "--data.views.locals.overlap",
        "--data.views.overlap",
    ]
    assert MultiCropData(views=MultiCrops(RandomCrops(3))).problems() == [
        "--data.views.globals.n must be 2 here, not 3"
    ]
    assert WeakStrongCrops(strong=RandomCrops(0)).problems("--v") == ["--v.strong.n must be at least 1, not 0"]


def test_batches_of_every_layout():
    """Shapes and types as the configuration alone has them, and the same pictures beside several kinds of views."""
    tiny = RandomCrops(2, 8)
    layouts = [
        MultiCropData(batch=3, views=MultiCrops(tiny, RandomCrops(3, 4))),
        AugmentedCaptionData(batch=3, views=WeakStrongCrops(RandomCrops(1, 8), tiny)),
        SLIPData(pairs_batch=3, images_batch=2, pairs_views=RandomCrops(1, 8), images_views=tiny),
        ABMultiCropData(reward_batch=2, value_batch=3, reward_views=MultiCrops(tiny, tiny), value_views=tiny),
    ]
    import jax

    for data in layouts:
        assert data.problems() == []
        batch = data.batches(open_sources(data), 0)[1].batch
        blank = data.blank()
        assert jax.tree.structure(batch) == jax.tree.structure(blank)
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(blank), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert isinstance(layouts[0].blank(), MultiCrop)
    assert isinstance(layouts[1].blank(), Pairs)
    assert isinstance(layouts[1].blank().views, WeakStrong)
    assert [views_per_step(data) for data in layouts] == [15, 9, 7, 14]


def test_images_alone_are_those_of_the_pairs_unless_said():
    data = SLIPData(pairs="scenes:test")
    assert data.streams()["images"].spec == "scenes:test"
    assert SLIPData(pairs="scenes:test", images="scenes").streams()["images"].spec == "scenes"
