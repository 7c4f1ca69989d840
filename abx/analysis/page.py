"""The blocks of a page for people: text, tags, pictures with boxes on them, put beside or under one another.

Blocks are measured before they are placed, so text neither overlaps nor is cut off. Only outlines, tiles and tags are
placed by coordinates, on a `Plate`.
"""

import textwrap
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

Colour: TypeAlias = tuple[int, int, int]

PAPER, INK = (255, 255, 255), (25, 25, 25)
MARGIN, THINNEST, NARROWEST = 1, 24, 100
"""Pixels: space for halos; a thinner picture is stretched to this; space for tags beside a thin picture."""


class Plate:
    """A picture scaled into an area, that boxes in its frame can be outlined, filled and tagged on."""

    def __init__(self, picture: UInt8[np.ndarray, "_ _ 3"], area: tuple[int, int], *, dark: bool = False) -> None:
        """Args:
        area: largest height and width in pixels. The aspect is kept but for pictures that would be hairlines.
        dark: without colour and half as bright, to lie under something.
        """
        scale = min(area[0] / picture.shape[0], area[1] / picture.shape[1])
        self.height, self.width = (max(THINNEST, round(scale * side)) for side in picture.shape[:2])
        thin = round(scale * min(picture.shape[:2])) < THINNEST
        self.caption = f"{picture.shape[0]} pixels high, {picture.shape[1]} wide{', stretched' if thin else ''}"
        shown = Image.fromarray(picture).resize((self.width, self.height), Image.Resampling.BICUBIC)
        if dark:
            shown = ImageOps.grayscale(shown).point([v // 2 for v in range(256)]).convert("RGB")
        self.canvas = Image.new("RGB", (max(self.width, NARROWEST) + 2 * MARGIN, self.height + 2 * MARGIN), PAPER)
        self.top, self.left = MARGIN, (self.canvas.width - self.width) // 2
        self.canvas.paste(shown, (self.left, self.top))
        self._tags: list[tuple[int, int, int, int]] = []

    def pixels(self, box: Float[np.ndarray, "4"]) -> tuple[int, int, int, int]:
        """First and last column and row inside a box, as `(left, top, right, bottom)`; at least one pixel."""
        y0, x0, y1, x1 = np.clip(np.nan_to_num(box), 0.0, 1.0).tolist()
        left, top = (min(round(u * s), s - 1) for u, s in ((x0, self.width), (y0, self.height)))
        right, bottom = max(round(x1 * self.width) - 1, left), max(round(y1 * self.height) - 1, top)
        return self.left + left, self.top + top, self.left + right, self.top + bottom

    def fill(self, box: Float[np.ndarray, "4"], colour: Colour) -> None:
        ImageDraw.Draw(self.canvas).rectangle(self.pixels(box), fill=colour)

    def outline(self, box: Float[np.ndarray, "4"], colour: Colour) -> None:
        """Two pixels just inside the box, between dark halos that keep them visible on any picture."""
        left, top, right, bottom = self.pixels(box)
        draw = ImageDraw.Draw(self.canvas)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK, width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)

    def tag(self, box: Float[np.ndarray, "4"], label: str, colour: Colour) -> None:
        """A label inside a corner of the box or, where other tags are, elsewhere along its edges or just outside."""
        mark = chip(label, colour)
        left, top, right, bottom = self.pixels(box)
        rightmost, lowest = right + 1 - mark.width, bottom + 1 - mark.height
        corners = [(x, y) for y in (top, lowest) for x in (left, rightmost)]
        edges = [(x, y) for y in (top, lowest) for x in range(left, rightmost, mark.width // 2)]
        around = [(x, y) for y in (top, top - mark.height, bottom + 1) for x in (left - mark.width, left, right + 1)]
        ends = self.canvas.width - mark.width, self.canvas.height - mark.height
        places = [(min(max(x, 0), ends[0]), min(max(y, 0), ends[1])) for x, y in corners + edges + around]
        spots = [(x, y, x + mark.width, y + mark.height) for x, y in places]
        spot = min(spots, key=lambda spot: sum(_overlap(spot, other) for other in self._tags))
        self._tags.append(spot)
        self.canvas.paste(mark, spot[:2])


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _contrast(colour: Colour) -> Colour:
    """Black or white, whichever is seen better on or beside a colour."""
    linear = (np.array(colour) / 255) ** 2.2
    return INK if linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.18 else PAPER


def enlarged(image: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    """As large as fits, pixels staying squares of one size; made smaller only where it must be."""
    longest = max(image.shape[:2])
    shown = Image.fromarray(image)
    if longest > side:
        return ImageOps.contain(shown, (side, side), Image.Resampling.BOX)
    factor = side // longest
    return shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)


def text(string: str, size: int = 13, width: int = 1000) -> Image.Image:
    """A block of text of about this width: an unbreakable line is longer rather than cut."""
    font = ImageFont.load_default(size)
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in string)
    lines = textwrap.wrap(printable, max(int(width / (0.48 * size)), 1)) or [""]
    spacing = round(1.3 * size)
    wide = max(int(np.ceil(font.getlength(line))) for line in lines) + 2  # edges of glyphs are blurred
    block = Image.new("RGB", (wide, spacing * len(lines)), PAPER)
    for row, line in enumerate(lines):
        ImageDraw.Draw(block).text((0, row * spacing), line, INK, font)
    return block


def chip(label: str, colour: Colour) -> Image.Image:
    """A label in a box of a colour."""
    font, ink = ImageFont.load_default(13), _contrast(colour)
    mark = Image.new("RGB", (int(np.ceil(font.getlength(label))) + 8, 18), colour)
    draw = ImageDraw.Draw(mark)
    draw.rectangle((0, 0, mark.width - 1, mark.height - 1), outline=INK)
    draw.text((4, 1), label, ink, font)
    return mark


def beside(blocks: Sequence[Image.Image], gap: int = 10) -> Image.Image:
    widths = [block.width + gap for block in blocks]
    sheet = Image.new("RGB", (max(sum(widths) - gap, 1), max([1, *(block.height for block in blocks)])), PAPER)
    for block, end in zip(blocks, np.cumsum(widths), strict=True):
        sheet.paste(block, (int(end) - block.width - gap, 0))
    return sheet


def under(blocks: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    heights = [block.height + gap for block in blocks]
    sheet = Image.new("RGB", (max([1, *(block.width for block in blocks)]), max(sum(heights) - gap, 1)), PAPER)
    for block, end in zip(blocks, np.cumsum(heights), strict=True):
        sheet.paste(block, (0, int(end) - block.height - gap))
    return sheet


def page(blocks: Sequence[Image.Image]) -> Image.Image:
    return ImageOps.expand(under(blocks, 14), 16, PAPER)
