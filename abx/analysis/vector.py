"""The charts of `abx.analysis.charts` as SVG: text that can be searched, lines that stay sharp at any size."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from abx.analysis.charts import AXIS, DASH, GAP, GRID, MARKERS, THICK, Curve, Number, points, said, scales
from abx.analysis.page import INK, Colour

LEFT, RIGHT, TOP, BOTTOM = 62, 22, 44, 44
"""Pixels about the area of the curves: numbers, titles."""
LINE = 20
"""Pixels between lines of text."""


class Drawn(NamedTuple):
    """A piece of SVG and its size in pixels."""

    code: str
    width: int
    height: int


def chart(
    title: str, curves: Sequence[Curve], x_name: str, y_name: str = "", *, size: tuple[int, int] = (400, 250)
) -> Drawn:
    """As `charts.chart` draws it, without keys and without bands."""
    x_ticks, y_ticks, x_ends, y_ends = scales(curves)
    across = lambda x: LEFT + size[0] * (x - x_ends[0]) / (x_ends[1] - x_ends[0])
    down = lambda y: TOP + size[1] * (1 - (y - y_ends[0]) / (y_ends[1] - y_ends[0]))
    right, low = LEFT + size[0], TOP + size[1]
    parts = [_text(LEFT, 16, title, 15), _text(LEFT, 34, y_name, 12)]
    for tick in (t for t in x_ticks if x_ends[0] <= t <= x_ends[1]):
        parts.append(f'<path d="M{across(tick):.1f} {TOP}V{low}" stroke="{_css(GRID)}"/>')
        parts.append(_text(across(tick), low + 17, said(tick, x_ticks), 12, "middle"))
    for tick in (t for t in y_ticks if y_ends[0] <= t <= y_ends[1]):
        parts.append(f'<path d="M{LEFT} {down(tick):.1f}H{right}" stroke="{_css(GRID)}"/>')
        parts.append(_text(LEFT - 6, down(tick) + 4, said(tick, y_ticks), 12, "end"))
    for curve in curves:
        there = [(across(x), down(y)) for x, y, _ in points(curve).tolist()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in there)
        parts.append(f'<polyline points="{path}" {_stroke(curve)}><title>{escape(curve.label)}</title></polyline>')
        if not curve.dashed and len(there) <= MARKERS:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{_css(curve.colour)}"/>' for x, y in there]
    parts.append(f'<path d="M{LEFT} {TOP}V{low}H{right}" fill="none" stroke="{_css(AXIS)}"/>')
    parts.append(_text(LEFT + size[0] / 2, low + 36, x_name, 13, "middle"))
    return Drawn("\n".join(parts), right + RIGHT, low + BOTTOM)


def keys(curves: Sequence[Curve]) -> Drawn:
    """What each curve is, one under the other."""
    parts, widest = [], 0
    for i, curve in enumerate(curves):
        parts.append(f'<path d="M0 {LINE * i + 10}H22" {_stroke(curve)}/>{_text(30, LINE * i + 14, curve.label, 13)}')
        widest = max(widest, 30 + 8 * len(curve.label))
    return Drawn("\n".join(parts), widest, LINE * len(curves))


def sheet(title: str, charts: Sequence[Drawn], below: Drawn, footer: str, across: int) -> str:
    """A whole SVG file: charts in rows of so many, then the keys and a line of text."""
    width, y = max([700, below.width, *(each.width * min(across, len(charts)) for each in charts)]), 40
    parts = [_text(8, 26, title, 20)]
    for start in range(0, len(charts), across):
        row = charts[start : start + across]
        for k, each in enumerate(row):
            parts.append(f'<g transform="translate({k * each.width} {y})">{each.code}</g>')
        y += max(each.height for each in row) + 10
    parts.append(f'<g transform="translate({LEFT} {y})">{below.code}</g>')
    y += below.height + 24
    parts.append(_text(8, y, footer, 12))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 14}" viewBox="0 0 {width} {y + 14}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: Number, y: Number, string: str, size: int, anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{_css(INK)}"'
    printable = "".join(c for c in string if c.isprintable())
    return f"<text {where}>{escape(printable)}</text>" if printable else ""


def _stroke(curve: Curve) -> str:
    dashes = f' stroke-dasharray="{DASH:g} {GAP:g}"' if curve.dashed else ""
    return f'fill="none" stroke="{_css(curve.colour)}" stroke-width="{THICK:g}" stroke-linejoin="round"{dashes}'


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
