"""A page of pictures, each beside its tokens in the colours of `abx.analysis.components`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.analysis.components import HIGHEST, LOWEST
from abx.analysis.drawing import ending
from abx.analysis.page import beside, chip, enlarged, page, text, under

SIDE, ACROSS, GAP = 224, 3, 28
"""Pixels: side of a picture, and between one picture's tokens and the next picture. Pictures in a row."""
CHANNELS = (("red", (213, 40, 40)), ("green", (0, 140, 60)), ("blue", (40, 80, 220)))
GREY = (("grey", (128, 128, 128)),)


def draw_components(
    pictures: Sequence[UInt8[np.ndarray, "s s 3"]],
    tokens: UInt8[np.ndarray, "n rows columns 3"],
    names: Sequence[str],
    which: Sequence[int],
    share: Float[np.ndarray, "3"],
    title: str,
) -> Image.Image:
    """Pictures as the network is shown them, and what it makes of each patch.

    Args:
        tokens: the colours of their patches.
        which: the three components, the first being 1; one of them thrice is grey.
        share: of all variance, that of each.
    """
    cells = [_pair(*each) for each in zip(pictures, tokens, names, strict=True)]
    lines = [beside(cells[start : start + ACROSS], GAP) for start in range(0, len(cells), ACROSS)]
    width = max(2 * SIDE, *(line.width for line in lines))
    channels = GREY if len(set(which)) == 1 else CHANNELS
    keys = [
        beside([chip(name, colour), text(f"component {k}: {part:.1%} of the variance", 14)], 6)
        for (name, colour), k, part in zip(channels, which, share.tolist(), strict=False)
    ]
    note = (
        "One analysis of all tokens that are shown, signs fixed, and one scale for all pictures: a colour means the "
        f"same in each. A channel runs from the {LOWEST:.0f}st to the {HIGHEST:.0f}th percentile of its component."
    )
    keyed = beside(keys, GAP) if width > 2 * SIDE else under(keys)
    return page([text(title, 20, width), keyed, text(note, 13, width), *lines])


def _pair(picture: UInt8[np.ndarray, "s s 3"], tokens: UInt8[np.ndarray, "rows columns 3"], name: str) -> Image.Image:
    shown = enlarged(picture, SIDE)
    # Patches are squares of pixels; of a size that is no multiple of theirs, some are a pixel wider.
    coloured = Image.fromarray(tokens).resize(shown.size, Image.Resampling.NEAREST)
    pair = beside([shown, coloured], 4)
    return under([pair, text(ending(name, pair.width // 7), 12, 4 * pair.width)], 2)
