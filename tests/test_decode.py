"""One decoding, made smaller or by another decoder only where that changes nothing that matters; OpenCV's crops."""

import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, smooth
from PIL import Image

from abx import boxes
from abx.data import images
from abx.data.images import BadImage, Picture, center_crop, crop_resize, decode
from abx.data.views import RandomCrops

SHARED = Path(__file__).parents[2] / "shared"
SEEDS = st.integers(0, 2**32 - 1)
WHOLE = np.array([[0, 0, 1, 1]], np.float32)

fast = pytest.mark.skipif(find_spec("simplejpeg") is None, reason="simplejpeg is not installed")
opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")


def photograph(h: int, w: int) -> np.ndarray:
    """Detail at every scale, the less the finer, as in nature."""
    rng, total = np.random.default_rng(0), np.zeros((h, w, 3))
    for cells in (3, 6, 12, 24, 48, 96):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(grid.resize((w, h), Image.Resampling.BICUBIC), float) / cells
    total -= total.min()
    return (255 * total / total.max()).astype(np.uint8)


def jpeg(picture: np.ndarray | Image.Image, **options) -> bytes:
    file = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, "JPEG", **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


@pytest.fixture
def pillow_alone(monkeypatch: pytest.MonkeyPatch):
    """Called, from then on simplejpeg is not there."""
    return lambda: monkeypatch.setattr(images, "_simplejpeg", lambda: None)


PHOTO = photograph(203, 301)
PLAIN = {
    f"4:{('4:4', '2:2', '2:0')[s]}, quality {q}, {'progressive' if p else 'baseline'}": jpeg(
        PHOTO, subsampling=s, quality=q, progressive=p, optimize=bool(q % 2)
    )
    for s in (0, 1, 2)
    for q in (20, 75, 99)
    for p in (False, True)
} | {
    "restart markers": jpeg(PHOTO, quality=80, restart_marker_blocks=3),
    "restart markers, progressive": jpeg(PHOTO, quality=80, restart_marker_rows=1, progressive=True),
    "stored as RGB": jpeg(PHOTO, keep_rgb=True),
    "a block": jpeg(PHOTO[:8, :8]),
    "a block and a bit": jpeg(PHOTO[:9, :17]),
    "turned": jpeg(PHOTO, exif=turned(6)),
    "mirrored": jpeg(PHOTO, exif=turned(5)),
}
OTHER = {
    "grey": jpeg(Image.fromarray(PHOTO).convert("L")),
    "inks": jpeg(Image.fromarray(PHOTO).convert("CMYK")),
    "PNG": encoded(PHOTO, "PNG"),
    "a pixel": jpeg(PHOTO[:1, :1]),
}


# --- another decoder ---


@fast
@pytest.mark.parametrize("name", PLAIN)
def test_simplejpeg_gives_pillows_pixels(name: str):
    picture = Picture(PLAIN[name])
    for scale in (1, 2, 4, 8):
        assert picture._by_simplejpeg(scale) is not None
        np.testing.assert_array_equal(picture._pixels(scale), np.asarray(picture._image(scale)))


@fast
@pytest.mark.parametrize("name", OTHER)
def test_simplejpeg_is_not_asked_for_what_is_no_plain_jpeg(name: str):
    assert Picture(OTHER[name])._by_simplejpeg(1) is None


@fast
@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/ is not beside this checkout")
def test_simplejpeg_gives_pillows_pixels_of_real_pictures():
    seen = 0
    for path in sorted((SHARED / "data").glob("*/*.tar")):
        with tarfile.open(path) as tar:
            names = [member for member in tar if member.name.endswith(".jpg")]
            for member in names[:: max(len(names) // 8, 1)]:
                file = tar.extractfile(member)
                assert file is not None
                picture = Picture(file.read())
                scale = (1, 2, 4, 8)[seen % 4]
                found = picture._by_simplejpeg(scale)
                if found is not None:
                    np.testing.assert_array_equal(found, np.asarray(picture._image(scale)))
                    seen += 1
    assert seen > 50


def verdict(data: bytes, scale: int) -> tuple[str, bytes]:
    """What is wrong with a picture, or its pixels."""
    try:
        return "", Picture(data)._pixels(scale).tobytes()
    except BadImage as bad:
        return str(bad), b""


def check_verdict(data: bytes, pillow_alone) -> str:
    """Whoever decodes it and however small, the same is said of it."""
    try:
        picture = Picture(data)
    except BadImage as bad:
        return str(bad)
    scales = (2, 8) if picture._opened.is_jpeg and min(picture.height, picture.width) >= 8 else ()
    found = {scale: verdict(data, scale) for scale in (1, *scales)}
    pillow_alone()
    for scale, what in found.items():
        assert verdict(data, scale) == what
        assert what[0] == found[1][0]
    return found[1][0]


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_is_judged_alike(progressive: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    sound, reasons, accepted = jpeg(PHOTO[:60, :70], progressive=progressive), set[str](), 0
    for _ in range(150):
        data = bytearray(sound)
        for at in rng.integers(len(data) // 4, len(data), rng.integers(0, 4)):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.3:
            del data[rng.integers(0, len(data)) :]
        if rng.random() < 0.2:
            at = int(rng.integers(0, len(data) + 1))
            data[at : at + 40] = bytes(40)
        with monkeypatch.context() as patch:
            reason = check_verdict(bytes(data), lambda p=patch: p.setattr(images, "_simplejpeg", lambda: None))
        reasons.add(reason.partition("(")[0])
        accepted += not reason
    assert accepted > 20
    assert len(reasons) > 2


@pytest.mark.parametrize(
    "data",
    [
        jpeg(PHOTO)[:-2],
        jpeg(PHOTO)[:-200],
        jpeg(PHOTO, progressive=True)[:-2000],
        jpeg(PHOTO)[:700],
        jpeg(PHOTO) + b"more",
        jpeg(PHOTO)[:2000] + bytes(4000),
    ],
    ids=["no end mark", "cut", "cut, progressive", "hardly begun", "goes on", "zeros"],
)
def test_cut_files_are_judged_alike(data: bytes, pillow_alone):
    check_verdict(data, pillow_alone)


@pytest.mark.skipif(not (SHARED / "zoo" / "zoo.tar").is_file(), reason="shared/zoo is not beside this checkout")
def test_the_zoo_is_judged_alike(monkeypatch: pytest.MonkeyPatch):
    refused = 0
    with tarfile.open(SHARED / "zoo" / "zoo.tar") as tar:
        for member in tar:
            if not member.isreg() or "tars/" in member.name:
                continue
            file = tar.extractfile(member)
            assert file is not None
            data = file.read()
            with monkeypatch.context() as patch:
                refused += bool(check_verdict(data, lambda p=patch: p.setattr(images, "_simplejpeg", lambda: None)))
    assert refused > 10


@fast
def test_a_lying_header_is_refused_before_simplejpeg(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images._simplejpeg(), "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    at = PLAIN["turned"].index(b"\xff\xc0") + 5
    with pytest.raises(BadImage, match="more than the limit"):
        decode(PLAIN["turned"][:at] + b"\xfd\xe8\xfd\xe8" + PLAIN["turned"][at + 4 :])


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", pytest.param("fast-bilinear", marks=opencv)])
def test_the_extra_changes_no_view(resize, pillow_alone):
    crops = RandomCrops(n=3, size=24, resize=resize)
    views = [crops(data, np.random.default_rng(1)).images for data in PLAIN.values()]
    pillow_alone()
    for data, found in zip(PLAIN.values(), views, strict=True):
        np.testing.assert_array_equal(crops(data, np.random.default_rng(1)).images, found)


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", pytest.param("fast-bilinear", marks=opencv)])
@pytest.mark.parametrize("name", ["PNG", "grey", "inks"])
def test_a_file_gives_the_views_of_its_pixels(name, resize):
    crops = RandomCrops(n=3, size=64, resize=resize)
    of_file, of_pixels = (crops(x, np.random.default_rng(2)) for x in (OTHER[name], decode(OTHER[name])))
    np.testing.assert_array_equal(of_file.images, of_pixels.images)


def test_one_picture_can_be_cut_by_many_threads():
    picture, placed = Picture(PLAIN["turned"]), boxes.random_box(np.random.default_rng(0), (301, 203))[None]
    want = [picture.crops(placed, size) for size in (10, 60)]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: [picture.crops(placed, size) for size in (10, 60)], range(40)):
            for a, b in zip(found, want, strict=True):
                np.testing.assert_array_equal(a, b)


# --- smaller ---


def both(data: bytes, placed: np.ndarray, size: int, monkeypatch, resize="bilinear") -> tuple[np.ndarray, np.ndarray]:
    """Views of the picture decoded as small as may be, and of all of it."""
    smaller = Picture(data).crops(placed, size, resize)
    with monkeypatch.context() as patch:
        patch.setattr(images, "SCALES", ())
        return smaller, Picture(data).crops(placed, size, resize)


RESIZES = ["bilinear", "bicubic", pytest.param("fast-bilinear", marks=opencv)]


@pytest.mark.parametrize("resize", RESIZES)
def test_smaller_decoding_changes_views_by_less_than_a_level(resize, rng, monkeypatch):
    data, crops = jpeg(photograph(700, 900), quality=90), RandomCrops(n=30, size=32)
    smaller, full = both(data, crops.place((700, 900), rng)[0], 32, monkeypatch, resize)
    assert 0.02 < apart(smaller, full).mean() < 1
    assert apart(smaller, full).mean((1, 2, 3)).max() < 2


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_smaller_decoding_moves_nothing(orientation, resize, rng, monkeypatch):
    """On a ramp of a level every 1.3 pixels the mean says where a view lies. No side is a multiple of 8."""
    data = jpeg(smooth(331, 341), quality=98, subsampling=0, exif=turned(orientation))
    picture = Picture(data)
    tall = orientation >= 5
    assert (picture.height, picture.width) == ((341, 331) if tall else (331, 341))
    placed = RandomCrops(n=12, scale=(0.3, 0.9)).place((picture.height, picture.width), rng)[0]
    for size in (9, 20, 40):
        smaller, full = both(data, placed, size, monkeypatch, resize)
        np.testing.assert_allclose(smaller.mean((1, 2)), full.mean((1, 2)), atol=1)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("inset", [0, 1, 3])
@pytest.mark.parametrize("size", [13, 26, 52])
def test_smaller_decoding_looks_a_small_pixel_outside_at_most(resize, inset, size):
    """Whole blocks are painted, so that the encoder smears nothing, and the box ends less than a pixel inside."""
    painted = np.full((480, 480, 3), 255, np.uint8)
    painted[80:400, 120:360] = 40
    inset = min(inset, {13: 7, 26: 3, 52: 1}[size])
    box = np.array([[80 + inset, 120 + inset, 400 - inset, 360 - inset]], np.float32) / 480
    picture = Picture(jpeg(painted, subsampling=0, quality=95))
    assert picture._scale(240.0 - 2 * inset, size) > 1
    assert apart(picture.crops(box, size, resize), np.full(3, 40)).max() <= 1


@given(st.integers(1, 5000).map(float), st.integers(1, 300))
def test_a_crop_is_shrunk_after_smaller_decoding(shortest: float, size: int):
    scale = Picture(PLAIN["turned"])._scale(shortest, size)
    assert scale == 1 or shortest / scale >= 1.5 * size
    assert scale == 8 or shortest / (2 * scale) < 1.5 * size
    assert Picture(OTHER["PNG"])._scale(shortest, size) == 1
    assert Picture(PHOTO)._scale(shortest, size) == 1


def test_a_small_crop_forbids_smaller_decoding(monkeypatch):
    """All crops come from one decoding, so the smallest decides."""
    placed = np.array([[0, 0, 1, 1], [0.4, 0.4, 0.5, 0.5]], np.float32)
    smaller, full = both(jpeg(PHOTO), placed, 40, monkeypatch)
    np.testing.assert_array_equal(smaller, full)
    smaller, full = both(jpeg(PHOTO), placed[:1], 40, monkeypatch)
    assert (smaller != full).any()


# --- OpenCV ---


def by(resize: str, image: np.ndarray, size: int, box: np.ndarray = WHOLE[0]) -> np.ndarray:
    return crop_resize(image, box, size, resize)


@opencv
@pytest.mark.parametrize("size", [400, 203, 190, 170, 150, 130, 101, 80, 60, 40, 20])
def test_opencv_differs_from_pillow_by_less_than_a_level(size: int):
    """Enlarged and shrunk, by whole numbers and others, by the same and by different factors along the axes."""
    for image in (PHOTO, PHOTO[:, :203], PHOTO[:80]):
        assert apart(by("fast-bilinear", image, size), by("bilinear", image, size)).mean() < 1


@opencv
@pytest.mark.parametrize("shrink", [1, 2, 3, 4])
def test_opencv_shrinks_by_whole_numbers_as_pillow_does(shrink: int, rng: np.random.Generator):
    """Inside: at the edge Pillow leaves out what is not there, and OpenCV repeats the last pixel."""
    noise = rng.integers(0, 256, (30 * shrink, 30 * shrink, 3), np.uint8)
    found, want = by("fast-bilinear", noise, 30), by("bilinear", noise, 30)
    assert apart(found, want)[1:-1, 1:-1].max() <= 2


@opencv
def test_what_shrinks_more_is_pillows(rng: np.random.Generator):
    noise = rng.integers(0, 256, (90, 130, 3), np.uint8)
    np.testing.assert_array_equal(by("fast-bilinear", noise, 32), by("bilinear", noise, 32))


@opencv
@pytest.mark.parametrize("size", [76, 64, 50, 40, 32, 27])
def test_opencv_does_not_alias(size: int):
    """Rings ever finer outwards, to two pixels a ring: what a view cannot show must not come back as something else."""
    cv2 = pytest.importorskip("cv2")
    y, x = np.mgrid[-48:48, -48:48] + 0.5
    rings = 127.5 + 127.5 * np.cos(np.pi * (x**2 + y**2) / 96)
    plate = np.repeat(rings.astype(np.uint8)[..., None], 3, -1)
    want = by("bilinear", plate, size)
    without = apart(cv2.resize(plate, (size, size), interpolation=cv2.INTER_LINEAR), want).mean()
    assert apart(by("fast-bilinear", plate, size), want).mean() < without / (1.5 if size > 64 else 3)


@opencv
@pytest.mark.parametrize("size", [50, 40, 32, 27])
def test_opencv_makes_a_chequered_board_grey(size: int):
    """Single pixels, black and white: gone where half of them and less are left."""
    board = np.repeat(255 * (np.indices((96, 96)).sum(0) % 2).astype(np.uint8)[..., None], 3, -1)
    assert np.abs(by("fast-bilinear", board, size)[1:-1, 1:-1] - 127.5).max() < 5


@opencv
@given(st.integers(1, 250), st.integers(1, 250), SEEDS, st.integers(1, 120))
def test_opencv_sees_nothing_outside_the_box(h: int, w: int, seed: int, size: int):
    box = boxes.random_box(np.random.default_rng(seed), (h, w))
    y0, x0, y1, x1 = (int(v) for v in np.rint(box * np.array([h, w, h, w])))
    image = np.full((h, w, 3), 255, np.uint8)
    image[y0:y1, x0:x1] = 40
    assert (crop_resize(image, box, size, "fast-bilinear") == 40).all()


@opencv
@given(st.integers(1, 100), SEEDS)
def test_opencv_leaves_a_crop_of_its_own_size_alone(side: int, seed: int):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    np.testing.assert_array_equal(by("fast-bilinear", noise, side), noise)


def test_without_opencv_the_command_line_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (problem,) = RandomCrops(resize="fast-bilinear").problems("views")
    assert problem == (
        "views.resize fast-bilinear needs OpenCV: pip install 'annotation-bootstrapping[fast]', or choose bilinear"
    )
    assert RandomCrops().problems("views") == []


@opencv
def test_nobody_loads_opencv_to_see_whether_it_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    assert RandomCrops(resize="fast-bilinear").problems("views") == []
    assert "cv2" not in sys.modules


# --- the evaluation's crop ---


def test_the_central_crop_is_pillows_bicubic():
    square = Image.fromarray(PHOTO[:, 49:252]).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(center_crop(PHOTO, 56), np.asarray(square)[4:60, 4:60])
