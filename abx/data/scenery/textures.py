"""Textures, shapes and materials as fields over the plane: what `scenes` is painted with.

A texture takes coordinates in periods and gives a signed distance in periods, positive inside the figure; a shape does
the same in units of its radius. `coverage` turns either into antialiased paint. Only +, -, *, /, floor, sqrt, min, max
and look-ups are used, all of which IEEE 754 rounds in one way, so a field has the same bits on every machine.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32

Field: TypeAlias = Float32[np.ndarray, "h w"]
Table: TypeAlias = Float[np.ndarray, "256"]
"""Random numbers in [0, 1) that a texture looks up by the number of a cell."""
Texture: TypeAlias = Callable[[Field, Field, Table], Field]
Shape: TypeAlias = Callable[[Field, Field], Field]


def coverage(distance: Field, sharpness: Field | float) -> Field:
    """0 outside, 1 inside, a ramp one pixel wide between them; `sharpness` is the pixels in one unit of distance."""
    return np.clip(distance * sharpness + 0.5, 0.0, 1.0)


def _bands(x: Field) -> Field:
    """Figure and gap of half a period each."""
    return 0.25 - np.abs(x - np.floor(x) - 0.5)


def _swing(x: Field) -> Field:
    """A smooth wave of period 1 in [-1, 1], by two parabolas instead of a sine."""
    t = x - np.floor(x) - 0.5
    return 8 * t * (1 - 2 * np.abs(t))


def _cell(table: Table, iu: Field, iv: Field) -> Field:
    """The random number of each cell (iu, iv); repeats after 16 cells in a direction."""
    index = (iu.astype(np.int32) & 15) * 16 + (iv.astype(np.int32) & 15)
    return np.take(table, index).astype(np.float32, copy=False)


def stripes(u: Field, v: Field, table: Table) -> Field:
    return _bands(u)


def checks(u: Field, v: Field, table: Table) -> Field:
    return 5 * _bands(0.7 * u) * _bands(0.7 * v)


def dots(u: Field, v: Field, table: Table) -> Field:
    row = np.floor(v)
    dx = u + 0.5 * row
    dx -= np.floor(dx) + 0.5
    dy = v - row - 0.5
    return 0.36 - np.sqrt(dx * dx + dy * dy)


def waves(u: Field, v: Field, table: Table) -> Field:
    return _bands(v + 0.45 * _swing(0.4 * u)) * 0.8


def bricks(u: Field, v: Field, table: Table) -> Field:
    """Courses twice as long as high; every seventh brick or so is missing."""
    v = 1.1 * v
    row = np.floor(v)
    x = 0.55 * u + 0.5 * row
    column = np.floor(x)
    mortar = np.minimum(0.5 - np.abs(v - row - 0.5), 2 * (0.5 - np.abs(x - column - 0.5))) - 0.11
    return np.where(_cell(table, column, row) < 0.15, -np.float32(0.2), mortar)


def rings(u: Field, v: Field, table: Table) -> Field:
    """Ripples about the middles of cells three periods wide."""
    x, y = u / 2.6, v / 2.6
    x, y = x - np.floor(x) - 0.5, y - np.floor(y) - 0.5
    return _bands(2.6 * np.sqrt(x * x + y * y))


def zigzag(u: Field, v: Field, table: Table) -> Field:
    x = 0.5 * u
    return 0.65 * _bands(0.8 * v + 1.9 * np.abs(x - np.floor(x) - 0.5))


def cobbles(u: Field, v: Field, table: Table) -> Field:
    """Rounded stones: cells of a jittered lattice, less their joints (F2 - F1 over the four nearest points)."""
    u0, v0 = np.floor(u - 0.5), np.floor(v - 0.5)
    first = np.full_like(u, 9.0)
    second = first
    for iu, iv in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        jitter = _cell(table, u0 + iu, v0 + iv)
        dx = u0 + (iu + 0.2) + 0.6 * jitter - u
        jitter = 7 * jitter
        dy = v0 + (iv + 0.2) + 0.6 * (jitter - np.floor(jitter)) - v
        d = np.sqrt(dx * dx + dy * dy)
        second = np.minimum(second, np.maximum(first, d))
        first = np.minimum(first, d)
    return np.minimum(0.5 * (second - first) - 0.07, 0.55 - first)


def blobs(u: Field, v: Field, table: Table) -> Field:
    """Random patches: a lattice of random numbers, smoothly interpolated, cut in the middle."""
    x, y = 1.3 * u, 1.3 * v
    x0, y0 = np.floor(x), np.floor(y)
    x, y = x - x0, y - y0
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    low, high = _cell(table, x0, y0), _cell(table, x0 + 1, y0)
    low = low + y * (_cell(table, x0, y0 + 1) - low)
    high = high + y * (_cell(table, x0 + 1, y0 + 1) - high)
    return 0.8 * (low + x * (high - low) - 0.5)


def winding(u: Field, v: Field, table: Table) -> Field:
    """Truchet's tiles: two quarter circles in each cell, turned at random, join into winding paths."""
    iu, iv = np.floor(u), np.floor(v)
    x, y = u - iu, v - iv
    x = np.where(_cell(table, iu, iv) < 0.5, x, 1 - x)
    near = np.sqrt(x * x + y * y) - 0.5
    x, y = 1 - x, 1 - y
    far = np.sqrt(x * x + y * y) - 0.5
    return 0.17 - np.minimum(np.abs(near), np.abs(far))


def scales(u: Field, v: Field, table: Table) -> Field:
    """Overlapping rows of round tiles, drawn by their edges."""
    y = 1.4 * v
    row = np.floor(y)
    x = u + 0.5 * row
    x -= np.floor(x) + 0.5
    y -= row
    rim = np.sqrt(x * x + 0.5 * y * y)
    return np.where(rim < 0.5, np.abs(0.4 - rim) - 0.16 + 0.2 * y, np.abs(0.62 - rim) - 0.1)


def woven(u: Field, v: Field, table: Table) -> Field:
    """A basket: squares of three strands, across and along in turn."""
    x, y = u / 1.8, v / 1.8
    across = _bands(0.5 * x + 0.25) * _bands(0.5 * y + 0.25) > 0
    return _bands(np.where(across, 2.5 * x, 2.5 * y)) * 0.7


def disc(x: Field, y: Field) -> Field:
    return 0.95 - np.sqrt(x * x + y * y)


def square(x: Field, y: Field) -> Field:
    return 0.78 - np.maximum(np.abs(x), np.abs(y))


def triangle(x: Field, y: Field) -> Field:
    return 0.55 - np.maximum(y, 0.8660254 * np.abs(x) - 0.5 * y)


def star(x: Field, y: Field) -> Field:
    """Five points: inside at least four of the five half-planes of a pentagon."""
    x = np.abs(x)
    up, low = 0.3090170 * y, 0.8090170 * y
    x1, x2 = 0.9510565 * x, 0.5877853 * x
    first, second = np.maximum(x1 - up, x2 + low), np.minimum(x1 - up, x2 + low)
    for plane in (-y, -x1 - up, low - x2):
        second = np.maximum(second, np.minimum(first, plane))
        first = np.maximum(first, plane)
    return 0.33 - second


def ring(x: Field, y: Field) -> Field:
    return 0.25 - np.abs(0.7 - np.sqrt(x * x + y * y))


def cross(x: Field, y: Field) -> Field:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(0.92 - np.maximum(x, y), 0.32 - np.minimum(x, y))


def hexagon(x: Field, y: Field) -> Field:
    x, y = np.abs(x), np.abs(y)
    return 0.82 - np.maximum(y, 0.8660254 * x + 0.5 * y)


def crescent(x: Field, y: Field) -> Field:
    y2 = y * y
    return np.minimum(0.97 - np.sqrt(x * x + y2), np.sqrt((x - 0.5) * (x - 0.5) + y2) - 0.68)
