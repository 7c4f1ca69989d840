"""Pictures inside an HTML page: histograms, and pictures with boxes on them, as inline SVG."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.analysis.colours import view_colour
from abx.data.sources import printable
from abx.data.survey import Named

SIDE, THINNEST = 360, 24
"""Pixels: longest side of a picture; a thinner one is stretched to this."""


def short(words: str, most: int) -> str:
    """On one line, in characters that print, and cut to so many."""
    said = printable(words[: most + 1])
    return said if len(said) <= most else said[: most - 1] + "…"


def ending(name: str, most: int) -> str:
    """The last part of a path, which tells more than what all paths begin with, cut to so many characters."""
    last = name.rstrip("/").rpartition("/")[2]
    return last if len(last) <= most else "..." + last[3 - most :]


def colour_of(number: int) -> str:
    """The colour of a view, or of a kind of object, as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*view_colour(number))


def embedded(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """A data: URL. Small pictures are kept to the pixel."""
    return _url(image, "png") if max(image.shape[:2]) <= 128 else photograph(image, 88)


def photograph(image: UInt8[np.ndarray, "h w 3"], quality: int) -> str:
    """A data: URL of a JPEG, whatever its size."""
    return _url(image, "jpeg", quality=quality)


def _url(image: UInt8[np.ndarray, "h w 3"], kind: str, **options: int) -> str:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def boxed(
    picture: UInt8[np.ndarray, "_ _ 3"], marks: Sequence[tuple[Float[np.ndarray, "4"], str, str]], caption: str
) -> str:
    """A picture with boxes, each with a name and a colour; as large as its longest side allows."""
    scale = SIDE / max(picture.shape[:2])
    height, width = (max(THINNEST, round(scale * side)) for side in picture.shape[:2])
    small = picture
    if scale < 1:
        small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    shapes, tags = [], []
    for k, (box, name, colour) in enumerate(marks):
        y0, x0, y1, x1 = (float(v) for v in box * np.array([height, width, height, width]))
        # Just inside the box, or the edge of the picture would hide half of the line.
        sides = f'width="{max(x1 - x0 - 2, 1):.1f}" height="{max(y1 - y0 - 2, 1):.1f}"'
        place = f'x="{x0 + 1:.1f}" y="{y0 + 1:.1f}" {sides}'
        said = escape(short(name, 200))
        shapes.append(
            f'<g><title>{said}</title><rect {place} fill="transparent" stroke="#191919" stroke-width="4"/>'
            f'<rect {place} fill="none" stroke="{colour}" stroke-width="2"/></g>'
        )
        tags.append(_tag(short(name, 28), colour, (x0, y0, x1, y1), k, width, height))
    look = ' style="image-rendering: pixelated"' if scale > 2 else ""
    image = f'<image href="{embedded(small)}" width="{width}" height="{height}" preserveAspectRatio="none"{look}/>'
    return (
        f'<figure><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{image}'
        f"{''.join(shapes + tags)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _tag(name: str, colour: str, box: tuple[float, float, float, float], k: int, width: int, height: int) -> str:
    """A label in the k-th corner of its box, so that boxes with a common corner do not hide each other's.

    None where it would hide what is in the box: its name is shown by pointing at it.
    """
    wide, high = 7.0 * len(name) + 8, 16.0
    if box[2] - box[0] < wide or box[3] - box[1] < 2 * high:
        return ""
    x = box[0] if k % 2 == 0 else box[2] - wide
    y = box[1] if k % 4 < 2 else box[3] - high
    x, y = max(0.0, min(x, width - wide)), max(0.0, min(y, height - high))
    ink = "#ffffff" if _dark(colour) else "#191919"
    middle = f'x="{x + wide / 2:.1f}" y="{y + 12:.1f}" font-size="12" text-anchor="middle"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.0f}" height="{high:.0f}" fill="{colour}" stroke="#191919"/>'
        f'<text {middle} fill="{ink}">{escape(name)}</text>'
    )


def _dark(colour: str) -> bool:
    r, g, b = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.3 * r + 0.6 * g + 0.1 * b < 110


def bars(title: str, found: Sequence[Named]) -> str:
    """A histogram of lying bars."""
    most = max(*(each.count for each in found), 1)
    rows = []
    for k, (name, count) in enumerate(found):
        y, said, label = 17 * k, escape(short(name, 200)), escape(short(name, 20))
        rows.append(
            f'<g><title>{said}: {count:,}</title><text x="150" y="{y + 12}" text-anchor="end">{label}</text>'
            f'<rect x="156" y="{y + 2}" width="{120 * count / most:.1f}" height="13" fill="#0072b2"/>'
            f'<text x="{160 + 120 * count / most:.1f}" y="{y + 12}" fill="#555">{count:,}</text></g>'
        )
    height = 17 * len(found) + 2
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg width="340" height="{height}" font-size="12" fill="#191919">{"".join(rows)}</svg></figure>'
    )
