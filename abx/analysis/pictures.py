"""Pictures for people: where the views of a batch were cut, and what moving about a picture is worth.

Pages are made of the blocks of `abx.analysis.page`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageOps

from abx.analysis.colours import view_colour, viridis
from abx.analysis.page import INK, PAPER, Plate, beside, chip, enlarged, page, text, under
from abx.boxes import relative_boxes
from abx.types import AnyArray, Views

HERE, BEST = (213, 94, 0), PAPER
"""Where one stands and the best move: neither is a colour of the heat map."""
ROW, TALL_ROW, LONGEST, CROP, PANEL, THUMB = 240, 360, 480, 144, 240, 96
"""Pixels: height of a picture beside one line of crops and beside several, its largest width; sides of a crop, of a
heat map, of an annotation."""


def draw_views(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], *kinds: Views) -> Image.Image:
    """One row per picture: where its n crops were cut, the crops as the network gets them, and the actions.

    Args:
        pictures: the b sources, of any size.
        kinds: their crops, "b n h w 3" and "b n 4", of one kind or more; each kind has its own n and size.
    """
    rows = []
    for i, picture in enumerate(pictures):
        crops = [np.asarray(crop) for kind in kinds for crop in kind.images[i]]
        rows.append(_views_row(picture, crops, np.concatenate([np.asarray(kind.boxes[i]) for kind in kinds])))
    title = "Views: where each crop was cut, and what the network gets"
    note = "Under each crop: the action that leads to it from view 0, its box (y0, x0, y1, x1) in the frame of view 0."
    width = max([700, *(row.width for row in rows)])
    return page([text(title, 20, width), text(note, 14, width), *rows])


def _views_row(
    picture: UInt8[np.ndarray, "_ _ 3"], crops: Sequence[UInt8[np.ndarray, "_ _ 3"]], boxes: Float[np.ndarray, "n 4"]
) -> Image.Image:
    n = len(crops)
    plate = Plate(picture, (ROW if n <= 4 else TALL_ROW, LONGEST))
    for view in range(n):
        plate.outline(boxes[view], view_colour(view))
    for view in range(n):  # after all outlines, so that none crosses a number
        plate.tag(boxes[view], str(view), view_colour(view))
    with np.errstate(all="ignore"):  # an empty box is shown as what it does to the actions
        actions = relative_boxes(boxes)[0]
    cells = [_crop(crops[view], view, actions[view]) for view in range(n)]
    across = n if n <= 4 else min(-(-n // 2), 8)
    lines = [beside(cells[start : start + across]) for start in range(0, n, across)]
    return beside([under([plate.canvas, text(plate.caption)], 2), under(lines)], 20)


def _crop(image: UInt8[np.ndarray, "h w 3"], view: int, action: Float[AnyArray, "4"]) -> Image.Image:
    framed = ImageOps.expand(enlarged(image, CROP), 4, view_colour(view))
    coordinates = ", ".join(f"{float(c):z.1f}" for c in action)
    label = beside([chip(str(view), view_colour(view)), text(f"0>{view}")], 6)
    return under([ImageOps.expand(framed, 1, INK), label, text(f"({coordinates})")], 2)


class Scale(NamedTuple):
    """The values that the two ends of the colour map stand for."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Float[np.ndarray, "l g"]) -> "Scale":
        """From the smallest to the largest finite value; some room around a single one, so that it has a colour."""
        finite = values[np.isfinite(values)].astype(np.float64)
        if not finite.size:
            return cls(0.0, 1.0)
        low, high = float(finite.min()), float(finite.max())
        room = 0.0 if high - low > 1e-6 * max(abs(low), abs(high)) else 0.01 * max(abs(low), 1e-6)
        return cls(low - room, high + room)

    def share(self, values: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
        return np.clip((values.astype(np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)


def draw_value_map(
    picture: UInt8[np.ndarray, "h w 3"],
    source: Float[np.ndarray, "4"],
    targets: Float[np.ndarray, "g 4"],
    values: Float[np.ndarray, "l g"],
    looks: Sequence[UInt8[np.ndarray, "s s 3"] | str],
    rewards: Float[np.ndarray, " l"],
    *,
    title: str,
) -> Image.Image:
    """For each annotation, heat maps of the value of moving from `source` to boxes of each size of `targets`.

    Args:
        source: the box one stands in.
        targets: boxes one may move to; each value is painted at the middle of its box.
        values: Q(x, a, l) of moving there. What isn't finite is left grey.
        looks: what the l annotations look like, or say.
        rewards: p(l | x), the reward of staying.
    """
    scale = Scale.of(values)
    columns = [
        _annotation(number, picture, source, targets, *column, scale)
        for number, column in enumerate(zip(values, looks, rewards.tolist(), strict=True), start=1)
    ]
    lines = [beside(columns[start : start + 4], 16) for start in range(0, len(columns), 4)]
    body = beside([_legend(picture, source, scale), under(lines, 20)], 32)
    return page([text(title, 20, body.width), body])


def _legend(picture: UInt8[np.ndarray, "h w 3"], source: Float[np.ndarray, "4"], scale: Scale) -> Image.Image:
    plate = Plate(picture, (PANEL, PANEL))
    plate.outline(source, HERE)
    plate.tag(source, "you are here", HERE)
    tiles = (
        "Each tile: the value Q of moving from here to the box whose middle is there. Sizes of boxes are parts of the "
        "picture's height and width. Grey: no finite value."
    )
    wide = PANEL + 20
    return under(
        [
            text("The picture", 15),
            plate.canvas,
            text(plate.caption),
            text(" "),
            text("Value of moving there: brighter = more", 14),
            _colour_bar(scale),
            text("One scale for all annotations and sizes.", 13, wide),
            text(" "),
            text(tiles, 13, wide),
            beside([chip("here", HERE), text("the view one stands in", 13)], 6),
            beside([chip("0.5", BEST), text("an annotation's best move, its value", 13)], 6),
            text("Staying: the reward p(l|x) of the view one stands in.", 13, wide),
        ]
    )


def _annotation(
    number: int,
    picture: UInt8[np.ndarray, "h w 3"],
    source: Float[np.ndarray, "4"],
    targets: Float[np.ndarray, "g 4"],
    values: Float[np.ndarray, " g"],
    look: UInt8[np.ndarray, "s s 3"] | str,
    reward: float,
    scale: Scale,
) -> Image.Image:
    finite = np.isfinite(values)
    best = int(np.where(finite, values, -np.inf).argmax()) if finite.any() else -1
    figures = [f"best move: {_number(float(values[best])) if best >= 0 else 'unknown'}", f"staying: {_number(reward)}"]
    head = under([text(f"Annotation {number}", 15), *(text(figure, 14) for figure in figures)])
    shown = text(look, 14, PANEL - 110) if isinstance(look, str) else ImageOps.expand(enlarged(look, THUMB), 1, INK)
    blocks = [beside([shown, head], 10)]
    for caption, members in _by_size(targets):
        plate = heat_map(picture, targets[members], values[members], scale)
        plate.outline(source, HERE)
        if best in members:
            plate.outline(targets[best], BEST)
            plate.tag(targets[best], _number(float(values[best])), BEST)
        blocks += [plate.canvas, text(caption)]
    return under(blocks)


def heat_map(
    picture: UInt8[np.ndarray, "h w 3"],
    targets: Float[np.ndarray, "g 4"],
    values: Float[np.ndarray, " g"],
    scale: Scale,
) -> "Plate":
    """The picture dark and grey, and on it a tile at the middle of each box: colours stay those of the colour bar."""
    plate = Plate(picture, (PANEL, PANEL), dark=True)
    middles = (targets[:, :2] + targets[:, 2:]) / 2
    half = np.array([_gap(middles[:, 0]), _gap(middles[:, 1])]) * 0.4
    colours = viridis(scale.share(np.nan_to_num(values)))
    for g in np.argsort(np.where(np.isfinite(values), values, -np.inf)):  # where tiles overlap, the highest is seen
        colour = tuple(colours[g].tolist()) if np.isfinite(values[g]) else (128, 128, 128)
        plate.fill(np.concatenate([middles[g] - half, middles[g] + half]), colour)
    return plate


def _gap(coordinates: Float[np.ndarray, " g"]) -> float:
    """From one place to the next; boxes of no grid get tiles of a bearable size."""
    gaps = np.diff(np.unique(coordinates.round(3)))
    return float(np.clip(gaps.min(), 0.03, 0.2)) if gaps.size else 0.2


def _by_size(targets: Float[np.ndarray, "g 4"]) -> list[tuple[str, Int[np.ndarray, " m"]]]:
    """Captions and members of the sizes of box; of more than three sizes no separate maps, they'd fill the page."""
    sizes, member = np.unique((targets[:, 2:] - targets[:, :2]).round(3), axis=0, return_inverse=True)
    if len(sizes) > 3:
        return [("to boxes of several sizes", np.arange(len(targets)))]
    captions = [f"to boxes {h:.2g} high, {w:.2g} wide" for h, w in sizes]
    return [(caption, np.flatnonzero(member.ravel() == s)) for s, caption in enumerate(captions)]


def _colour_bar(scale: Scale) -> Image.Image:
    """A strip of the colour map over its numbers, each under the colour that it names."""
    decimals = int(np.clip(np.ceil(-np.log10(scale.high - scale.low)) + 1, 0, 8))
    labels = [text(f"{v:.{decimals}f}", 12) for v in np.linspace(scale.low, scale.high, 4 if decimals < 5 else 2)]
    side = max(label.width for label in labels) // 2 + 1
    bar = Image.new("RGB", (PANEL + 2 * side, 36), PAPER)
    bar.paste(Image.fromarray(np.tile(viridis(np.linspace(0, 1, PANEL)), (16, 1, 1))), (side, 0))
    for place, label in zip(np.linspace(side, side + PANEL - 1, len(labels)), labels, strict=True):
        ImageDraw.Draw(bar).line((int(place), 16, int(place), 19), INK)
        bar.paste(label, (int(place) - label.width // 2, 20))
    return bar


def _number(value: float) -> str:
    return f"{value:.3g}"
