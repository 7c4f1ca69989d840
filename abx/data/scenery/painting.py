"""From a layout to pixels: floor and wall, objects and their shadows, light.

Only arithmetic that rounds in one way is used (see `textures`), so the bytes are the same on every machine.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from abx.data.scenery.dice import Colour, Dice
from abx.data.scenery.layout import MATERIALS, SHAPES, Ground, Place, Thing
from abx.data.scenery.textures import Field, coverage

Canvas: TypeAlias = Float32[np.ndarray, "3 h w"]


def backdrop(dice: Dice, place: Place, ground: Ground, size: int) -> tuple[Canvas, bool]:
    """Floor, and behind it a wall of the same make or, in two scenes of five, hills and sky."""
    table = dice.table().astype(np.float32)
    outdoors = dice.below(5) < 2
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    canvas = np.empty((3, size, size), np.float32)
    top = int(size * (ground.horizon - abs(ground.tilt) / 2))

    end = ground.horizon + ground.tilt * (x - 0.5)
    floor = y[top:] - end
    w = 1 - ground.recession * np.clip((1 - y[top:]) / (1 - end), 0.0, 1.0)
    period = dice.uniform(0.16, 0.28)
    u, v = (x - 0.5) / w / period, (1 - y[top:]) / w * (1.2 / period)
    figure = place.texture(*_turned(u, v, dice.uniform(-0.9, 0.9), dice), table)
    shade = 1 - 0.3 * np.clip(1 - floor / 0.08, 0.0, 1.0)
    canvas[:, top:] = _mixed(dice.colours(place.hue / 2), coverage(figure, size * period * w * w)) * shade

    rows = int(size * (ground.horizon + abs(ground.tilt) / 2)) + 1
    behind = coverage(-floor[: rows - top], float(size))
    if outdoors:
        wall = _sky(dice, place.hue / 2, x, y[:rows], end, size)
    else:
        period = dice.uniform(0.12, 0.22)
        u, v = np.broadcast_arrays((x - 0.5) / period, y[:rows] / period)
        figure = place.texture(*_turned(u, v, dice.uniform(-0.12, 0.12), dice), table)
        wall = _mixed(dice.colours(place.hue / 2), coverage(figure, size * period))
    canvas[:, :top] = wall[:, :top]
    canvas[:, top:rows] += behind * (wall[:, top:] - canvas[:, top:rows])
    return canvas, outdoors


def _turned(u: Field, v: Field, turn: float, dice: Dice) -> tuple[Field, Field]:
    """Turned by the angle whose half has the tangent `turn` (no sine to round differently), and shifted at random."""
    cos, sin = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    return cos * u - sin * v + dice.uniform(0.0, 16.0), sin * u + cos * v + dice.uniform(0.0, 16.0)


def _mixed(colours: tuple[Colour, Colour], share: Field) -> Canvas:
    return colours[0] + share * (colours[1] - colours[0])


def _sky(
    dice: Dice,
    hue: float,
    x: Float32[np.ndarray, "1 w"],
    y: Float32[np.ndarray, "h 1"],
    end: Float32[np.ndarray, "1 w"],
    size: int,
) -> Canvas:
    """A graded sky and a line of hills before it."""
    sky, hill = _mixed(dice.colours(hue), np.broadcast_to(y / y[-1, 0], (len(y), size))), dice.colours(hue)[0]
    t = x * dice.uniform(0.8, 2.5) + dice.uniform(0.0, 1.0)
    ridge = end - dice.uniform(0.02, 0.12) * (
        1.1 + 8 * (t - np.floor(t) - 0.5) * (1 - 2 * np.abs(t - np.floor(t) - 0.5))
    )
    return sky + coverage(y - ridge, float(size)) * (hill - sky)


def mask(thing: Thing, size: int) -> tuple[slice, slice, Field, Field, Field]:
    """The window of an object, and in it: signed distance and coordinates turned with it, in radii."""
    reach, radius = 1.15 * thing.radius, np.float32(thing.radius)
    y0, x0 = max(int(size * (thing.y - reach)), 0), max(int(size * (thing.x - reach)), 0)
    y1, x1 = min(int(size * (thing.y + reach)) + 1, size), min(int(size * (thing.x + reach)) + 1, size)
    y = ((np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5) / np.float32(size) - np.float32(thing.y)) / radius
    x = ((np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5) / np.float32(size) - np.float32(thing.x)) / radius
    cos, sin = (1 - thing.turn**2) / (1 + thing.turn**2), 2 * thing.turn / (1 + thing.turn**2)
    x, y = cos * x - sin * y, sin * x + cos * y
    return slice(y0, y1), slice(x0, x1), SHAPES[thing.shape][2](x, y), x, y


def paint(canvas: Canvas, thing: Thing) -> tuple[int, int, int, int]:
    """Puts an object and its shadow on the canvas; returns its box in pixels."""
    size = canvas.shape[1]
    pixels = size * thing.radius
    rows, columns, figure, x, y = mask(thing, size)
    share = coverage(figure, pixels)
    name = MATERIALS[thing.material]
    if name == "glossy":
        glint = np.clip(1.1 - 2.2 * ((x + 0.3) * (x + 0.3) + (y + 0.35) * (y + 0.35)), 0.0, 1.0)
        paint = thing.colours[0] * (0.85 - 0.35 * y) + 190 * (glint * glint)
    elif name == "plain":
        paint = thing.colours[0] * np.ones_like(x)
    else:
        if name == "striped":
            marks = 0.22 - np.abs(1.3 * y - np.floor(1.3 * y) - 0.5)
        elif name == "spotted":
            dx, dy = 1.6 * x - np.floor(1.6 * x) - 0.5, 1.6 * y - np.floor(1.6 * y) - 0.5
            marks = 0.3 - np.sqrt(dx * dx + dy * dy)
        else:
            marks = 4 * (np.abs(x - np.floor(x) - 0.5) - 0.25) * (np.abs(y - np.floor(y) - 0.5) - 0.25)
        paint = _mixed(thing.colours, coverage(marks, 0.7 * pixels))
    paint *= 0.45 + 0.55 * np.clip(figure * (pixels / 2), 0.0, 1.0)
    _shadow(canvas, thing)
    window = canvas[:, rows, columns]
    window += share * (paint - window)
    return _extent(share >= 0.5, rows.start, columns.start)


def _extent(inside: Bool[np.ndarray, "h w"], y: int, x: int) -> tuple[int, int, int, int]:
    """The box around what is true in a window whose corner is (y, x); edges lie between pixels."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return y + int(rows[0]), x + int(columns[0]), y + int(rows[-1]) + 1, x + int(columns[-1]) + 1


def _shadow(canvas: Canvas, thing: Thing) -> None:
    """A soft ellipse where the object stands."""
    size, wide, high = canvas.shape[1], 1.1 * thing.radius, 0.35 * thing.radius
    middle = thing.y + 0.85 * thing.radius
    y0, y1 = max(int(size * (middle - high)), 0), min(int(size * (middle + high)) + 1, size)
    x0, x1 = max(int(size * (thing.x - wide)), 0), min(int(size * (thing.x + wide)) + 1, size)
    y = ((np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5) / size - middle) / high
    x = ((np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5) / size - thing.x) / wide
    canvas[:, y0:y1, x0:x1] *= 1 - 0.6 * np.clip(1 - x * x - y * y, 0.0, 1.0)


def lit(dice: Dice, canvas: Canvas) -> UInt8[np.ndarray, "h w 3"]:
    """Light that falls off across the picture."""
    axis = ((np.arange(canvas.shape[1]) + 0.5) / canvas.shape[1] - 0.5).astype(np.float32)
    across, down = dice.uniform(-0.35, 0.35), dice.uniform(-0.35, 0.35)
    canvas *= dice.uniform(0.5, 1.15) + across * axis[None, :] + down * axis[:, None]
    np.clip(canvas, 0.0, 255.0, out=canvas)
    return np.ascontiguousarray((canvas + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))
