"""How a picture is kept: its own bytes where they will do, else smaller and upright."""

from io import BytesIO

from PIL import Image

from abx.data.formats import open_picture
from abx.data.images import Picture
from abx.types import Pixels, Stored

JPEG_SIDE = 65500
"""libjpeg writes no longer sides."""


def kept(stored: Stored, short_side: int, quality: int) -> bytes:
    """The file of a picture, decoded once to see that it can be.

    A file that is upright and needs no shrinking stays as it is, whatever its format. What must be shrunk, or turned as
    its EXIF says, becomes a JPEG without subsampling; it is shrunk with Lanczos' filter, antialiased. Pixels that need
    no shrinking become PNG.

    Args:
        short_side: pixels that the shorter side is shrunk to, if it is longer; 0 keeps the size.
        quality: of JPEG, 1 to 100.

    Raises: BadImage.
    """
    picture = Picture(stored)
    pixels = picture.pixels()
    small = short_side == 0 or min(picture.height, picture.width) <= short_side
    if not small:
        return _encoded(_shrunk(pixels, short_side), "JPEG", quality)
    if isinstance(stored, bytes):
        upright = open_picture(stored).orientation not in range(2, 9)
        return stored if upright else _encoded(Image.fromarray(pixels), "JPEG", quality)
    return _encoded(Image.fromarray(pixels), "PNG", quality)


def _shrunk(pixels: Pixels, short_side: int) -> Image.Image:
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = (round(width * short_side / short), round(height * short_side / short))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, form: str, quality: int) -> bytes:
    file = BytesIO()
    if form == "PNG" or max(image.size) > JPEG_SIDE:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=quality, subsampling="4:4:4")
    return file.getvalue()
