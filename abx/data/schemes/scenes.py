"""`scenes`, the built-in data: drawn scenes of many objects, each a pure function of (seed, split, index, size).

A scene is a place of one of twelve kinds, its class. The kind sets what the ground and the wall are made of, which two
shapes and which material are common there. Nothing else depends on it: colours and their polarity, light, the place and
tilt of the horizon, scale, angle and phase of the textures, number, places and sizes of the objects follow one law for
all kinds, so colour statistics say next to nothing of the class and texture says nearly everything.

The random numbers come from Philox's raw words and painting uses only arithmetic that rounds in one way: the bytes are
the same on every machine, in any order, process or thread. See `abx.data.scenery` for the parts.
"""

import numpy as np

from abx.data.scenery.captions import captions
from abx.data.scenery.dice import LENGTH, Dice
from abx.data.scenery.layout import MATERIALS, PLACES, SHAPES, Ground, things
from abx.data.scenery.painting import backdrop, lit, paint
from abx.data.sources import SpecError, printable
from abx.types import Objects, Record, Sample, Vocabulary

USAGE = "scenes, scenes:test"
SUFFIX = ""
THINGS = tuple(singular for singular, *_ in SHAPES)


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

    An object is in the picture when its middle is, and none is hidden (`layout.COVERED`): all are listed and counted, 3
    to 10, from far to near. Its box is the extent, clipped to the picture, of the pixels it covers by half or more,
    as if nothing stood in front of it; its label is an index into `layout.SHAPES`. `distance` is that of the nearest
    object from the camera, in units in which objects have a radius of 0.3 to 1: about 2 to 6. Nothing is done in a
    scene: for what asks of verb and noun, they are the nearest object's material and shape.
    """

    classes: tuple[str, ...] = tuple(place.name for place in PLACES)
    vocabulary = Vocabulary(objects=THINGS, verbs=MATERIALS, nouns=THINGS)
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

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
        placed = things(dice, PLACES[label], ground)
        canvas, outdoors = backdrop(dice, PLACES[label], ground, self.size)
        boxes = np.array([paint(canvas, thing) for thing in placed], np.float32) / np.float32(self.size)
        return Sample(
            image=lit(dice, canvas),
            label=label,
            captions=captions(PLACES[label], placed, outdoors),
            objects=Objects(boxes, np.array([thing.shape for thing in placed], np.int64)),
            count=len(placed),
            distance=placed[-1].distance,
            verb=placed[-1].material,
            noun=placed[-1].shape,
        )
