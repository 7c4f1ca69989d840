"""The value explorer: one HTML file with a picture, two boxes to move about on it, and what moving is worth.

The page has no network in it: values are computed beforehand on two grids of boxes, to which the boxes on the page
snap. It needs nothing but itself, and forbids itself every request. Annotations come from anybody: their texts travel
as data and are only ever shown as text.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from abx.analysis.colours import VIRIDIS
from abx.analysis.drawing import embedded, short
from abx.analysis.page import enlarged
from abx.analysis.pictures import THUMB
from abx.analysis.value_grid import (
    SOURCE_AREAS,
    TARGET_AREAS,
    BoxGrid,
    ValueGrid,
    both_grids,
    most_valued,
    value_grid,
)
from abx.methods.ab import AB, ABCarry, ABModel

MOST = 5_000_000
"""Bytes of a page, at most."""
LEVELS = 65_535
"""Steps that a checkpoint's logits are rounded to, from the lowest to the highest: of a span of 20, 0.0003 each, which
changes no value by more than 0.02 % of itself."""
SIDE = 800
"""Pixels: longest side of the picture on the page."""
LONGEST = 300
"""Characters of an annotation that are shown."""
PARTS = Path(__file__).parent / "explorer_page"
SCRIPTS = ("numbers.js", "boxes.js", "maps.js", "main.js")


class TooLarge(ValueError):
    """The page would not stay below `MOST` bytes; the message says how large it would be."""


class Annotation(NamedTuple):
    """What an annotation says, and what it looks like if that can be seen."""

    label: str
    look: UInt8[np.ndarray, "h w 3"] | None = None


class Exploration(NamedTuple):
    """All that the page shows."""

    title: str
    note: str
    """How to read the rewards: among which annotations they are shared out."""
    picture: UInt8[np.ndarray, "h w 3"]
    annotations: Sequence[Annotation]
    sources: BoxGrid
    targets: BoxGrid
    values: Mapping[int, ValueGrid]
    """By the step of the checkpoint, in the order of the slider."""
    view: int
    """Side of what the network sees of a box, in pixels."""

    @property
    def html(self) -> str:
        """The whole file.

        Raises: TooLarge; ValueError when a value is not finite.
        """
        return _html(self)

    def _repr_html_(self) -> str:
        """In a notebook: the page in a frame that may run its own script and do nothing else."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts" title="{_text(self.title)}" '
            'style="width: 100%; height: 900px; border: 1px solid #ccc"></iframe>'
        )


def explore(
    method: AB[Any],
    checkpoints: Mapping[int, tuple[ABModel, ABCarry]],
    picture: UInt8[np.ndarray, "h w 3"],
    annotated: Any,
    looks: Mapping[int, Annotation] | None = None,
    *,
    size: int,
    count: int = 6,
    places: tuple[int, int] = (5, 9),
    title: str = "Value explorer",
    note: str = "",
) -> Exploration:
    """Values of moving about a picture, as a page: in a notebook the result shows itself, `.html` is the file.

    Args:
        checkpoints: networks by their steps, each with its carry: one, or several for a slider.
        annotated: a reward batch, as the base takes it.
        looks: which of its annotations, by number, and what they are called. None: the `count` that the last
            checkpoint values highest, by their numbers.
        size: side of a view in pixels, as the networks were trained on.
        places: positions of source and target boxes along each side of the picture.
    """
    sources, targets = both_grids((picture.shape[0], picture.shape[1]), places)
    grids = (sources.flat, targets.flat)
    if looks is None:
        model, _ = list(checkpoints.values())[-1]
        found = most_valued(method, model, picture, *grids, annotated, count, size=size)
        looks = {i: Annotation(f"annotation {i}") for i in found.tolist()}
    chosen = np.array(list(looks), np.int64)
    values = {
        step: value_grid(method, model, carry, picture, *grids, annotated, chosen, size=size)
        for step, (model, carry) in checkpoints.items()
    }
    return Exploration(title, note, picture, list(looks.values()), sources, targets, values, size)


def rounded(logits: Float[np.ndarray, "*b"]) -> tuple[float, float, Int[np.ndarray, "*b"]]:
    """low, unit and whole numbers up to `LEVELS`, with logits = low + unit * number to half a unit."""
    low, high = float(logits.min()), float(logits.max())
    unit = (high - low) / LEVELS or 1.0
    return low, unit, np.rint((logits.astype(np.float64) - low) / unit).astype(np.int64)


def page_bytes(annotations: int, places: tuple[int, int], checkpoints: int) -> int:
    """About how large a page gets, without the picture: four characters for every three bytes."""
    source, target = len(SOURCE_AREAS) * places[0] ** 2, len(TARGET_AREAS) * places[1] ** 2
    return checkpoints * annotations * (2 * source * target + 4 * (source + target)) * 4 // 3


def _html(e: Exploration) -> str:
    data = _data(e)
    # Of what could end the script element, or be taken for a line's end in it, nothing is left.
    written = json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    script = "".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fields = {
        "TITLE": _text(e.title),
        "POLICY": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        "STYLE": (PARTS / "style.css").read_text(encoding="utf-8"),
        "DATA": written,
        "SCRIPT": script,
    }
    template = (PARTS / "page.html").read_text(encoding="utf-8")
    # In one pass: what one field says is not looked through for the next one's name.
    page = "".join(fields[part] if k % 2 else part for k, part in enumerate(template.split("@@")))
    if len(page) > MOST:
        raise TooLarge(f"the page would have {len(page) / 1e6:.1f} MB, above {MOST / 1e6:.0f}")
    return page


def _data(e: Exploration) -> dict[str, Any]:
    return {
        "title": short(e.title, LONGEST),
        "note": short(e.note, 2 * LONGEST),
        "picture": embedded(_shown(e.picture, SIDE)),
        "size": list(e.picture.shape[:2]),
        "view": e.view,
        "sources": _grid(e.sources),
        "targets": _grid(e.targets),
        "annotations": [_annotation(each) for each in e.annotations],
        "checkpoints": [_checkpoint(step, grid) for step, grid in e.values.items()],
        "colours": VIRIDIS,
    }


def _grid(grid: BoxGrid) -> dict[str, Any]:
    """Boxes as eight digits, which is what a float32 has."""
    boxes = [[float(f"{c:.8g}") for c in box] for box in grid.flat.tolist()]
    return {"areas": grid.areas, "places": grid.boxes.shape[1], "boxes": boxes}


def _annotation(each: Annotation) -> dict[str, Any]:
    look = None if each.look is None else embedded(np.asarray(enlarged(each.look, THUMB)))
    return {"label": short(each.label, LONGEST), "look": look}


def _checkpoint(step: int, grid: ValueGrid) -> dict[str, Any]:
    if not all(np.isfinite(part).all() for part in grid):
        raise ValueError(f"step {step}: not all values are finite")
    low, unit, numbers = rounded(grid.logits)
    return {
        "step": step,
        "low": low,
        "unit": unit,
        "logits": _coded(numbers.astype("<u2")),
        "here": _coded(grid.here.astype("<f4")),
        "there": _coded(grid.there.astype("<f4")),
    }


def _coded(numbers: np.ndarray) -> str:
    """Little-endian, which every machine is that has a browser."""
    return base64.b64encode(numbers.tobytes()).decode()


def _shown(image: UInt8[np.ndarray, "_ _ 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """No larger than the page shows it."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(scale * each)) for each in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _text(words: str) -> str:
    return escape(short(words, LONGEST))
