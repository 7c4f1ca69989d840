"""How many JPEGs a machine decodes in a second."""

import time
from collections.abc import Sequence
from io import BytesIO
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

from PIL import Image

from abx.data.images import BadImage, Picture, decode
from abx.data.schemes.scenes import Scenes
from abx.data.sources import BadRecord, Source
from abx.data.specs import open_for

SIDE, QUALITY = 256, 90
"""Of built-in pictures: pixels, and JPEG quality."""


class Rates(NamedTuple):
    pictures: int
    """How many different ones were decoded."""
    height: float
    width: float
    """Their mean, in pixels."""
    size: float
    """Their mean, in bytes."""
    one: float
    """Pictures a second with one thread."""
    all: float
    """Pictures a second with all threads."""
    threads: int


def pictures(spec: str, most: int) -> list[bytes]:
    """The first picture files of a data string, at most so many; "" = the built-in scenes. Drawn ones become JPEGs.

    Raises: SpecError, also when none of the first can be read.
    """
    source: Source = open_for("--data", spec) if spec else Scenes(size=SIDE)
    found = []
    for i in range(min(len(source), 4 * most)):
        try:
            stored = source.stored(i).image
            if not isinstance(stored, bytes):
                buffer = BytesIO()
                Image.fromarray(stored).save(buffer, "JPEG", quality=QUALITY)
                stored = buffer.getvalue()
            decode(stored)
        except (BadRecord, BadImage):
            continue
        found.append(stored)
        if len(found) == most:
            break
    return found


def measure(files: Sequence[bytes], seconds: float, threads: int) -> Rates:
    """Decode them again and again, for so many seconds with one thread and then with all.

    Threads, as decoders let go of Python's lock: worker processes come out at no less.

    Args:
        files: picture files that can be decoded.
    """
    opened = [Picture(each) for each in files]
    mean = lambda values: sum(values) / len(files)
    return Rates(
        pictures=len(files),
        height=mean([each.height for each in opened]),
        width=mean([each.width for each in opened]),
        size=mean([len(each) for each in files]),
        one=_rate(files, seconds, 1),
        all=_rate(files, seconds, threads) if threads > 1 else 0.0,
        threads=threads,
    )


def _rate(files: Sequence[bytes], seconds: float, threads: int) -> float:
    start = time.perf_counter()

    def work(offset: int) -> int:
        done = 0
        while time.perf_counter() - start < seconds:
            decode(files[(offset + done) % len(files)])
            done += 1
        return done

    with ThreadPool(threads) as pool:
        made = sum(pool.map(work, range(threads)))
    return made / (time.perf_counter() - start)
