"""Figures from scores and from boxes. Shares from 0 to 1; equal scores count as chance would have them, not as hits."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from abx.boxes import iou
from abx.types import CROWD, DIFFICULT, AnyArray, Objects

LEFT_OUT = CROWD | DIFFICULT
"""Flags of objects that nothing is asked about, as is usual: groups under one box, and what people hardly made out."""
MAX_DETECTIONS = 100
"""So many of a picture count for average precision, as in COCO's own table."""


class MissingLibrary(RuntimeError):
    """An optional package is not installed; the message is a sentence that names it."""


def top_k(scores: Float[AnyArray, "m c"], labels: Int[AnyArray, " m"], k: int) -> float:
    """How many labels are among the k classes of the highest scores. NaN is below everything."""
    scores = _ordered(scores)
    own = np.take_along_axis(scores, np.asarray(labels)[:, None], 1)
    above, level = (scores > own).sum(1), (scores == own).sum(1)
    return float(np.clip((k - above) / level, 0, 1).mean())


def mean_per_class(found: Int[AnyArray, " m"], labels: Int[AnyArray, " m"]) -> float:
    """The share of each class that is found, averaged over the classes that occur in `labels`."""
    right, labels = np.asarray(found) == np.asarray(labels), np.asarray(labels)
    counts = np.bincount(labels)
    return float((np.bincount(labels, right)[counts > 0] / counts[counts > 0]).mean())


def recall_at(
    similarity: Float[AnyArray, "q n"], own: Bool[np.ndarray, "q n"], ks: Sequence[int]
) -> Float[np.ndarray, "q k"]:
    """Whether one of a query's own is among the first k of all: the probability, where ties are in random order.

    Args:
        own: which are the query's own, one or more. NaN is less similar than everything.
    """
    similar = _ordered(similarity)
    best = np.where(own, similar, -np.inf).max(1, keepdims=True)
    nearer = (similar > best).sum(1)
    level = similar == best
    rivals, ours = (level & ~own).sum(1), (level & own).sum(1)
    found = np.empty((len(similar), len(ks)))
    for j, k in enumerate(ks):
        # A miss if all places that are left of k go to rivals: C(rivals, left) / C(rivals + ours, left).
        left = np.clip(k - nearer, 0, rivals + ours)
        missed = np.ones(len(similar))
        for taken in range(k):
            share = (rivals - taken) / np.maximum(rivals + ours - taken, 1)
            missed *= np.where(taken < left, np.maximum(share, 0), 1)
        found[:, j] = 1 - missed
    return found


def _ordered(scores: Float[AnyArray, "m c"]) -> Float[np.ndarray, "m c"]:
    scores = np.asarray(scores)
    return np.where(np.isnan(scores), -np.inf, scores)


class Found(NamedTuple):
    """What a probe found in a picture, in the order in which it said so."""

    boxes: Float[np.ndarray, "o 4"]
    """Some may have no area: y0 <= y1 and x0 <= x1."""
    labels: Int[np.ndarray, " o"]
    scores: Float[np.ndarray, " o"]
    sure: Bool[np.ndarray, " o"]
    """Whether it takes the class to be more probable than that there is nothing."""


def average_precision(found: Sequence[Found], truth: Sequence[Objects]) -> dict[str, float]:
    """COCO's `ap`, over IoU 0.5 to 0.95, and `ap50`: means over the classes that occur in the truth; NaN without any.

    Counted by faster-coco-eval, over objects of all sizes. Objects of a class that is not known, -1, are passed over.
    Crowds as COCO has them: what lies in one is neither right nor wrong. Difficult objects are taken for crowds, which
    is nearest to what VOC does with them.

    Raises: MissingLibrary.
    """
    library = coco_library()
    images = [{"id": i} for i in range(len(truth))]
    annotations = [
        _annotation(i, label, box) | {"iscrowd": int(left_out), "area": float(np.prod(box[2:] - box[:2]))}
        for i, objects in enumerate(truth)
        for label, box, left_out in zip(objects.labels.tolist(), objects.boxes, passed_over(objects), strict=True)
        if label >= 0
    ]
    classes = sorted({each["category_id"] for each in annotations if not each["iscrowd"]})
    if not classes:
        return {"ap": float("nan"), "ap50": float("nan")}
    # Numbered from 1: to the library, an annotation of number 0 is none.
    numbered = [each | {"id": n} for n, each in enumerate(annotations, 1)]
    said = {"images": images, "annotations": numbered, "categories": [{"id": label} for label in classes]}
    results = [
        _annotation(i, label, box) | {"score": score}
        for i, each in enumerate(found)
        for label, box, score in zip(each.labels.tolist(), each.boxes, each.scores.tolist(), strict=True)
    ]
    coco = library.COCO(said)
    counted = library.COCOeval_faster(coco, coco.loadRes(results), iouType="bbox")
    counted.params.areaRng, counted.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    counted.params.maxDets = [MAX_DETECTIONS]
    counted.evaluate()
    counted.accumulate()
    precision = counted.eval["precision"][..., 0, 0]  # IoU, recall, class; -1 where a class does not occur
    precision = precision[:, :, (precision > -1).any((0, 1))]
    return {"ap": float(precision.mean()), "ap50": float(precision[0].mean())}


def coco_library() -> Any:
    """Raises: MissingLibrary."""
    try:
        return import_module("faster_coco_eval")
    except ImportError as missing:
        raise MissingLibrary(
            "average precision needs faster-coco-eval: pip install 'annotation-bootstrapping[probes]'"
        ) from missing


def _annotation(picture: int, label: int, box: Float[np.ndarray, "4"]) -> dict[str, Any]:
    """COCO's boxes are x, y, width, height. IoU is the same in any unit, so pixels are not needed."""
    y0, x0, y1, x1 = box.astype(np.float64).tolist()
    return {"image_id": picture, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def agreement(found: Sequence[Found], truth: Sequence[Objects]) -> dict[str, float]:
    """How well boxes fit whatever their classes are: `iou`, the best that was found of each object, averaged; and `f1`
    of the boxes that find an object by IoU 0.5, each of them one, the surest first.

    Only of boxes of which the probe is sure. Crowds and difficult objects are left out, and with them what finds one.
    NaN where there is no object.
    """
    best, hits, said, objects = list[float](), 0, 0, 0
    for each, known in zip(found, truth, strict=True):
        order = np.argsort(-each.scores[each.sure], kind="stable")
        boxes = each.boxes[each.sure][order]
        out = passed_over(known)
        fits, apart = _iou(boxes, known.boxes[~out]), _iou(boxes, known.boxes[out])
        best += fits.max(0, initial=0.0).tolist()
        right = _matched(fits)
        hits += int(right.sum())
        said += int((right | (apart.max(1, initial=0.0) < 0.5)).sum())
        objects += fits.shape[1]
    if not objects:
        return {"iou": float("nan"), "f1": float("nan")}
    return {"iou": float(np.mean(best)), "f1": 2 * hits / (said + objects)}


def passed_over(objects: Objects) -> Bool[np.ndarray, " o"]:
    """Which objects nothing is asked about."""
    if objects.flags is None:
        return np.zeros(len(objects.boxes), bool)
    return (objects.flags & LEFT_OUT) > 0


def _matched(fits: Float[np.ndarray, "o p"]) -> Bool[np.ndarray, " o"]:
    """Which boxes, in this order, find an object that is still to be found, by IoU 0.5: of several the best."""
    left = fits.copy()
    right = np.zeros(len(fits), bool)
    for i, row in enumerate(left):
        if row.max(initial=0.0) >= 0.5:
            right[i] = True
            left[:, row.argmax()] = 0
    return right


def _iou(a: Float[np.ndarray, "o 4"], b: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "o p"]:
    """Of each with each."""
    every, other = np.broadcast_arrays(a[:, None].astype(np.float64), b[None].astype(np.float64))
    return np.asarray(iou(every, other))
