"""`scenes`, the built-in data: drawn scenes of many objects, each a pure function of (seed, split, index, size).

A scene is a place of one of twelve kinds, its class. The kind sets what the ground and the wall are made of, which two
shapes and which material are common there. Nothing else depends on it: colours and their polarity, light, the place and
tilt of the horizon, scale, angle and phase of the textures, number, places and sizes of the objects follow one law for
all kinds, so colour statistics say next to nothing of the class and texture says nearly everything.

Geometry is in parts of the picture's side. The floor is a plane seen in perspective: the share t of the way up from the
lower edge to the horizon lies at distance z = z0 / (1 - k t), its texture shrinks accordingly, and an object standing
there looks LENS * its own radius / z large.

The random numbers come from Philox's raw words, whose stream numpy guarantees, and painting uses only arithmetic that
rounds in one way (see `textures`): the bytes are the same on every machine, in any order, process or thread.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from abx.data import textures
from abx.data.sources import SpecError, printable
from abx.data.textures import Field, Shape, Table, Texture, coverage
from abx.types import Objects, Record, Sample, Vocabulary

Colour: TypeAlias = Float32[np.ndarray, "3 1 1"]
Canvas: TypeAlias = Float32[np.ndarray, "3 h w"]

USAGE = "scenes, scenes:test"
SUFFIX = ""

LENGTH = {"train": 100_000, "test": 10_000}
LENS = 0.5
COVERED = 0.5
"""No object has more of its bounding square than this under the squares of nearer ones."""

SHAPES: tuple[tuple[str, str, Shape], ...] = (
    ("disc", "discs", textures.disc),
    ("square", "squares", textures.square),
    ("triangle", "triangles", textures.triangle),
    ("star", "stars", textures.star),
    ("ring", "rings", textures.ring),
    ("cross", "crosses", textures.cross),
    ("hexagon", "hexagons", textures.hexagon),
    ("crescent", "crescents", textures.crescent),
)
"""Singular, plural and field; the position is the object's label."""

MATERIALS = ("plain", "striped", "spotted", "glossy", "chequered")


class Place(NamedTuple):
    """A class of scenes."""

    name: str
    surface: str
    texture: Texture
    hue: int
    """Floor, wall, hills and sky have about this hue and its opposite: 0 red and cyan, in steps of 30°."""
    shapes: tuple[int, int]
    """What two objects in three are, in equal parts; the others are of any shape."""
    material: int
    """What half of the objects are made of; the others of any."""


PLACES = (
    Place("field", "striped", textures.stripes, 0, (0, 3), 0),
    Place("court", "chequered", textures.checks, 1, (1, 4), 3),
    Place("fair", "dotted", textures.dots, 2, (2, 5), 4),
    Place("sea", "wavy", textures.waves, 3, (3, 7), 1),
    Place("yard", "brick", textures.bricks, 4, (4, 0), 2),
    Place("pond", "rippled", textures.rings, 5, (5, 1), 3),
    Place("lodge", "zigzag", textures.zigzag, 2, (6, 2), 4),
    Place("quarry", "cobbled", textures.cobbles, 3, (7, 6), 0),
    Place("meadow", "mottled", textures.blobs, 4, (0, 7), 1),
    Place("maze", "winding", textures.winding, 5, (6, 3), 2),
    Place("roof", "scaled", textures.scales, 0, (1, 5), 0),
    Place("market", "woven", textures.woven, 1, (2, 4), 1),
)


class Thing(NamedTuple):
    """An object of a scene, before it is painted."""

    shape: int
    material: int
    y: float
    x: float
    radius: float
    distance: float
    turn: float
    """Tangent of half the angle that it is turned by."""
    colours: tuple[Colour, Colour]


class Dice:
    """Uniform random numbers of one scene, a pure function of (seed, split, index)."""

    def __init__(self, seed: int, split: str, index: int) -> None:
        stream = list(LENGTH).index(split) << 56 | index
        self._bits = np.random.Philox(key=np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, stream], np.uint64))
        self._numbers = self._draw()

    def _draw(self) -> Iterator[float]:
        while True:
            yield from self.table().tolist()

    def table(self) -> Table:
        return (self._bits.random_raw(256) >> np.uint64(11)) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._numbers)

    def below(self, n: int) -> int:
        return int(n * next(self._numbers))

    def colours(self, hue: float | None = None) -> tuple[Colour, Colour]:
        """A dark and a light colour in random order: any two hues, or about `hue` and its opposite in random order."""
        if hue is None:
            dark, light = (
                self._colour(self.uniform(0.0, 6.0), 0.15, 0.5),
                self._colour(self.uniform(0.0, 6.0), 0.62, 1.0),
            )
        else:
            hue += 3 * self.below(2) + self.uniform(-0.25, 0.25)
            dark, light = self._colour(hue % 6, 0.2, 0.55), self._colour((hue + 3) % 6, 0.62, 1.0)
        return (dark, light) if self.below(2) else (light, dark)

    def _colour(self, hue: float, low: float, high: float) -> Colour:
        saturation, value = self.uniform(0.2, 0.8), 255 * self.uniform(low, high)
        ramps = (abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4))
        parts = [value * (1 - saturation * (1 - min(max(ramp, 0.0), 1.0))) for ramp in ramps]
        return np.array(parts, np.float32).reshape(3, 1, 1)


def check(where: str) -> None:
    if where not in ("", *LENGTH):
        raise SpecError(
            f"scenes has the splits train and test: write scenes or scenes:test, not scenes:{printable(where)}"
        )


def index(where: str) -> "Scenes":
    check(where)
    return Scenes(where or "train")


class Scenes:
    """A `Source` of drawn scenes with class, captions, boxes, count and distance; see the module for what they are.

    An object is in the picture when its middle is, and none is hidden (`COVERED`): all are listed and counted, 3 to 10,
    from far to near. Its box is the extent, clipped to the picture, of the pixels that it covers by half or more, as if
    nothing stood in front of it; its label is an index into `SHAPES`. `distance` is that of the nearest object from the
    camera, in units in which objects have a radius of 0.3 to 1: about 2 to 6.
    """

    classes: tuple[str, ...] = tuple(place.name for place in PLACES)
    vocabulary = Vocabulary(objects=tuple(singular for singular, *_ in SHAPES))
    problems: tuple[tuple[str, str], ...] = ()

    def __init__(self, split: str = "train", *, size: int = 96, seed: int = 0) -> None:
        """Args:
        split: "train" (100,000 scenes) or "test" (10,000 others).
        size: side of the square pictures in pixels, at least 32. The same scene at any size.
        seed: another seed is another data set.
        """
        if split not in LENGTH:
            raise ValueError(f"scenes has the splits {' and '.join(LENGTH)}, not {split!r}")
        if size < 32:
            raise ValueError(f"scenes needs a size of at least 32 pixels, not {size}")
        self.split, self.size, self.seed = split, size, seed

    def __len__(self) -> int:
        return LENGTH[self.split]

    def name(self, i: int) -> str:
        return f"scenes:{self.split}/{i}"

    def stored(self, i: int) -> Record:
        return Record(*self[i])

    def __getitem__(self, i: int) -> Sample:
        i = int(i)
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name(i)}: there are {len(self)} scenes, counted from 0")
        dice = Dice(self.seed, self.split, i)
        label = dice.below(len(PLACES))
        ground = Ground(dice)
        things = _things(dice, PLACES[label], ground)
        canvas, outdoors = _backdrop(dice, PLACES[label], ground, self.size)
        boxes = np.array([_paint(canvas, thing) for thing in things], np.float32) / np.float32(self.size)
        return Sample(
            image=_lit(dice, canvas),
            label=label,
            captions=_captions(PLACES[label], things, outdoors),
            objects=Objects(boxes, np.array([thing.shape for thing in things], np.int64)),
            count=len(things),
            distance=things[-1].distance,
        )


class Ground:
    """The floor's geometry: where it ends, how it recedes."""

    def __init__(self, dice: Dice) -> None:
        self.horizon = dice.uniform(0.12, 0.5)
        self.tilt = dice.uniform(-0.12, 0.12)
        self.recession = dice.uniform(0.2, 0.55)
        self.camera = dice.uniform(2.0, 3.2)

    def spot(self, x: float, t: float) -> tuple[float, float]:
        """y and distance of the floor at x, the share t of the way to the horizon."""
        end = self.horizon + self.tilt * (x - 0.5)
        return 1 - t * (1 - end), self.camera / (1 - self.recession * t)


def _things(dice: Dice, place: Place, ground: Ground) -> list[Thing]:
    """3 to 10 objects from far to near: scattered, in a row, or in a cluster; smaller where they find no room."""
    wanted, arrangement = 3 + dice.below(8), dice.below(3)
    x0, t0 = dice.uniform(0.2, 0.8), dice.uniform(0.15, 0.75)
    dx, dt = 0.8 / wanted, dice.uniform(-0.6, 0.6) / wanted
    same = dice.below(2) == 1
    room, placed, hidden = 1.0, list[Thing](), list[float]()
    while len(placed) < wanted:
        if arrangement == 0 or room < 0.6:
            x, t = dice.uniform(0.0, 1.0), dice.uniform(-0.05, 0.95)
        elif arrangement == 1:
            x, t = 0.1 + dx * (len(placed) + dice.uniform(0.3, 0.7)), t0 + dt * (len(placed) - wanted / 2)
        else:
            x, t = x0 + dice.uniform(-0.25, 0.25), t0 + dice.uniform(-0.35, 0.35)
        x, t = min(max(x, 0.03), 0.97), min(max(t, -0.05), 0.95)
        base, distance = ground.spot(x, t)
        radius = room * dice.uniform(0.55, 1.0) * LENS / distance
        shape = place.shapes[dice.below(2)] if dice.below(3) else dice.below(len(SHAPES))
        material = place.material if dice.below(2) else dice.below(len(MATERIALS))
        if arrangement == 1 and same and placed:
            shape, material = placed[0].shape, placed[0].material
        thing = Thing(
            shape, material, base - 0.85 * radius, x, radius, distance, dice.uniform(-0.35, 0.35), dice.colours()
        )
        shares = [_hidden(old, thing) for old in placed]
        after = [h + share[0] for h, share in zip(hidden, shares, strict=True)] + [sum(share[1] for share in shares)]
        if max(after) <= COVERED:
            placed.append(thing)
            hidden = after
        else:
            room = max(0.95 * room, 0.3)
    return sorted(placed, key=lambda thing: -thing.distance)


def _hidden(a: Thing, b: Thing) -> tuple[float, float]:
    """Which share of the square of a is under that of b, and the other way round; one of them is 0."""
    reach, side = a.radius + b.radius, 2 * min(a.radius, b.radius)
    width, height = min(reach - abs(a.x - b.x), side), min(reach - abs(a.y - b.y), side)
    under = max(width, 0.0) * max(height, 0.0) / 4
    return (under / a.radius**2, 0.0) if b.distance < a.distance else (0.0, under / b.radius**2)


def _backdrop(dice: Dice, place: Place, ground: Ground, size: int) -> tuple[Canvas, bool]:
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


def _mask(thing: Thing, size: int) -> tuple[slice, slice, Field, Field, Field]:
    """The window of an object, and in it: signed distance and coordinates turned with it, in radii."""
    reach, radius = 1.15 * thing.radius, np.float32(thing.radius)
    y0, x0 = max(int(size * (thing.y - reach)), 0), max(int(size * (thing.x - reach)), 0)
    y1, x1 = min(int(size * (thing.y + reach)) + 1, size), min(int(size * (thing.x + reach)) + 1, size)
    y = ((np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5) / np.float32(size) - np.float32(thing.y)) / radius
    x = ((np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5) / np.float32(size) - np.float32(thing.x)) / radius
    cos, sin = (1 - thing.turn**2) / (1 + thing.turn**2), 2 * thing.turn / (1 + thing.turn**2)
    x, y = cos * x - sin * y, sin * x + cos * y
    return slice(y0, y1), slice(x0, x1), SHAPES[thing.shape][2](x, y), x, y


def _paint(canvas: Canvas, thing: Thing) -> tuple[int, int, int, int]:
    """Puts an object and its shadow on the canvas; returns its box in pixels."""
    size = canvas.shape[1]
    pixels = size * thing.radius
    rows, columns, figure, x, y = _mask(thing, size)
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


def _lit(dice: Dice, canvas: Canvas) -> UInt8[np.ndarray, "h w 3"]:
    """Light that falls off across the picture."""
    axis = ((np.arange(canvas.shape[1]) + 0.5) / canvas.shape[1] - 0.5).astype(np.float32)
    across, down = dice.uniform(-0.35, 0.35), dice.uniform(-0.35, 0.35)
    canvas *= dice.uniform(0.5, 1.15) + across * axis[None, :] + down * axis[:, None]
    np.clip(canvas, 0.0, 255.0, out=canvas)
    return np.ascontiguousarray((canvas + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))


NUMBERS = ("a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _captions(place: Place, things: list[Thing], outdoors: bool) -> tuple[str, str]:
    """What stands on what; and how many there are, where, which is nearest."""
    kinds: dict[tuple[int, int], int] = {}
    for thing in reversed(things):
        kinds[thing.material, thing.shape] = kinds.get((thing.material, thing.shape), 0) + 1
    most = sorted(kinds.items(), key=lambda kind: -kind[1])[:3]
    parts = [f"{NUMBERS[n - 1]} {MATERIALS[m]} {SHAPES[s][n > 1]}" for (m, s), n in most]
    rest = len(things) - sum(n for _, n in most)
    if rest:
        parts.append("one more thing" if rest == 1 else f"{NUMBERS[rest - 1]} more things")
    listed = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    back = "hills" if outdoors else f"a {place.surface} wall"
    near = things[-1]
    side = "on the left" if near.x < 0.4 else "on the right" if near.x > 0.6 else "in the middle"
    nearest = f"{MATERIALS[near.material]} {SHAPES[near.shape][0]}"
    return (
        f"{listed} on a {place.surface} floor before {back}",
        f"a {place.name} with {NUMBERS[len(things) - 1]} things, a {nearest} {side} the nearest",
    )
