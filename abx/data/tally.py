"""What is counted of records, one by one: parts of a source counted apart add up to the whole."""

import hashlib
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field, fields
from operator import iadd
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from abx.data.formats import open_picture
from abx.data.sources import BadRecord, Source, decoded
from abx.types import Objects, Record

if TYPE_CHECKING:
    Floats: TypeAlias = array[float]
    Ints: TypeAlias = array[int]
else:  # Python 3.11 has the brackets only for type checkers
    Floats = Ints = array

_STARTS = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"8BPS", "PSD"),
    (0, b"<svg", "SVG"),
    *((0, b"P%d" % n, "PPM") for n in range(1, 7)),
)
"""Place, bytes there, and name; also of formats that are refused, so that it is seen which they are."""


def format_of(image: bytes) -> str:
    """Name of the format by the first bytes; "empty" and "unknown" for what has none."""
    if not image:
        return "empty"
    return next((name for at, magic, name in _STARTS if image[at : at + len(magic)] == magic), "unknown")


def digest(data: bytes) -> int:
    """64 bits: that two of a million pictures share one by mistake has a chance of 1 in 37 million."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


@dataclass
class Tally:
    """Counts of a number of records. But for `read`, `refused` and `formats`, of those that could be decoded.

    No picture is kept: memory grows by about 30 bytes a record and 16 a caption.
    """

    read: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason."""
    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Pictures by height and width, upright."""
    turned: int = 0
    """Pictures that their EXIF orientation turns or mirrors."""
    size_stored: int = 0
    """Bytes of all picture files together; what is drawn has none."""
    labels: Counter[int] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    """Pictures by number of captions."""
    words: Counter[int] = field(default_factory=Counter)
    """Captions by number of words."""
    objects: Counter[int] = field(default_factory=Counter)
    """Pictures by number of boxes; without those of which no boxes are known."""
    box_labels: Counter[int] = field(default_factory=Counter)
    flags: Counter[int] = field(default_factory=Counter)
    """Boxes by each bit of `Objects.flags`, and under 0 those of which flags are known."""
    counts: Counter[int] = field(default_factory=Counter)
    verbs: Counter[int] = field(default_factory=Counter)
    nouns: Counter[int] = field(default_factory=Counter)
    distances: Floats = field(default_factory=lambda: array("d"))
    pictures: Ints = field(default_factory=lambda: array("Q"))
    """A digest of each picture."""
    said: Ints = field(default_factory=lambda: array("Q"))
    """A digest of each caption of each record, equal ones of a record once."""
    said_of: Ints = field(default_factory=lambda: array("q"))
    """The record of each of these."""
    seconds: float = field(default=0.0, compare=False)
    """Processor time of reading and decoding."""

    def add(self, source: Source, i: int) -> None:
        self.read += 1
        start = time.process_time()
        try:
            record = source.stored(i)
            image = record.image
            self.formats[format_of(image) if isinstance(image, bytes) else "drawn"] += 1
            pixels = decoded(record).image
        except BadRecord as bad:
            self.refused.append((source.name(i), str(bad)))
            return
        self.seconds += time.process_time() - start
        height, width = pixels.shape[:2]
        self.sizes[height, width] += 1
        if isinstance(image, bytes):
            self.size_stored += len(image)
            self.turned += open_picture(image).orientation in range(2, 9)
        self.pictures.append(digest(image if isinstance(image, bytes) else image.tobytes()))
        self._described(i, record)

    def _described(self, i: int, record: Record) -> None:
        known = ((self.labels, record.label), (self.counts, record.count))
        for counter, number in (*known, (self.verbs, record.verb), (self.nouns, record.noun)):
            if number >= 0:
                counter[number] += 1
        if not np.isnan(record.distance):
            self.distances.append(record.distance)
        self.captions[len(record.captions)] += 1
        for caption in record.captions:
            self.words[len(caption.split())] += 1
        for caption in dict.fromkeys(record.captions):
            self.said.append(digest(caption.encode("utf-8", "surrogatepass")))
            self.said_of.append(i)
        if record.objects is not None:
            self._boxed(record.objects)

    def _boxed(self, objects: Objects) -> None:
        self.objects[len(objects.boxes)] += 1
        self.box_labels.update(objects.labels.tolist())
        if objects.flags is not None:
            self.flags[0] += len(objects.flags)
            self.flags.update(bit for flags in objects.flags.tolist() for bit in (1, 2, 4) if flags & bit)

    def __iadd__(self, other: "Tally") -> "Tally":
        """As if the records of the other had been added after those of this one."""
        for part in fields(self):
            setattr(self, part.name, iadd(getattr(self, part.name), getattr(other, part.name)))
        return self
