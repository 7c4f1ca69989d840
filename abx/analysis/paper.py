"""Every figure of the paper's Tables 1 to 6, and what of ours each is to be compared with.

Ghosh & Levine 2025, arXiv 2506.11967v1. All figures are percentages. Differences are as printed: ten of them are 0.1
off what the printed figures give, as they were taken before rounding (METHODS A-39). Of the same networks Tables 1 and
6 print decoder accuracies that differ by up to 0.2 (A-37): so much is the noise of a probe. Of the noise of seeds the
paper says only, for three runs of AB_CLIP on CC12M, highest minus lowest: ImageNet 0.02, Avg Cls and CLEVR depth 0.4,
count 0.6.
"""

from typing import Literal, NamedTuple

Texts = Literal["", "captions", "boxes"]


class Measure(NamedTuple):
    """A figure of a probe."""

    probes: tuple[str, ...]
    """The one that is meant, then any that may stand for it."""
    task: str
    """On the paper's own data."""
    kind: str
    """The same on data of any kind; empty where no other data can stand for the paper's."""
    metric: str


class Column(NamedTuple):
    name: str
    measures: tuple[Measure, ...]
    """What it is the mean of."""
    remark: str = ""
    """What is to be known before one compares."""


class Row(NamedTuple):
    system: str
    figures: tuple[float | None, ...]
    """By column; None where the paper, or what we have of it, gives none."""
    base: str = ""
    """The system from which the differences are counted."""
    differences: tuple[float | None, ...] = ()


class Block(NamedTuple):
    """Rows of a table that were pre-trained on the same data."""

    table: int
    title: str
    reward: str
    """Data whose annotations were learnt; of all methods but AB the only data."""
    value: str
    """Data that AB bootstrapped on."""
    texts: Texts
    """What went with the images."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def _decoder(name: str, task: str, kind: str, metric: str = "top1", remark: str = "") -> Column:
    return Column(name, (Measure(("decoder",), task, kind, metric),), remark)


def _imagenet(name: str, *probes: str) -> Column:
    return Column(name, (Measure(probes, "imagenet", "classification", "top1"),))


AVG_CLS = ("food101", "pets", "resisc45", "sun397")
IMAGENET = _imagenet("ImageNet", "decoder")
FOUR = Column("Avg Cls", tuple(Measure(("decoder",), task, "", "top1") for task in AVG_CLS))
DEPTH = _decoder("CLEVR depth", "clevr-distance", "distance")
COUNT = _decoder("CLEVR count", "clevr-count", "count")
UNNAMED = "the paper does not say whether its detection figure is AP or AP50; at its size it looks like AP50 (A-44)"
COCO = (
    _decoder("COCO detect AP50", "coco-detection", "detection", "ap50", UNNAMED),
    _decoder("COCO detect AP", "coco-detection", "detection", "ap"),
    _decoder("COCO object cls", "coco-objects", "objects"),
)
CUT = "the paper's figures of EK objects are not in the text of it that we have (A-46)"
EPIC = (
    _decoder("EK action", "epic-action", "action", "action_top1", "an action is right if verb and noun are (A-45)"),
    _decoder("EK detect AP50", "visor-detection", "detection", "ap50", CUT),
    _decoder("EK object cls", "visor-objects", "objects", remark=CUT),
)
ABLATION = "the paper does not name the probe: ours is the decoder; its runs are of 400 M views"


def _coco(imagenet: float, detect: float, objects: float) -> tuple[float | None, ...]:
    return imagenet, detect, None, objects


def _epic(imagenet: float, action: float) -> tuple[float | None, ...]:
    return imagenet, action, None, None


AUGMENTED, BLIND, UNPROPAGATED, UNLAGGED, UNREWARDED = (
    "adding augmentations",
    "removing action tokens",
    "no propagation loss",
    "no target network",
    "no annotation loss",
)
"""Table 5's names of its ablations."""


def ablated(system: str, *ablations: str) -> str:
    """How a system is called that does without: "AB_SimCLR, no target network"."""
    return ", ".join((system, *ablations))


def _ablation(name: str, figure: float, difference: float) -> Row:
    return Row(ablated("AB_SimCLR", name), (figure,), "AB_SimCLR", (difference,))


BLOCKS = (
    Block(
        1,
        "ImageNet, no labels",
        "imagenet",
        "imagenet",
        "",
        (
            _imagenet("linear", "linear", "logistic"),
            _imagenet("attentive", "map"),
            _imagenet("decoder", "decoder"),
            _imagenet("fine-tuned", "finetune"),
        ),
        (
            Row("MAE", (47.8, 63.4, 66.5, 79.0)),
            Row("I-JEPA", (58.5, 61.5, 64.5, 76.7)),
            Row("SimCLR", (66.2, 69.7, 71.4, 76.8)),
            Row("AB_SimCLR", (64.5, 70.7, 72.2, None), "SimCLR", (-1.7, 1.1, 0.8, None)),
            Row("DINO", (68.9, 70.9, 72.7, 79.7)),
            Row("AB_DINO", (67.2, 73.1, 74.8, 80.3), "DINO", (-1.7, 2.2, 2.1, 0.6)),
        ),
    ),
    Block(
        2,
        "CC12M, no captions",
        "cc12m",
        "cc12m",
        "",
        (IMAGENET, FOUR, DEPTH, COUNT),
        (
            Row("MAE", (61.3, 75.4, 82.8, 90.4)),
            Row("I-JEPA", (60.0, 76.0, 80.1, 90.0)),
            Row("SimCLR", (67.3, 79.0, 76.5, 89.4)),
            Row("AB_SimCLR", (68.0, 79.5, 79.5, 89.6), "SimCLR", (0.7, 0.4, 3.0, 0.2)),
            Row("DINO", (68.9, 80.9, 79.3, 87.6)),
            Row("AB_DINO", (70.6, 82.2, 80.4, 89.9), "DINO", (1.8, 1.3, 1.1, 2.4)),
        ),
    ),
    Block(
        2,
        "CC12M with captions",
        "cc12m",
        "cc12m",
        "captions",
        (IMAGENET, FOUR, DEPTH, COUNT),
        (
            Row("CLIP", (69.5, 82.8, 70.0, 84.4)),
            Row("CLIP+Aug", (72.6, 85.0, 72.7, 87.0)),
            Row("SLIP", (72.0, 84.3, 72.4, 87.2)),
            Row("SiLC", (72.8, 85.0, 74.4, 88.2)),
            Row("AB_CLIP", (74.1, 85.6, 78.1, 91.9), "CLIP", (4.6, 2.8, 8.1, 7.4)),
        ),
    ),
    Block(
        3,
        "COCO",
        "coco",
        "coco",
        "",
        (IMAGENET, *COCO),
        (
            Row("MAE", _coco(58.1, 29.8, 73.8)),
            Row("I-JEPA", _coco(43.0, 21.0, 62.5)),
            Row("SimCLR", _coco(55.0, 20.5, 69.7)),
            Row("AB_SimCLR", _coco(60.7, 26.4, 74.0), "SimCLR", _coco(5.7, 5.8, 4.3)),
            Row("DINO", _coco(51.0, 21.0, 66.9)),
            Row("AB_DINO", _coco(58.6, 26.1, 72.8), "DINO", _coco(7.6, 5.1, 5.9)),
        ),
    ),
    Block(
        3,
        "COCO, rewards from ImageNet",
        "imagenet",
        "coco",
        "",
        (IMAGENET, *COCO),
        (Row("AB_SimCLR", _coco(68.3, 31.0, 79.4)), Row("AB_DINO", _coco(65.2, 31.0, 78.8))),
    ),
    Block(
        3,
        "Epic-Kitchens",
        "epic_kitchens",
        "epic_kitchens",
        "",
        (IMAGENET, *EPIC),
        (
            Row("MAE", _epic(38.1, 19.6)),
            Row("I-JEPA", _epic(38.7, 18.5)),
            Row("SimCLR", _epic(44.5, 21.6)),
            Row("AB_SimCLR", _epic(46.7, 20.9), "SimCLR", _epic(2.2, -0.6)),
            Row("DINO", _epic(42.3, 20.2)),
            Row("AB_DINO", _epic(45.5, 21.6), "DINO", _epic(3.2, 1.4)),
        ),
    ),
    Block(
        3,
        "Epic-Kitchens, rewards from ImageNet",
        "imagenet",
        "epic_kitchens",
        "",
        (IMAGENET, *EPIC),
        (Row("AB_SimCLR", _epic(68.4, 23.5)), Row("AB_DINO", _epic(62.7, 22.8))),
    ),
    Block(
        4,
        "COCO with captions",
        "coco",
        "coco",
        "captions",
        COCO,
        (
            Row("CLIP", (26.1, None, 71.2)),
            Row("SLIP", (25.6, None, 72.9)),
            Row("SiLC", (25.6, None, 73.2)),
            Row("AB_CLIP", (27.8, None, 74.7), "CLIP", (1.7, None, 3.5)),
        ),
    ),
    Block(
        4,
        "COCO with box descriptions",
        "coco",
        "coco",
        "boxes",
        COCO,
        (
            Row("CLIP", (25.7, None, 70.0)),
            Row("SLIP", (25.2, None, 72.3)),
            Row("SiLC", (26.0, None, 73.8)),
            Row("AB_CLIP", (28.8, None, 76.8), "CLIP", (3.1, None, 6.8)),
        ),
    ),
    Block(
        5,
        "ablations, CC12M, no captions",
        "cc12m",
        "cc12m",
        "",
        (IMAGENET._replace(remark=ABLATION),),
        (
            Row("AB_SimCLR", (62.9,)),
            _ablation(AUGMENTED, 62.5, -0.4),
            _ablation(BLIND, 60.5, -2.4),
            _ablation(UNPROPAGATED, 59.4, -3.5),
            _ablation(UNLAGGED, 59.4, -3.5),
            _ablation(UNREWARDED, 39.0, -23.9),
        ),
    ),
    Block(
        6,
        "ImageNet, no labels",
        "imagenet",
        "imagenet",
        "",
        (IMAGENET, FOUR, DEPTH, COUNT),
        (
            Row("MAE", (66.4, 78.8, 84.4, 90.7)),
            Row("I-JEPA", (64.5, 79.0, 81.0, 88.8)),
            Row("SimCLR", (71.6, 82.2, 76.1, 87.1)),
            Row("AB_SimCLR", (72.3, 82.8, 78.6, 88.9), "SimCLR", (0.7, 0.6, 2.4, 1.8)),
            Row("DINO", (72.6, 83.2, 79.6, 87.4)),
            Row("AB_DINO", (74.6, 84.9, 80.8, 89.8), "DINO", (1.9, 1.7, 1.3, 2.4)),
        ),
    ),
)


class Figure(NamedTuple):
    """One of the paper's."""

    block: Block
    column: Column
    percent: float


def figures(system: str, probe: str, task: str, metric: str) -> list[Figure]:
    """What the paper has of a system by this probe, in the order of its tables; of a mean, nothing.

    Args:
        task: by name, e.g. imagenet; or one on data of any kind, e.g. classification, to which the paper's is the
            nearest.
    """
    found = []
    for block in BLOCKS:
        for i, column in enumerate(block.columns):
            (first, *more) = column.measures
            if more or probe not in first.probes or task not in (first.task, first.kind) or metric != first.metric:
                continue
            for row in block.rows:
                if row.system == system and (percent := row.figures[i]) is not None:
                    found.append(Figure(block, column, percent))
    return found
