"""From the bytes of a picture file to pixels, and to the squares that a network sees."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from abx.data.formats import MAX_BYTES, BadImage, looks_like_picture, one_line, open_picture
from abx.data.resizing import Resize, squares
from abx.types import Pixels, Stored

__all__ = ["MAX_BYTES", "BadImage", "Cut", "Picture", "center_crop", "crop_resize", "decode", "looks_like_picture"]

SCALES = (8, 4, 2)
"""libjpeg can decode a picture so many times smaller, from the low frequencies alone."""
SCALED_SIDE = 1.5
"""Sides of a view that a crop keeps at least when it is cut from a picture decoded smaller."""


class Cut(NamedTuple):
    """Some squares to cut out of a picture; see `Picture.crops`."""

    boxes: Float[np.ndarray, "n 4"]
    size: int
    resize: Resize = "bilinear"
    out: UInt8[np.ndarray, "n size size 3"] | None = None


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

    Raises:
        BadImage: whatever went wrong inside: unknown format, cut off or damaged data, more than `MAX_PIXELS` (before a
            pixel is decoded), memory.
    """
    return Picture(data).pixels()


class Picture:
    """A picture of which only the header has been read. What `decode` says of formats and errors holds here, too.

    Can be asked again, and by many threads.
    """

    def __init__(self, stored: Stored) -> None:
        """Raises: BadImage, for what its header tells."""
        self._orientation = 1
        self._stored: Pixels | None = None
        if isinstance(stored, bytes):
            with one_line():
                self._opened = open_picture(stored)
            self._unread = [self._opened.image]
            """The image whose header was read, for whoever decodes first; the next opens another."""
            width, height = self._opened.size
            if self._opened.orientation in _TURNS:
                self._orientation = self._opened.orientation
            self.height, self.width = (width, height) if self._orientation >= 5 else (height, width)
            """Of the upright picture, in pixels."""
        else:
            self._stored = stored
            self.height, self.width = stored.shape[:2]

    def pixels(self) -> Pixels:
        """Raises: BadImage."""
        return self._pixels(1)

    def crops(
        self,
        boxes: Float[np.ndarray, "n 4"],
        size: int,
        resize: Resize = "bilinear",
        out: UInt8[np.ndarray, "n size size 3"] | None = None,
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """The pixels of exactly these boxes, each made a square of `size`, antialiased; the picture is decoded once.

        A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the shortest side of a crop still is 1.5 sides of a view
        then. The view shows the same box, to a fraction of a pixel of the smaller picture, and on sharp photographs
        differs from the one cut out of the full picture by 0.5 to 0.7 grey levels on average. Damage is found as usual.

        Args:
            boxes: on pixel boundaries up to float rounding (`boxes.random_box`), each of a pixel at least.
            out: where to write them, if they have their place already.

        Raises: BadImage.
        """
        return self.cut([Cut(boxes, size, resize, out)])[0]

    def cut(self, cuts: Sequence[Cut]) -> list[UInt8[np.ndarray, "_ _ _ 3"]]:
        """Several kinds of `crops` from one decoding, at the scale that the most demanding of them needs.

        Raises: BadImage.
        """
        sides = np.array([self.height, self.width, self.height, self.width])
        rectangles = [np.rint(cut.boxes * sides) for cut in cuts]
        # A kind of which there are no crops asks for nothing.
        pairs = [(r, cut.size) for r, cut in zip(rectangles, cuts, strict=True) if len(r)]
        scale = min((self._scale(float((r[:, 2:] - r[:, :2]).min()), size) for r, size in pairs), default=1)
        if scale > 1:
            # The last column of the smaller picture may stand for fewer pixels; turned, it is the first.
            before = [-self.height % scale * (self._orientation in _FROM_BELOW)]
            before += [-self.width % scale * (self._orientation in _FROM_RIGHT)]
            rectangles = [(r + np.array(before * 2)) / scale for r in rectangles]
        array = self._stored is not None or any(cut.resize == "fast-bilinear" for cut in cuts)
        whole = self._pixels(scale) if array else self._image(scale)
        found = []
        for cut, r in zip(cuts, rectangles, strict=True):
            views = np.empty((len(r), cut.size, cut.size, 3), np.uint8) if cut.out is None else cut.out
            squares(whole, r, cut.resize, views)
            found.append(views)
        return found

    def _scale(self, shortest: float, size: int) -> int:
        if self._stored is not None or not self._opened.is_jpeg:
            return 1
        return next((scale for scale in SCALES if shortest >= SCALED_SIDE * size * scale), 1)

    def _pixels(self, scale: int) -> Pixels:
        if self._stored is not None:
            return self._stored
        with one_line():
            found = self._by_simplejpeg(scale)
            if found is None:
                return np.asarray(self._image(scale))
            if self._orientation == 1:
                return found
            return np.asarray(Image.fromarray(found).transpose(_TURNS[self._orientation]))

    def _image(self, scale: int) -> Image.Image:
        """By Pillow, whose verdict counts."""
        with one_line():
            try:
                image = self._unread.pop()
            except IndexError:
                image = self._opened.again()
            if scale > 1:
                image.draft(image.mode, (image.width // scale, image.height // scale))
            upright = _rgb(image)
            return upright if self._orientation == 1 else upright.transpose(_TURNS[self._orientation])

    def _by_simplejpeg(self, scale: int) -> Pixels | None:
        """The pixels as stored, not turned, the same as Pillow's bit for bit; None for a file that it has doubts of."""
        turbo = _simplejpeg()
        # It takes the smallest size that will do, and that of a tiny picture is the size of several scales.
        if turbo is None or not self._opened.plain_jpeg or max(self._opened.size) < 8:
            return None
        width, height = (-(-side // scale) for side in self._opened.size)
        try:
            found: Pixels = turbo.decode_jpeg(self._opened.data, min_height=height, min_width=width)
        except ValueError:  # even where libjpeg would only warn
            return None
        return found if found.shape == (height, width, 3) else None


def crop_resize(
    image: Pixels, box: Float[np.ndarray, "4"], size: int, resize: Resize = "bilinear"
) -> UInt8[np.ndarray, "size size 3"]:
    """The pixels of exactly this box, made a square of `size`, antialiased; see `Picture.crops`."""
    return Picture(image).crops(box[None], size, resize)[0]


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
    square = np.array([[y, x, y + side, x + side]], np.float64)
    larger = round(size * ratio)
    resized = np.empty((1, larger, larger, 3), np.uint8)
    squares(image, square, "bicubic", resized)
    margin = (larger - size) // 2
    return resized[0, margin : margin + size, margin : margin + size]


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by EXIF orientation."""
_FROM_RIGHT, _FROM_BELOW = {2, 3, 6, 7}, {3, 4, 7, 8}
"""Orientations whose upright x runs against the stored columns or rows, and whose y does."""


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    # Converting would try to carry the transparent colour over, and warn where it can't.
    image.info.pop("transparency", None)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("32-bit or float pixels, whose white is not stated")
    if image.mode in ("RGBa", "La"):  # premultiplied alpha goes to RGB only by way of plain alpha
        image = image.convert(image.mode.upper())
    return image if image.mode == "RGB" else image.convert("RGB")


@cache
def _simplejpeg() -> Any:
    """The module, or None."""
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None
