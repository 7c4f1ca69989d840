"""Picture files by their first bytes: which are accepted, and how each is opened without its pixels being decoded.

Pillow warns (of size, of odd metadata) by Python's `warnings`, which can only be silenced for the whole process:
`catch_warnings` in one thread undoes what another has set. So what Pillow would warn of never reaches it: metadata is
cut out first, orientation is read here, and the format's own class is called: only `Image.open` warns of the size.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 89_478_485
"""Larger pictures are refused by their header; Pillow's own warning line."""
MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are not read: no picture within `MAX_PIXELS` needs more, even as four raw channels of 16 bits."""
ACCEPTED = "JPEG, PNG, GIF, WebP, BMP, TIFF or PPM"


class BadImage(ValueError):
    """These bytes are no picture that we can use; the message is one short reason on one line."""


@contextmanager
def one_line() -> Iterator[None]:
    """Whatever goes wrong inside becomes a BadImage with one short reason."""
    try:
        yield
    except BadImage:
        raise
    except (struct.error, IndexError) as error:
        raise BadImage("ends early, inside its header") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes, SyntaxError among them.
        words = " ".join(str(error).split())[:120]
        raise BadImage(f"{type(error).__name__}: {words}" if words else type(error).__name__) from error


class Opened(NamedTuple):
    """A picture file of which only the header has been read."""

    image: ImageFile.ImageFile
    """Not yet loaded."""
    data: bytes
    """The file without what Pillow need not see."""
    plugin: Callable[[BytesIO], ImageFile.ImageFile]
    orientation: int
    """How the stored picture lies, EXIF's 1 to 8; anything else is as good as 1."""
    size: tuple[int, int]
    """Width and height as stored, before it is turned."""
    plain_jpeg: bool
    """Baseline, extended or progressive JPEG in colour, Huffman-coded with 8 bits: what any decoder can read."""

    @property
    def is_jpeg(self) -> bool:
        return self.plugin is JpegImageFile

    def again(self) -> ImageFile.ImageFile:
        """A new image, since to load one changes it."""
        return _opened(self.plugin, self.data)


def open_picture(data: bytes) -> Opened:
    """Raises: BadImage, for what the header tells; nearly anything from within Pillow (see `one_line`)."""
    if not data:
        raise BadImage("empty file")
    for magic, plugin, clean in _FORMATS:
        if _matches(data, magic):
            cleaned = clean(data)
            image = _opened(plugin, cleaned.data)
            _check_size(*image.size)
            exif = image.info.get("exif", b"") if plugin is WebPImageFile else cleaned.exif
            plain = cleaned.plain_jpeg and image.mode == "RGB"
            return Opened(image, cleaned.data, plugin, _orientation(exif), image.size, plain)
    raise BadImage(f"not a {ACCEPTED} picture: it starts with {data[:12]!r}")


def _opened(plugin: Callable[[BytesIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    image = plugin(BytesIO(data))
    # All at once. By pieces of 64 kB, as usual, the decoder begins a row again where a piece ends in it.
    image.decodermaxblock = max(len(data), image.decodermaxblock)
    return image


def looks_like_picture(start: bytes) -> bool:
    """Whether the first bytes of a file (16 suffice) are those of a format that `decode` accepts."""
    return any(_matches(start, magic) for magic, _, _ in _FORMATS)


def _matches(start: bytes, magic: bytes | tuple[bytes, ...]) -> bool:
    # RIFF is also the start of sounds and films.
    return start.startswith(magic) and (magic != b"RIFF" or start[8:12] == b"WEBP")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS}")


class _Clean(NamedTuple):
    """A picture file without what Pillow need not see."""

    data: bytes
    exif: bytes = b""
    plain_jpeg: bool = False
    """Of any number of channels."""


def _clean_jpeg(data: bytes) -> _Clean:
    """Without application segments but APP0 and APP14, which say what the colours mean, and without comments."""
    kept, exif, plain, at = [data[:2]], b"", False, 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFFF:  # padding
            at += 1
        elif marker == 0xFFDA:  # start of scan: pixels to the end
            return _Clean(b"".join([*kept, data[at:]]), exif, plain)
        elif not 0xFFC0 <= marker <= 0xFFFE or length < 2:
            raise BadImage("damaged JPEG header")
        else:
            segment = data[at : at + 2 + length]
            if marker == 0xFFE1 and segment[4:10] == b"Exif\0\0":
                exif = exif or segment[4:]
            if 0xFFC0 <= marker <= 0xFFC2:  # other frames are arithmetic-coded, lossless or of several sizes
                plain = segment[4:5] == b"\x08"
            if not (0xFFE1 <= marker <= 0xFFEF or marker == 0xFFFE) or marker == 0xFFEE:
                kept.append(segment)
            at += len(segment)


def _clean_png(data: bytes) -> _Clean:
    """Only the critical chunks: no text (which may unpack to hundreds of megabytes), profile or animation."""
    kept, exif, at = [data[:8]], b"", 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        if kind == b"eXIf":
            exif = chunk[8:-4]
        if not kind[0] & 0x20:  # lower case: ancillary
            kept.append(chunk)
        at += len(chunk)
    return _Clean(b"".join(kept), exif)


def _clean_gif(data: bytes) -> _Clean:
    """Unchanged. A first frame outside the stated canvas enlarges it, which Pillow checks only with a warning."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    _check_size(width, height)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[at : at + 1] == b"!":  # an extension: blocks up to an empty one
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    x, y, w, h = struct.unpack_from("<4H", data, at + 1)
    _check_size(max(width, x + w), max(height, y + h))
    return _Clean(data)


_TIFF_SINGLE = {256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323}
_TIFF_LISTS = {258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 530, 532}
"""The tags that say how the pixels are stored: with one value, with several."""
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


class _Tag(NamedTuple):
    number: int
    type: int
    values: int
    value: int
    """Where the value lies, or the value of a single number that fits."""
    raw: bytes


def _clean_tiff(data: bytes) -> _Clean:
    """The first page alone, with only the tags that say how its pixels are stored."""
    order, start, tags = _tags(data)
    kept = [tag for tag in tags if tag.number in _TIFF_SINGLE | _TIFF_LISTS]
    sizes = [tag.values * _TYPE_BYTES.get(tag.type, 1) for tag in kept]
    if sum(sizes) > len(data) or any(
        size > 4 and tag.value + size > len(data) for tag, size in zip(kept, sizes, strict=True)
    ):
        raise BadImage("TIFF tags point outside the file")
    if any(tag.number in _TIFF_SINGLE and tag.values != 1 for tag in kept):
        raise BadImage("a TIFF tag has several values where one belongs")
    single = {tag.number: tag.value for tag in kept if tag.number in _TIFF_SINGLE}
    _check_size(single.get(322, 1), single.get(323, 1))  # a tile may be larger than the picture
    head = struct.pack(order + "H", len(kept)) + b"".join(tag.raw for tag in kept) + bytes(4)
    return _Clean(data[:start] + head + data[start + len(head) :], data)


def _tags(tiff: bytes) -> tuple[str, int, list[_Tag]]:
    """Byte order, place and content of the first directory of tags of a TIFF or EXIF block.

    Raises: struct.error when it ends early.
    """
    order = ">" if tiff[:2] == b"MM" else "<"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    tags = []
    for at in range(start + 2, start + 2 + 12 * count, 12):
        number, kind, values, value = struct.unpack_from(order + "HHII", tiff, at)
        if kind == 3 and values == 1:
            (value,) = struct.unpack_from(order + "H", tiff, at + 8)
        tags.append(_Tag(number, kind, values, value, tiff[at : at + 12]))
    return order, start, tags


def _orientation(exif: bytes) -> int:
    """How the picture lies, 1 to 8 if sound; 1 where the block is broken or says nothing."""
    try:
        _, _, tags = _tags(exif.removeprefix(b"Exif\0\0"))
    except struct.error:
        return 1
    return next((tag.value for tag in tags if tag.number == 0x0112), 1)


_FORMATS: tuple[
    tuple[bytes | tuple[bytes, ...], Callable[[BytesIO], ImageFile.ImageFile], Callable[[bytes], _Clean]], ...
]
_FORMATS = (
    (b"\xff\xd8\xff", JpegImageFile, _clean_jpeg),
    (b"\x89PNG\r\n\x1a\n", PngImageFile, _clean_png),
    ((b"GIF87a", b"GIF89a"), GifImageFile, _clean_gif),
    (b"RIFF", WebPImageFile, _Clean),
    (b"BM", BmpImageFile, _Clean),
    ((b"II*\0", b"MM\0*"), TiffImageFile, _clean_tiff),
    (tuple(b"P%d" % n for n in range(1, 7)), PpmImageFile, _Clean),
)
