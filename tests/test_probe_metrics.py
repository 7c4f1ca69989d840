"""Figures of probes: against loops, against chance, and against pycocotools."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abx.probes import metrics
from abx.probes.metrics import Found, agreement, average_precision, mean_per_class, recall_at, top_k
from abx.types import CROWD, DIFFICULT, Objects


def drawn_scores(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Few different numbers, so that many are equal."""
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 6))
def test_top_k_is_the_mean_over_all_orders_of_what_is_equal(seed, classes, k):
    scores = drawn_scores(seed, (3, classes))
    labels = np.random.default_rng(seed).integers(0, classes, 3)
    hits = [
        label in sorted(order, key=lambda c: -row[c])[:k]
        for row, label in zip(scores, labels, strict=True)
        for order in permutations(range(classes))
    ]
    assert top_k(scores, labels, k) == pytest.approx(np.mean(hits))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 6))
def test_recall_is_the_mean_over_all_orders_of_what_is_equal(seed, items, k):
    similar = drawn_scores(seed, (4, items))
    own = np.random.default_rng(seed + 1).random((4, items)) < 0.4
    own[:, seed % items] = True
    found = recall_at(similar, own, [k, 1])
    for row, mine, (at_k, at_1) in zip(similar, own, found, strict=True):
        orders = [sorted(order, key=lambda c: -row[c]) for order in permutations(range(items))]
        assert at_k == pytest.approx(np.mean([mine[order[:k]].any() for order in orders]))
        assert at_1 == pytest.approx(np.mean([mine[order[0]] for order in orders]))


def test_a_collapsed_network_scores_what_guessing_does():
    alike, labels = np.zeros((40, 10)), np.arange(40) % 10
    for scores in (alike, alike + np.nan):
        assert top_k(scores, labels, 1) == pytest.approx(0.1)
        assert top_k(scores, labels, 5) == pytest.approx(0.5)
        assert recall_at(scores, np.arange(10) == labels[:, None], [1])[:, 0] == pytest.approx(0.1)


def test_nan_is_below_every_score():
    scores = np.array([[np.nan, -5.0, -6.0], [np.nan, -np.inf, 0.0]])
    assert top_k(scores, np.array([1, 2]), 1) == 1
    assert top_k(scores, np.array([0, 1]), 2) == 0.25  # no hit, and NaN and -inf share the second place


def test_every_class_that_occurs_counts_the_same():
    labels = np.array([0, 0, 0, 0, 5, 5, 9])
    found = np.array([0, 0, 0, 1, 5, 9, 0])
    assert mean_per_class(found, labels) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


# --- boxes ---


def made_up(seed: int, pictures: int = 40) -> tuple[list[Found], list[Objects]]:
    """Pictures of up to eight objects of five classes with crowds and difficult ones, and what a middling detector
    makes of them: boxes near by, some of them twice, some of another class, some of nothing, many with equal scores."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(pictures):
        n = int(rng.integers(0, 9))
        corner = rng.random((n, 2)) * 0.6
        boxes = np.concatenate([corner, corner + 0.05 + 0.35 * rng.random((n, 2))], 1)
        labels = rng.integers(0, 5, n)
        flags = rng.choice(np.array([0, 0, 0, 0, CROWD, DIFFICULT], np.uint8), n)
        truth.append(Objects(boxes.astype(np.float32), labels, flags))
        seen = np.flatnonzero(rng.random(n) < 0.8)
        seen = np.concatenate([seen, seen[rng.random(len(seen)) < 0.3]])
        near = np.clip(boxes[seen] + rng.normal(0, 0.01, (len(seen), 4)), 0, 1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        called = np.where(rng.random(len(seen)) < 0.8, labels[seen], rng.integers(0, 6, len(seen)))
        extra = np.sort(rng.random((int(rng.integers(0, 4)), 2, 2)), 1).reshape(-1, 4)
        scores = np.round(rng.random(len(seen) + len(extra)), 1)
        labels = np.concatenate([called, rng.integers(0, 6, len(extra))])
        found.append(Found(np.concatenate([near, extra]), labels, scores, scores > 0.3))
    return found, truth


def test_average_precision_is_that_of_pycocotools(capsys):
    pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    coco = pytest.importorskip("pycocotools.coco", reason="the reference, pycocotools, is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    for seed in range(3):
        found, truth = made_up(seed)
        # Written down once more, in pixels, and with all the areas and numbers of detections that COCO has.
        reference = coco.COCO()
        reference.dataset = {
            "images": [{"id": i, "height": 600, "width": 600} for i in range(len(truth))],
            "categories": [{"id": c} for c in range(6)],
            "annotations": [],
        }
        for i, objects in enumerate(truth):
            for box, label, flag in zip(objects.boxes, objects.labels, objects.flags, strict=True):
                y, x, bottom, right = (600 * box.astype(np.float64)).tolist()
                reference.dataset["annotations"].append(
                    {
                        "id": len(reference.dataset["annotations"]) + 1,
                        "image_id": i,
                        "category_id": int(label),
                        "bbox": [x, y, right - x, bottom - y],
                        "area": (right - x) * (bottom - y),
                        "iscrowd": int(flag > 0),
                    }
                )
        reference.createIndex()
        results = [
            [i, 600 * x, 600 * y, 600 * (right - x), 600 * (bottom - y), score, label]
            for i, each in enumerate(found)
            for (y, x, bottom, right), label, score in zip(each.boxes, each.labels, each.scores, strict=True)
        ]
        counted = cocoeval.COCOeval(reference, reference.loadRes(np.array(results)), "bbox")
        counted.evaluate()
        counted.accumulate()
        counted.summarize()
        wanted = {"ap": counted.stats[0], "ap50": counted.stats[1]}
        assert 0.1 < wanted["ap"] < wanted["ap50"] < 0.9
        assert average_precision(found, truth) == pytest.approx(wanted, abs=1e-6)


def test_average_precision_of_little():
    pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    found, truth = made_up(0, 4)
    silent = [Found(f.boxes[:0], f.labels[:0], f.scores[:0], f.sure[:0]) for f in found]
    assert average_precision(silent, truth) == {"ap": 0, "ap50": 0}
    empty = [Objects(t.boxes[:0], t.labels[:0]) for t in truth]
    assert np.isnan(list(average_precision(found, empty).values())).all()
    assert np.isnan(list(agreement(found, empty).values())).all()
    assert agreement(silent, truth) == {"iou": 0, "f1": 0}


def test_boxes_without_an_area_are_wrong_and_no_more():
    pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    truth = [Objects(np.array([[0, 0, 0.5, 0.5]], np.float32), np.array([0]))]
    boxes = np.array([[0, 0, 0, 0.5], [0, 0, 0.5, 0.5]])
    found = [Found(boxes, np.array([0, 0]), np.array([0.9, 0.5]), np.array([True, True]))]
    assert average_precision(found, truth) == pytest.approx({"ap": 0.5, "ap50": 0.5})
    assert agreement(found, truth) == pytest.approx({"iou": 1, "f1": 2 / 3})


def test_objects_of_an_unknown_class_are_none_to_average_precision():
    pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")
    found, truth = made_up(0, 10)
    more = [
        Objects(
            np.concatenate([t.boxes, np.array([[0, 0, 0.3, 0.3]], np.float32)]),
            np.append(t.labels, -1),
            np.append(t.flags, np.uint8(0)),
        )
        for t in truth
    ]
    assert average_precision(found, more) == pytest.approx(average_precision(found, truth))


def test_a_missing_library_is_one_sentence(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(metrics, "import_module", absent)
    with pytest.raises(metrics.MissingLibrary, match=r"pip install 'annotation-bootstrapping\[probes\]'"):
        average_precision(*made_up(0, 1))


def test_agreement_by_hand():
    square = np.array([[0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0, 0.5, 0.4, 0.9]], np.float32)
    truth = [Objects(square, np.array([3, 1, 2]), np.array([0, 0, CROWD], np.uint8))]
    boxes = np.array([[0, 0, 0.4, 0.3], [0, 0, 0.4, 0.4], [0, 0.5, 0.4, 0.9], [0.6, 0, 0.9, 0.3], [0.5, 0.5, 0.9, 0.9]])
    sure = np.array([True, True, True, True, False])
    found = [Found(boxes, np.zeros(5, np.int64), np.array([0.9, 0.8, 0.9, 0.7, 0.9]), sure)]
    # The first object is found by the first box, and the second box finds it again: wrong, as the fourth is. The third
    # finds a crowd and is neither. The last is not meant, so the second object is not found.
    assert agreement(found, truth) == pytest.approx({"iou": (1 + 0) / 2, "f1": 2 * 1 / (3 + 2)})
