"""From the bytes of a picture file to pixels, and from pixels to the squares that a network sees."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from abx.types import Pixels, Stored

Resize: TypeAlias = Literal["bilinear", "bicubic"]

MAX_PIXELS = 89_478_485
"""Larger pictures are refused by their header; Pillow's own warning line."""
MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are not read: no picture within `MAX_PIXELS` needs more, even as four raw channels of 16 bits."""
ACCEPTED = "JPEG, PNG, GIF, WebP, BMP, TIFF or PPM"


class BadImage(ValueError):
    """These bytes are no picture that we can use; the message is one short reason on one line."""


def decode(data: bytes) -> Pixels:
    """The picture as upright RGB, by its content whatever its name. Safe to call from many threads; never warns.

    - Formats: JPEG, PNG, GIF, WebP, BMP, TIFF (not BigTIFF), PPM. Everything else is refused (AVIF, HEIC, SVG, ...).
    - Of an animation the first frame; of a multi-page TIFF the first page; of an APNG the default image.
    - EXIF orientation is applied. Broken EXIF is none, an unknown orientation is 1.
    - Grey is repeated to three channels, palettes are looked up, bilevel is 0 and 255, CMYK is converted plainly.
    - Alpha is dropped, so hidden colours show; colour profiles and gamma are ignored.
    - 16 bits a channel become 8 by `>> 8`. Float and 32-bit pictures are refused: their white is anybody's guess.

    Args:
        data: the whole file, at most `MAX_BYTES` of it worth reading.

    Raises: BadImage, whatever went wrong inside: unknown format, cut off or damaged data, more than `MAX_PIXELS`
        (before a pixel is decoded), memory.
    """
    return Picture(data).pixels()


class Picture:
    """A picture of which only the header has been read. What `decode` says of formats and errors holds here, too."""

    def __init__(self, stored: Stored) -> None:
        """Raises: BadImage, for what its header tells."""
        self._stored = stored
        if isinstance(stored, bytes):
            with _one_line():
                self._image, self._orientation = _open(stored)
            width, height = self._image.size
            self.height, self.width = (width, height) if self._orientation in range(5, 9) else (height, width)
            """Of the upright picture, in pixels."""
        else:
            self.height, self.width = stored.shape[:2]

    def pixels(self) -> Pixels:
        """Raises: BadImage."""
        if not isinstance(self._stored, bytes):
            return self._stored
        with _one_line():
            return np.ascontiguousarray(_UPRIGHT.get(self._orientation, _UPRIGHT[1])(_rgb(self._image)))

    def crops(
        self, boxes: Float[np.ndarray, "n 4"], size: int, resize: Resize = "bilinear"
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """The pixels of exactly these boxes, each made a square of `size`, antialiased.

        Args:
            boxes: on pixel boundaries up to float rounding (`boxes.random_box`), each of a pixel at least.

        Raises: BadImage.
        """
        image = self.pixels()
        return np.stack([crop_resize(image, box, size, resize) for box in boxes])


@contextmanager
def _one_line() -> Iterator[None]:
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


def crop_resize(
    image: Pixels, box: Float[np.ndarray, "4"], size: int, resize: Resize = "bilinear"
) -> UInt8[np.ndarray, "size size 3"]:
    """The pixels of exactly this box, made a square of `size`, antialiased.

    `box` lies on pixel boundaries up to float rounding (`boxes.random_box`) and holds a pixel at least.
    """
    height, width = image.shape[:2]
    y0, x0, y1, x1 = (int(v) for v in np.rint(box * np.array([height, width, height, width])))
    # Not Pillow's resize(box=...): its filter reaches over the edge of the box, and a view would see its surroundings.
    return _resize(image[y0:y1, x0:x1], size, resize)


def center_crop(
    image: UInt8[np.ndarray, "h w 3"], size: int, ratio: float = 256 / 224
) -> UInt8[np.ndarray, "size size 3"]:
    """The view of an evaluation: short side resized to round(size * ratio), then the central square of `size`.

    The picture's central square is cut out first. That changes no pixel that is kept by more than rounding, and memory
    stays bounded: 4000 x 3 pixels would else become 341333 x 256.

    Args:
        ratio: at least 1.
    """
    if ratio < 1:
        raise ValueError(f"ratio must be at least 1, not {ratio}")
    height, width = image.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    resized = _resize(image[y : y + side, x : x + side], round(size * ratio), "bicubic")
    margin = (len(resized) - size) // 2
    return resized[margin : margin + size, margin : margin + size]


def _resize(image: Pixels, size: int, how: Resize) -> UInt8[np.ndarray, "size size 3"]:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size, size), Image.Resampling[how.upper()]))


_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""By EXIF orientation."""


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    image.load()
    # Converting would try to carry the transparent colour over, and warn where it can't.
    image.info.pop("transparency", None)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise BadImage("32-bit or float pixels, whose white is not stated")
    if image.mode in ("RGBa", "La"):  # premultiplied alpha goes to RGB only by way of plain alpha
        image = image.convert(image.mode.upper())
    return np.asarray(image.convert("RGB"))


def _open(data: bytes) -> tuple[Image.Image, int]:
    """The picture, its pixels not yet decoded, and its EXIF orientation.

    Pillow warns (of size, of odd metadata) by Python's `warnings`, which can only be silenced for the whole process:
    `catch_warnings` in one thread undoes what another has set. So what Pillow would warn of never reaches it: metadata
    is cut out first, orientation is read here, and the format's own class is called, since only `Image.open` warns of
    the size.
    """
    if not data:
        raise BadImage("empty file")
    for magic, plugin, clean in _FORMATS:
        if _matches(data, magic):
            cleaned = clean(data)
            image = plugin(BytesIO(cleaned.data))
            _check_size(*image.size)
            exif = image.info.get("exif", b"") if plugin is WebPImageFile else cleaned.exif
            return image, _orientation(exif)
    raise BadImage(f"not a {ACCEPTED} picture: it starts with {data[:12]!r}")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS}")


class _Clean(NamedTuple):
    """A picture file without what Pillow need not see."""

    data: bytes
    exif: bytes = b""


def _clean_jpeg(data: bytes) -> _Clean:
    """Without application segments but APP0 and APP14, which say what the colours mean, and without comments."""
    kept, exif, at = [data[:2]], b"", 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFFF:  # padding
            at += 1
        elif marker == 0xFFDA:  # start of scan: pixels to the end
            return _Clean(b"".join([*kept, data[at:]]), exif)
        elif not 0xFFC0 <= marker <= 0xFFFE or length < 2:
            raise BadImage("damaged JPEG header")
        else:
            segment = data[at : at + 2 + length]
            if marker == 0xFFE1 and segment[4:10] == b"Exif\0\0":
                exif = exif or segment[4:]
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


def looks_like_picture(start: bytes) -> bool:
    """Whether the first bytes of a file (16 suffice) are those of a format that `decode` accepts."""
    return any(_matches(start, magic) for magic, _, _ in _FORMATS)


def _matches(start: bytes, magic: bytes | tuple[bytes, ...]) -> bool:
    # RIFF is also the start of sounds and films.
    return start.startswith(magic) and (magic != b"RIFF" or start[8:12] == b"WEBP")
