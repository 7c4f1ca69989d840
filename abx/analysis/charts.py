"""Curves on axes, as blocks of a page: what the figures of a paper are made of, without a plotting library."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from abx.analysis.colours import view_colour, viridis
from abx.analysis.page import INK, PAPER, Colour, beside, text, under

Number: TypeAlias = float | int
Place = Callable[[float, float], tuple[float, float]]
"""From numbers to pixels of the enlarged area."""
FINE = 3
"""Curves are drawn so many times larger and then shrunk, or they would be stairs."""
GRID, AXIS = (228, 228, 228), (120, 120, 120)
DASH, GAP, THICK = 7.0, 5.0, 2.2
"""Pixels: of a dashed curve; width of a curve."""
MARKERS = 24
"""Up to so many points of a curve are marked."""


class Curve(NamedTuple):
    """Points in the order of x; those that are not finite are left out."""

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    colour: Colour
    spread: Sequence[Number] = ()
    """Half the height of a band about the curve, at each point."""
    dashed: bool = False
    """For what a curve is compared with."""


def colour(number: int) -> Colour:
    """Of curves that are told apart by name: ten, then the same again. Six of the views', without yellow, which does
    not show on white, and grey, which is for chance; then black, brown, olive and violet."""
    named = [view_colour(view) for view in (0, 1, 2, 4, 5, 6)]
    return [*named, INK, (128, 74, 30), (150, 150, 20), (120, 60, 180)][number % 10]


def shade(share: float) -> Colour:
    """Of curves that follow one another: dark first; the palest end does not show on white."""
    r, g, b = viridis(np.array(0.85 * share)).tolist()
    return r, g, b


def chart(
    title: str,
    curves: Sequence[Curve],
    x_name: str,
    y_name: str,
    *,
    size: tuple[int, int] = (400, 250),
    y_range: tuple[Number, Number] | None = None,
    key: bool = True,
) -> Image.Image:
    """A title, axes with round numbers, curves, and under them what each one is.

    Args:
        size: width and height of the area of the curves, in pixels.
        y_range: ends of the vertical axis; without, all that is drawn fits, in round numbers.
        key: whether it says which curve is which.
    """
    x_ticks, y_ticks, x_ends, y_ends = scales(curves, y_range)
    place = lambda x, y: (
        FINE * size[0] * (x - x_ends[0]) / (x_ends[1] - x_ends[0]),
        FINE * size[1] * (1 - (y - y_ends[0]) / (y_ends[1] - y_ends[0])),
    )
    canvas = Image.new("RGB", (FINE * size[0], FINE * size[1]), PAPER)
    draw = ImageDraw.Draw(canvas)
    for tick in x_ticks:
        draw.line([place(tick, y_ends[0]), place(tick, y_ends[1])], GRID, FINE)
    for tick in y_ticks:
        draw.line([place(x_ends[0], tick), place(x_ends[1], tick)], GRID, FINE)
    for curve in curves:
        _band(canvas, curve, place)
    for curve in curves:
        _draw(ImageDraw.Draw(canvas), curve, place)
    area = canvas.resize(size, Image.Resampling.LANCZOS)
    framed = _axes(area, x_ticks, y_ticks, x_ends, y_ends)
    head = under([text(title, 15, framed.width + 40), *([text(y_name, 13, framed.width)] if y_name else [])], 2)
    blocks = [head, framed, _right(text(x_name, 13, size[0]), framed.width)]
    return under([*blocks, keys(curves, framed.width)] if key else blocks, 3)


class Scales(NamedTuple):
    """Of the axes of a chart: numbers that are written at them, and what lies at their two ends."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]


def scales(curves: Sequence[Curve], y_range: tuple[Number, Number] | None = None) -> Scales:
    """Axes that all curves fit on; `y_range` as for `chart`."""
    there = np.array([p for c in curves for p in points(c)[:, :2]]).reshape(-1, 2)
    bands = np.array([y + s * d for c in curves for _, y, d in points(c) for s in (-1, 1)])
    x_ticks = round_numbers(*_ends(there[:, 0]))
    y_ticks = round_numbers(*(y_range or _ends(bands)))
    x_ends, y_ends = _room(x_ticks[0], x_ticks[-1]), _room(*(y_range or (y_ticks[0], y_ticks[-1])))
    if len(there) and there[:, 0].min() < there[:, 0].max():
        x_ends = _room(float(there[:, 0].min()), float(there[:, 0].max()))
    return Scales(x_ticks, y_ticks, x_ends, y_ends)


def keys(curves: Sequence[Curve], width: int) -> Image.Image:
    """What each curve is, in as many lines as it takes."""
    lines: list[list[Image.Image]] = [[]]
    for curve in curves:
        sample = Image.new("RGB", (FINE * 22, FINE * 16), PAPER)
        middle = [(0.0, FINE * 8.0), (FINE * 22.0, FINE * 8.0)]
        _path(ImageDraw.Draw(sample), middle, curve.colour, curve.dashed)
        entry = beside([sample.resize((22, 16), Image.Resampling.LANCZOS), text(curve.label, 13, width - 30)], 5)
        if lines[-1] and sum(each.width + 14 for each in lines[-1]) + entry.width > width:
            lines.append([])
        lines[-1].append(entry)
    return under([beside(line, 14) for line in lines if line], 2)


def round_numbers(low: Number, high: Number) -> list[float]:
    """Four to nine multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [step * k for k in range(math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6) + 1)]


def _ends(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Smallest and largest, or a little about a single one."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (
        (low, high)
        if high - low > 1e-9 * max(1.0, abs(low))
        else (low - 0.5 * abs(low or 1), low + 0.5 * abs(low or 1))
    )


def _room(low: Number, high: Number) -> tuple[float, float]:
    """A little more at both ends, so that no point lies on an edge."""
    return low - 0.02 * (high - low), high + 0.02 * (high - low)


def points(curve: Curve) -> Float[np.ndarray, "n 3"]:
    """x, y and half the band of what can be drawn."""
    spread = np.zeros(len(curve.x)) if not len(curve.spread) else np.nan_to_num(np.asarray(curve.spread, float))
    found = np.stack([np.asarray(curve.x, float), np.asarray(curve.y, float), spread], 1).reshape(-1, 3)
    return found[np.isfinite(found).all(1)]


def _band(canvas: Image.Image, curve: Curve, place: Place) -> None:
    found = points(curve)
    if not found[:, 2].any():
        return
    there = [place(x, y + s) for x, y, s in found] + [place(x, y - s) for x, y, s in found[::-1]]
    veil = Image.new("L", canvas.size, 0)
    if len(found) == 1:  # a band of one point is a bar
        ImageDraw.Draw(veil).line(there, 130, 3 * FINE)
    else:
        ImageDraw.Draw(veil).polygon(there, 50)
    canvas.paste(Image.new("RGB", canvas.size, curve.colour), mask=veil)


def _draw(draw: ImageDraw.ImageDraw, curve: Curve, place: Place) -> None:
    there = [place(x, y) for x, y, _ in points(curve)]
    _path(draw, there, curve.colour, curve.dashed)
    if not curve.dashed and len(there) <= MARKERS:
        for x, y in there:
            r = 2.6 * FINE
            draw.ellipse((x - r, y - r, x + r, y + r), curve.colour)


def _path(draw: ImageDraw.ImageDraw, there: Sequence[tuple[float, float]], ink: Colour, dashed: bool) -> None:
    wide, gone = round(THICK * FINE), 0.0
    for (x0, y0), (x1, y1) in pairwise(there):
        if not dashed:
            draw.line([(x0, y0), (x1, y1)], ink, wide, joint="curve")
            continue
        length, period, at = math.hypot(x1 - x0, y1 - y0), FINE * (DASH + GAP), 0.0
        while at < length:
            phase = (gone + at) % period
            left = FINE * DASH - phase if phase < FINE * DASH else 0.0
            end = min(length, at + (left or period - phase))
            if left:
                a, b = at / length, end / length
                dash = [(x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))]
                draw.line(dash, ink, wide)
            at = max(end, at + 1e-3)
        gone += length
    if len(there) == 1 and dashed:  # what one point is compared with is a dash beside it
        (x, y), r = there[0], 9.0 * FINE
        draw.line([(x - r, y), (x + r, y)], ink, wide)


def _axes(
    area: Image.Image, x_ticks: list[float], y_ticks: list[float], x_ends: tuple[float, ...], y_ends: tuple[float, ...]
) -> Image.Image:
    """The area with its numbers beside and under it."""
    inside = lambda tick, ends: ends[0] - 1e-9 <= tick <= ends[1] + 1e-9
    rows = [(t, text(said(t, y_ticks), 12)) for t in y_ticks if inside(t, y_ends)]
    columns = [(t, text(said(t, x_ticks), 12)) for t in x_ticks if inside(t, x_ends)]
    left = max([8, *(label.width for _, label in rows)]) + 6
    right, top, bottom = 22, 8, 22
    sheet = Image.new("RGB", (left + area.width + right, top + area.height + bottom), PAPER)
    sheet.paste(area, (left, top))
    draw = ImageDraw.Draw(sheet)
    draw.line([(left, top), (left, top + area.height), (left + area.width, top + area.height)], AXIS)
    for tick, label in rows:
        y = top + round(area.height * (1 - (tick - y_ends[0]) / (y_ends[1] - y_ends[0])))
        sheet.paste(label, (left - 5 - label.width, y - label.height // 2))
    for tick, label in columns:
        x = left + round(area.width * (tick - x_ends[0]) / (x_ends[1] - x_ends[0]))
        draw.line([(x, top + area.height), (x, top + area.height + 3)], INK)
        sheet.paste(label, (min(max(x - label.width // 2, 0), sheet.width - label.width), top + area.height + 5))
    return sheet


def said(tick: float, ticks: Sequence[float]) -> str:
    """A number at an axis, with as many digits as its neighbours need."""
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:z.{digits}f}"


def _right(block: Image.Image, width: int) -> Image.Image:
    sheet = Image.new("RGB", (max(width, block.width), block.height), PAPER)
    sheet.paste(block, (max(0, (width - block.width) // 2), 0))
    return sheet
