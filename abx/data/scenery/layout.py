"""Where things stand in a scene: the kinds of place, the floor, and the objects on it.

Geometry is in parts of the picture's side. The floor is a plane seen in perspective: the share t of the way up from the
lower edge to the horizon lies at distance z = z0 / (1 - k t), its texture shrinks accordingly, and an object standing
there looks LENS * its own radius / z large.
"""

from typing import NamedTuple

from abx.data.scenery import textures
from abx.data.scenery.dice import Colour, Dice
from abx.data.scenery.textures import Shape, Texture

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


def things(dice: Dice, place: Place, ground: Ground) -> list[Thing]:
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
