"""The paper's figures of training, drawn from their numbers: one function each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from abx.analysis.charts import Curve, chart, colour, keys, shade
from abx.analysis.overlap import BINS
from abx.analysis.page import INK, Colour, beside, enlarged, page, text, under

GREY: Colour = (120, 120, 120)
STEP = "training step"
ACROSS, CELL = 8, 72
"""Pictures in a row, and their side in pixels."""


class Through(NamedTuple):
    """A run, by checkpoint."""

    name: str
    steps: Sequence[int]
    found: Sequence[Mapping[str, Any]]

    def all(self, *path: str | int) -> list[float]:
        """One number of each checkpoint."""
        numbers = []
        for each in self.found:
            node: Any = each
            for part in path:
                node = node[part]
            numbers.append(float(node))
        return numbers


def plot_overlap(runs: Sequence[Through], footer: str = "") -> Image.Image:
    """Figure 4 right: the value head's accuracy by the IoU of the views, and in each bin what it is worth."""
    return _sheet("Figure 4 right: predicting views near and far", [b for run in runs for b in _overlap(run)], footer)


_PREDICTORS = (("value", 0, False), ("copy", 4, True), ("shrunk_copy", 2, True), ("rotated", 5, True))


def _overlap(run: Through) -> list[Image.Image]:
    right = {"reward": "the first choice of the reward there", "target": "the first choice of the target"}
    wholes, rows = [], []
    for reference, words in right.items():
        curves = [
            Curve(
                f"IoU {name}" if name != "self" else "itself", run.steps, run.all(reference, "value", k), shade(k / 5)
            )
            for k, name in enumerate(BINS)
        ]
        curves.append(Curve("chance", run.steps, run.all("chance", 0), GREY, dashed=True))
        most = _most(run, reference)
        wholes.append(chart(f"Accuracy against {words}", curves, STEP, "share of pairs", y_range=(0, most)))
        cells = []
        for k, name in enumerate(BINS[:-1]):
            beaten = [
                Curve(said.replace("_", " "), run.steps, run.all(reference, said, k), colour(c), dashed=dashed)
                for said, c, dashed in _PREDICTORS
            ] + [Curve("chance", run.steps, run.all("chance", k), GREY, dashed=True)]
            cells.append(chart(f"IoU {name}", beaten, STEP, "", size=(150, 120), y_range=(0, most), key=False))
        head = text(f"The same beside what needs no prediction, against {words}", 15, 900)
        rows.append(under([head, beside(cells, 14), keys(beaten, 900)], 6))
    share = lambda k: 1 - np.array(run.all("excess", "value", k)) / np.array(run.all("excess", "shrunk_copy", k))
    rotated = lambda k: np.array(run.all("excess", "rotated", k)) / np.array(run.all("excess", "value", k)) - 1
    calibration = []
    for title, meaning, number in (
        ("Excess of the best shrunk copy: share removed", "below 0: worse than that copy", share),
        ("Rise of the excess with rotated boxes", "0: boxes unused", rotated),
    ):
        curves = [Curve(f"IoU {name}", run.steps, number(k).tolist(), shade(k / 5)) for k, name in enumerate(BINS[:-1])]
        zero = Curve("0", run.steps, [0.0] * len(run.steps), GREY, dashed=True)
        calibration.append(chart(title, [*curves, zero], STEP, meaning))
    return [text(run.name, 17), beside(wholes, 24), *rows, beside(calibration, 24)]


def _most(run: Through, reference: str) -> float:
    """A round end of an axis of shares that holds them all."""
    found = [x for name, *_ in _PREDICTORS for k in range(5) for x in run.all(reference, name, k)]
    return _round_end([*found, *run.all(reference, "value", len(BINS) - 1)])


def _round_end(shares: Sequence[float]) -> float:
    """Of an axis from 0 that holds these."""
    most = np.nanmax([0, *shares])
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if end >= most - 1e-9), 1.0)


def plot_paired(runs: Sequence[Through], footer: str = "") -> Image.Image:
    """Figure 8 right: N-way accuracies of rewards, values and rewards of several crops together."""
    names = {
        "reward": ("reward of the centre (a copy)", colour(0), False),
        "value": ("value, best of staying and 8 moves", colour(4), False),
        "value_staying": ("value of staying", colour(1), False),
        "multi_crop": ("mean reward of 8 crops", colour(2), False),
        "multi_crop_best": ("best reward of 8 crops", colour(5), False),
        "shrunk_copy": ("best shrunk copy", colour(0), True),
        "rotated": ("value, moves of another image", colour(4), True),
        "chance": ("chance", GREY, True),
    }
    charts = []
    for run in runs:
        curves = [
            Curve(said, run.steps, run.all(n), c, dashed=d) for n, (said, c, d) in names.items() if n in run.found[0]
        ]
        charts.append(chart(run.name, curves, STEP, "share of images whose own annotation scores highest"))
    return _sheet("Figure 8 right: which annotation is the image's own?", [_grid(charts, 2)], footer)


def plot_aligned(runs: Sequence[Through], losses: Sequence[Sequence[str]], footer: str = "") -> Image.Image:
    """Figure 8 left: cosine of the gradients of two losses; the band is one standard deviation over batches."""
    curves, ratios = [], []
    for k, (run, (first, second)) in enumerate(zip(runs, losses, strict=True)):
        label = f"{run.name}: {second} with {first}"
        curves.append(Curve(label, run.steps, run.all("cosine"), colour(k), run.all("cosine_std")))
        ratios.append(Curve(label, run.steps, run.all("norm_ratio"), colour(k)))
    steps = sorted({step for run in runs for step in run.steps})
    curves.append(Curve("orthogonal", steps, [0.0] * len(steps), GREY, dashed=True))
    blocks = [
        chart("Cosine of the two gradients on the backbone", curves, STEP, "mean over batches, and their deviation"),
        chart("Norm of the first named over the second's, unweighted", ratios, STEP, "mean over batches"),
    ]
    return _sheet("Figure 8 left: do the losses pull the same way?", [beside(blocks, 24)], footer)


def plot_curriculum(
    runs: Sequence[Through],
    pictures: Sequence[tuple[Sequence[UInt8[np.ndarray, "h w 3"]], Sequence[UInt8[np.ndarray, "h w 3"]]] | None],
    footer: str = "",
) -> Image.Image:
    """Figure 9: the distribution of the value loss's gradient over views, and the views at its ends."""
    blocks = []
    for run, ends in zip(runs, pictures, strict=True):
        last = max(len(run.steps) - 1, 1)
        curves = [
            Curve(
                f"step {step}", np.log10(np.maximum(each["norms"], 1e-6)).tolist(), each["quantiles"], shade(k / last)
            )
            for k, (step, each) in enumerate(zip(run.steps, run.found, strict=True))
        ]
        tenth = [
            Curve("the tenth of views with most", run.steps, run.all("top_tenth"), colour(0)),
            Curve("if all had the same", run.steps, [0.1] * len(run.steps), GREY, dashed=True),
        ]
        charts = [
            chart(
                "Share of views with at most this gradient",
                curves,
                "log10 of the norm over its mean",
                "share of views",
                y_range=(0, 1),
            ),
            chart("How much of the gradient the top tenth has", tenth, STEP, "share of the sum of norms"),
        ]
        blocks += [text(run.name, 17), beside(charts, 24)]
        if ends is not None:
            low, high = ends
            blocks.append(text(f"Views that the last step, {run.steps[-1]}, teaches least", 15))
            blocks += [_pictures(low), text("and most", 15), _pictures(high)]
    return _sheet("Figure 9: the curriculum of the value loss", blocks, footer)


def plot_candidates(
    runs: Sequence[Through],
    picture: UInt8[np.ndarray, "h w 3"],
    looks: Sequence[UInt8[np.ndarray, "h w 3"] | str],
    footer: str = "",
    *,
    own: bool = False,
) -> Image.Image:
    """Figure 7: of one picture, the reward of each candidate through training, and the value of zooming out.

    Args:
        own: whether the first candidate is the picture's own annotation.
    """
    inks = [colour(k) for k in range(len(looks))]
    rows = []
    for k, look in enumerate(looks):
        mark = Image.new("RGB", (22, 14), inks[k])
        said = text(look, 14, 560) if isinstance(look, str) else ImageOps.expand(enlarged(look, 48), 1, INK)
        rows.append(beside([mark, text(str(k), 14), said], 6))
    half = -(-len(rows) // 2) if not isinstance(looks[0], str) else len(rows)
    legend = beside([under(rows[:half], 6), under(rows[half:], 6)], 16)
    heading = "The candidates; 0 is the picture's own" if own else "The candidates"
    shown = under([text("The picture", 15), enlarged(picture, 260)])
    blocks = [beside([shown, under([text(heading, 15), legend])], 24)]
    for run in runs:
        draw = lambda name, run=run: [Curve(str(k), run.steps, run.all(name, k), inks[k]) for k in range(len(looks))]
        even = Curve("even", run.steps, [1 / len(looks)] * len(run.steps), GREY, dashed=True)
        end = _round_end([even.y[0], *(y for curve in draw("rewards") for y in curve.y)])
        rewards = [*draw("rewards"), even]
        charts = [chart("Reward among the candidates", rewards, STEP, "p(l | x)", y_range=(0, end), key=False)]
        if run.found[0].get("values") is not None:
            charts.append(chart("Value of zooming out", draw("values"), STEP, "Q(x, zoom out, l)", key=False))
        blocks += [text(run.name, 17), beside(charts, 24)]
    return _sheet("Figure 7: what is said of one picture", blocks, footer)


def plot_sweep(title: str, x_name: str, panels: Mapping[str, Mapping[str, Any]], footer: str = "") -> Image.Image:
    """Figures 5 and 4 middle: what finished runs came to, by one setting.

    Args:
        panels: for each figure of merit, by the name of a method, `x`, `mean`, `std` and `runs` (how many each).
    """
    charts = []
    for name, methods in panels.items():
        curves = [
            Curve(method, found["x"], found["mean"], colour(k), found["std"])
            for k, (method, found) in enumerate(methods.items())
        ]
        charts.append(chart(name, curves, x_name, "mean of runs, and their deviation"))
    return _sheet(title, [_grid(charts, 2)], footer)


def _pictures(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Image.Image:
    cells = [ImageOps.expand(enlarged(image, CELL), 1, INK) for image in images]
    return under([beside(cells[k : k + ACROSS], 6) for k in range(0, len(cells), ACROSS)], 6)


def _grid(charts: Sequence[Image.Image], across: int) -> Image.Image:
    return under([beside(charts[k : k + across], 24) for k in range(0, len(charts), across)], 18)


def _sheet(title: str, blocks: Sequence[Image.Image], footer: str) -> Image.Image:
    wide = max(block.width for block in blocks)
    ends = [text(footer, 12, max(wide, 600))] if footer else []
    return page([text(title, 20, max(wide, 600)), *blocks, *ends])
