"""The colours of pictures and curves, which the colour-blind can tell apart."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ImageColor

from abx.analysis.page import Colour

OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def view_colour(view: int) -> Colour:
    """Okabe and Ito's colours, which the colour-blind can tell apart, then the same eight paler; then they repeat."""
    r, g, b = ImageColor.getrgb(OKABE_ITO[view % 8])[:3]
    return (r, g, b) if view % 16 < 8 else ((r + 255) // 2, (g + 255) // 2, (b + 255) // 2)


def viridis(share: Float[np.ndarray, "*b"]) -> UInt8[np.ndarray, "*b 3"]:
    """Colours of equal steps in brightness, dark at 0 and bright at 1."""
    anchors = np.array([ImageColor.getrgb(anchor)[:3] for anchor in VIRIDIS])
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(share, places, anchors[:, c]) for c in range(3)], -1).round().astype(np.uint8)
