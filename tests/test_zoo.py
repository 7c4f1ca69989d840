"""Bad inputs: each gives a good picture or one line that says why not; none warns, hangs, crashes or fills the memory.

The most important cases are made here. The whole zoo lies beside the checkout where there is one, `shared/zoo`.
"""

import json
import os
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, smooth, write_tar
from PIL import Image, ImageFile, PngImagePlugin

from abx.data.images import BadImage, center_crop, decode
from abx.data.schemes.folder import Folder
from abx.data.schemes.tar import Tar
from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import open_source
from abx.data.views import RandomCrops

ZOO = Path(__file__).parents[2] / "shared" / "zoo"
MANIFEST = json.loads((ZOO / "manifest.json").read_text())["files"] if (ZOO / "manifest.json").is_file() else []
PICTURES = [entry for entry in MANIFEST if not entry["file"].startswith("tars/")]
SHARDS = [entry for entry in MANIFEST if entry["file"].startswith("tars/")]

SMOOTH = smooth()
PILLOW = Image.fromarray(SMOOTH)
JPEG, PNG = encoded(SMOOTH), encoded(SMOOTH, "PNG")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg_of_size(height: int, width: int) -> bytes:
    """A small JPEG whose header says something else."""
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def exif(orientation: int, entries: int = 1) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", entries, 0x0112, 3, 1, orientation, 0) + bytes(4)


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# --- pictures that must come out right ---

GREY = PILLOW.convert("L")
GREY16 = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
FRAMES = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
GOOD = {
    "baseline.jpg": (JPEG, SMOOTH),
    "progressive.jpg": (encoded(SMOOTH, progressive=True), SMOOTH),
    "trailing_garbage.jpg": (JPEG + bytes(range(256)) * 8, SMOOTH),
    "cmyk.jpg": (encoded(PILLOW.convert("CMYK")), SMOOTH),
    "grey.jpg": (encoded(GREY), np.asarray(GREY.convert("RGB"))),
    "icc_garbage.jpg": (encoded(SMOOTH, icc_profile=b"nonsense" * 40), SMOOTH),
    "comment.jpg": (encoded(SMOOTH, comment=b"\xff\xd8\xff\xda" * 9), SMOOTH),
    "grey16.png": (encoded(GREY16, "PNG"), np.asarray(GREY.convert("RGB"))),
    "bilevel.png": (encoded(GREY.convert("1"), "PNG"), np.asarray(GREY.convert("1").convert("RGB"))),
    "alpha.png": (encoded(Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., 0]])), "PNG"), SMOOTH),
    "grey_alpha.png": (encoded(Image.merge("LA", [GREY, GREY.rotate(180)]), "PNG"), np.asarray(GREY.convert("RGB"))),
    "palette.png": (encoded(PILLOW.quantize(64), "PNG"), np.asarray(PILLOW.quantize(64).convert("RGB"))),
    "palette_transparent.png": (
        encoded(PILLOW.quantize(64), "PNG", transparency=bytes(range(0, 256, 4))),
        np.asarray(PILLOW.quantize(64).convert("RGB")),
    ),
    "rgb_transparent.png": (encoded(SMOOTH, "PNG", transparency=(0, 0, 90)), SMOOTH),
    "transparent.gif": (encoded(FRAMES[1], "GIF", transparency=0), np.asarray(FRAMES[1])),
    "animated.gif": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), np.asarray(FRAMES[0])),
    "animated.webp": (
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        np.asarray(FRAMES[0]),
    ),
    "lossless.webp": (encoded(SMOOTH, "WEBP", lossless=True), SMOOTH),
    "alpha.webp": (encoded(PILLOW.convert("RGBA"), "WEBP", lossless=True), SMOOTH),
    "plain.bmp": (encoded(SMOOTH, "BMP"), SMOOTH),
    "plain.ppm": (encoded(SMOOTH, "PPM"), SMOOTH),
    "plain.tiff": (encoded(SMOOTH, "TIFF"), SMOOTH),
    "pages.tiff": (encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), np.asarray(FRAMES[0])),
    "packed.tiff": (encoded(SMOOTH, "TIFF", compression="tiff_lzw"), SMOOTH),
    "png_named.jpg": (PNG, SMOOTH),
    "jpeg_named.png": (JPEG, SMOOTH),
    "one_pixel.png": (encoded(smooth(1, 1), "PNG"), smooth(1, 1)),
    "wide.png": (encoded(smooth(3, 4000), "PNG"), smooth(3, 4000)),
}


@pytest.mark.parametrize("name", GOOD)
def test_decodes_to_the_colours_that_were_meant(name: str):
    data, want = GOOD[name]
    got = decode(data)
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    lossy = name.endswith(".jpg") or name == "jpeg_named.png"
    assert mean_difference(got, want) <= (12 if name == "cmyk.jpg" else 2 if lossy else 0)


def test_sixteen_bits_of_colour_become_eight():
    """Pillow writes no such PNG, so it is put together here: 65535, 32768 and 255 of 65535."""
    row = b"\0" + struct.pack(">3H", 65535, 32768, 255) * 5
    got = decode(png(5, 2, chunk(b"IDAT", zlib.compress(row * 2)), depth=16, colour=2))
    assert np.unique(got.reshape(-1, 3), axis=0).tolist() == [[255, 128, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(orientation: int, form: str):
    """Stored as a camera would: turned so that the reader's turn makes it upright again."""
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](SMOOTH)
    tags = Image.Exif()
    tags[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    got = decode(encoded(np.ascontiguousarray(stored), form, exif=tags, **options))
    assert got.shape == SMOOTH.shape
    assert mean_difference(got, SMOOTH) < 2


@pytest.mark.parametrize(
    "block", [exif(99), exif(0), exif(1, entries=65535), exif(6)[:12], b"Exif\0\0" + b"\x93q\0" * 90]
)
def test_broken_exif_is_none(block: bytes):
    got = decode(encoded(SMOOTH, exif=block))
    assert got.shape == SMOOTH.shape
    assert mean_difference(got, SMOOTH) < 2


# --- what must be refused, and how ---

TEXT_BOMB = PngImagePlugin.PngInfo()
TEXT_BOMB.add_text("comment", "x" * 80_000_000, zip=True)
BAD = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"This is not a picture.", "not a JPEG, PNG"),
    "page.jpg": (b"<!DOCTYPE html><p>404", "not a JPEG, PNG"),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG, PNG"),
    "cut.jpg": (JPEG[: len(JPEG) * 6 // 10], "truncated"),
    "cut_header.jpg": (JPEG[:100], "ends early"),
    "cut.png": (PNG[: len(PNG) // 2], "truncated"),
    "damaged.png": (PNG[:60] + bytes(40) + PNG[100:], ""),
    "cut.gif": (encoded(SMOOTH, "GIF")[:500], ""),
    "cut.webp": (encoded(SMOOTH, "WEBP", lossless=True)[:-40], ""),
    "cut.bmp": (encoded(SMOOTH, "BMP")[:500], ""),
    "cut.tiff": (encoded(SMOOTH, "TIFF")[:500], ""),
    "start_only.png": (PNG[:8], ""),
    "start_only.jpg": (JPEG[:3], "ends early"),
    "start_only.gif": (b"GIF89a", "ends early"),
    "start_only.tiff": (b"II*\0", "ends early"),
    "no_height.jpg": (jpeg_of_size(0, 64), ""),
    "lying.jpg": (jpeg_of_size(65000, 65000), "65000 x 65000 pixels, more than the limit"),
    "lying.png": (png(60000, 60000, chunk(b"IDAT", bytes(100))), "60000 x 60000 pixels, more than the limit"),
    "bomb.png": (png(12000, 12000, chunk(b"IDAT", zlib.compress(bytes(12001) * 12000, 1))), "more than the limit"),
    "lying.gif": (b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0) + b";" * 20, "more than the limit"),
    "big_frame.gif": (
        b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"," + struct.pack("<4HB", 60000, 0, 1, 60000, 0) + b"\2\0;",
        "more than the limit",
    ),
    "lying.ppm": (b"P6\n60000 60000\n255\n" + bytes(99), "more than the limit"),
    "float.tiff": (encoded(Image.fromarray(SMOOTH[..., 0].astype(np.float32)), "TIFF"), "white is not stated"),
    "film.webp": (b"RIFF" + struct.pack("<I", 99) + b"AVI LIST" + bytes(90), "not a JPEG, PNG"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_on_one_line(name: str):
    data, reason = BAD[name]
    tracemalloc.start()
    try:
        with pytest.raises(BadImage) as refused:
            decode(data)
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(refused.value)
    assert reason in said
    assert said.isprintable()
    assert 0 < len(said) < 200
    assert grown < 10 * len(data) + 2_000_000


@pytest.mark.parametrize("name", [name for name, (_, reason) in BAD.items() if "more than the limit" in reason])
def test_size_is_judged_by_the_header(name: str, monkeypatch: pytest.MonkeyPatch):
    """Pixels live outside Python's memory, so: whoever decodes one fails."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(BadImage, match="more than the limit"):
        decode(BAD[name][0])


def test_text_that_unpacks_to_much_is_not_unpacked():
    data = encoded(SMOOTH, "PNG", pnginfo=TEXT_BOMB)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(decode(data), SMOOTH)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_damage_anywhere_is_a_picture_or_a_bad_image(form: str, rng: np.random.Generator):
    """Flipped bytes and cuts at random: no other exception, no warning, never more pixels than allowed."""
    sound, reasons = encoded(smooth(24, 32), form), list[str]()
    for _ in range(150):
        data = bytearray(sound)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.3:
            del data[rng.integers(0, len(data)) :]
        try:
            assert decode(bytes(data)).shape[-1] == 3
        except BadImage as bad:
            reasons.append(str(bad))
    assert all(map(str.isprintable, reasons))
    assert len(reasons) > 20


# --- through a folder and through a shard ---


def outcome(source: Source) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape or reason of every record, by name."""
    good, bad = {}, {}
    for i in range(len(source)):
        name = source.name(i)
        assert name.isprintable()
        try:
            good[name] = source[i].image.shape
        except BadRecord as refused:
            bad[name] = str(refused)
    assert all(map(str.isprintable, bad.values()))
    return good, bad


@pytest.mark.parametrize("scheme", ["folder", "tar"])
def test_a_source_keeps_the_good_and_names_the_bad(scheme: str, tmp_path: Path):
    files = {name: data for name, (data, _) in (GOOD | BAD).items()}
    if scheme == "folder":
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        good, bad = outcome(Folder(str(tmp_path)))
        want_good, want_bad = set(GOOD), set(BAD)
    else:
        # Keys end at the first dot. SVG is no picture's extension in a shard: listed, not counted as a record.
        path = write_tar(
            tmp_path / "s.tar", {name.replace(".", "_", 1) + "." + name.split(".")[1]: d for name, d in files.items()}
        )
        source = Tar([str(path)])
        assert [name.split(":")[1] for name, _ in source.problems] == ["vector_svg"]
        good, bad = outcome(source)
        want_good, want_bad = ({n.replace(".", "_", 1) for n in s} for s in (set(GOOD), set(BAD) - {"vector.svg"}))
    assert {name.replace(":", "/").rsplit("/", 1)[1] for name in good} == want_good
    assert {name.replace(":", "/").rsplit("/", 1)[1] for name in bad} == want_bad


def test_what_is_no_file(tmp_path: Path):
    """Folders, broken links, loops and pipes with the names of pictures: listed, never opened; a pipe would hang."""
    (tmp_path / "ok.jpg").write_bytes(JPEG)
    (tmp_path / "dir.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    source = Folder(str(tmp_path))
    assert outcome(source)[0] == {str(tmp_path / "ok.jpg"): (48, 64, 3)}
    problems = {os.path.basename(name): reason for name, reason in source.problems}
    assert problems.keys() == {"dir.jpg", "dangling.jpg", "loop.jpg", "fifo.jpg"}
    assert problems["dangling.jpg"] == "a broken link"
    assert problems["fifo.jpg"] == "not a regular file"
    assert problems["dir.jpg"].startswith("a folder")


def test_what_changes_after_it_was_listed(tmp_path: Path):
    """Gone, a pipe, a folder: a bad record each, at once. Another picture: that one."""
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_bytes(JPEG)
    source = Folder(str(tmp_path))
    for name in "abc":
        (tmp_path / f"{name}.jpg").unlink()
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").mkdir()
    (tmp_path / "d.jpg").write_bytes(PNG)
    good, bad = outcome(source)
    assert list(bad.values()) == [
        "cannot be read: No such file or directory",
        "not a regular file",
        "cannot be read: Is a directory",
    ]
    assert len(good) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg").chmod(0)
    source = Folder(str(tmp_path))
    with pytest.raises(BadRecord, match="Permission denied"):
        source[0]


def test_a_shard_that_goes_away_or_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [str(write_tar(tmp_path / f"{k}.tar", {f"{k}.jpg": JPEG})) for k in "abc"]
    Path(paths[0]).unlink()
    source = Tar(paths)
    assert source.problems == ((paths[0], "cannot be read: No such file or directory"),)
    Path(paths[1]).unlink()
    os.truncate(paths[2], 700)
    good, bad = outcome(source)
    assert good == {}
    assert list(bad.values()) == [
        "the shard can no longer be read: No such file or directory",
        "the shard has changed since it was indexed",
    ]


def test_files_too_large_to_be_pictures_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    source, shard = Folder(str(tmp_path)), Tar([str(write_tar(tmp_path / "a.tar", {"a.jpg": JPEG}))])
    for module in ("folder", "tar"):
        monkeypatch.setattr(f"abx.data.schemes.{module}.MAX_BYTES", len(JPEG) - 1)
    for each in (source, shard):
        with pytest.raises(BadRecord, match="more than any picture"):
            each[0]


@pytest.mark.parametrize("name", ["one_pixel.png", "wide.png"])
def test_small_and_thin_pictures_can_be_cropped(name: str):
    image = decode(GOOD[name][0])
    assert center_crop(image, 32).shape == (32, 32, 3)
    assert RandomCrops(n=3, size=16)(image, np.random.default_rng(0)).images.shape == (3, 16, 16, 3)


# --- the zoo ---

zoo = pytest.mark.skipif(not MANIFEST, reason="shared/zoo is not beside this checkout")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("zoo")
    with tarfile.open(ZOO / "zoo.tar") as tar:
        tar.extractall(where, filter="data")
    return where


def check_picture(entry: dict, shape: tuple[int, ...] | None) -> None:
    """The shape that came out, None for a refusal, against the manifest."""
    if entry["expect"] == "reject":
        assert shape is None
    elif entry["expect"] == "decode":
        assert shape is not None
    if shape is not None:
        width, height = entry["expected_rgb_size"]
        assert shape == (height, width, 3)


@zoo
@pytest.mark.parametrize("entry", PICTURES, ids=lambda entry: ascii(entry["file"])[1:40])
def test_zoo_picture(entry: dict, unpacked: Path):
    data = (unpacked / entry["file"]).read_bytes()
    tracemalloc.start()
    try:
        shape = decode(data).shape
    except BadImage:
        shape = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    check_picture(entry, shape)
    assert peak < 10 * len(data) + 2_000_000


@zoo
def test_zoo_colours(unpacked: Path):
    def read(name: str) -> np.ndarray:
        return decode((unpacked / name).read_bytes())

    plain = read("ok_baseline.jpg")
    assert mean_difference(read("cmyk.jpg"), plain) < 12
    for name in (
        "rgb_16bit.png",
        "progressive.jpg",
        "trailing_garbage.jpg",
        "icc_garbage.jpg",
        "plain.bmp",
        "lossy.webp",
    ):
        assert mean_difference(read(name), plain) < 6, name
    assert abs(read("gray_16bit.png").mean() - read("grayscale.jpg").mean()) < 2
    for name in ("grayscale.jpg", "gray_16bit.png", "gray_alpha.png", "bilevel.png"):
        assert np.ptp(read(name), axis=-1).max() == 0, name
    assert set(np.unique(read("bilevel.png"))) == {0, 255}
    upright = read("exif_orient_1.jpg")
    assert [int(upright[y, x].argmax()) for y, x in ((5, 5), (5, -5), (-5, 5))] == [0, 1, 2]
    for k in range(2, 9):
        assert mean_difference(read(f"exif_orient_{k}.jpg"), upright) < 4, k


@zoo
def test_zoo_folder(unpacked: Path):
    """All files of the zoo as one folder: hidden ones and tars left out, each other one as the manifest says."""
    source = Folder(str(unpacked))
    shapes, reasons = outcome(source)
    by_name = {str(unpacked / e["file"]).replace("\n", "\\n"): e for e in PICTURES if "/." not in e["file"]}
    assert shapes.keys() | reasons.keys() == by_name.keys()
    assert source.problems == ()
    for name, entry in by_name.items():
        check_picture(entry, shapes.get(name))


@zoo
def test_zoo_as_one_shard(unpacked: Path, tmp_path: Path):
    """The same pictures as members of a shard, under keys that have no dots."""
    with tarfile.open(tmp_path / "zoo.tar", "w") as tar:
        for i, entry in enumerate(PICTURES):
            tar.add(unpacked / entry["file"], f"{i:03d}.jpg")
    source = Tar([str(tmp_path / "zoo.tar")])
    assert len(source) == len(PICTURES)
    shapes, _ = outcome(source)
    for i, entry in enumerate(PICTURES):
        check_picture(entry, shapes.get(source.name(i)))


# What the project does with each shard: (key, class, captions, boxes) of the good, and the keys or shard that it lists.
A, B = ("a", 3, ["a red apple"], None), ("b", 4, ["an apple"], None)
HALF = [[0.1, 0.1, 0.5, 0.5]]
SHARD = {
    "good": ([A, B], []),
    "empty": ([], []),
    "zero_bytes": ([], [""]),
    "not_a_tar": ([], [""]),
    "truncated_mid_member": ([A], ["b.jpg"]),
    "missing_jpg": ([A], ["b"]),
    "missing_txt": ([A, ("b", 4, [], None)], []),
    "bad_jpg_inside": ([B], []),
    "cls_not_int": ([B], ["a"]),
    "cls_newline": ([A, B], []),
    "txt_not_utf8": ([("a", 3, ["une p�che"], None), B], []),
    "txt_empty": ([("a", 3, [], None), B], []),
    "txt_100k_words": ([("a", 3, [("apple " * 100_000).strip()], None), B], []),
    "duplicate_keys": ([A, B, A], []),
    "interleaved": ([("a", -1, [], None), ("b", -1, [], None)], ["a", "b", "a", "b"]),
    "path_traversal": ([A, B], ["../../evil.jpg", "/abs/evil.txt"]),
    "dirs_and_dots": ([("sub/dir/x", -1, ["dots"], None), A, B], []),
    "json_broken": ([("b", -1, [], HALF)], ["a"]),
    "boxes_bad": (
        [("outside", -1, [], [[0, 0, 1, 1]]), ("none", -1, [], [])],
        ["zero_area", "inverted", "pixels", "nan", "three"],
    ),
}  # fmt: skip


@zoo
def test_every_shard_of_the_zoo_has_its_line():
    assert {f"tars/{name}.tar" for name in SHARD} == {entry["file"] for entry in SHARDS}


@zoo
@pytest.mark.parametrize("name", SHARD)
def test_zoo_shard(name: str, unpacked: Path):
    path = str(unpacked / "tars" / f"{name}.tar")
    source, found, bad = Tar([path]), [], 0
    for i in range(len(source)):
        try:
            sample = source[i]
        except BadRecord:
            bad += 1
            continue
        key = source.name(i).removeprefix(path + ":")
        boxes = None if sample.objects is None else sample.objects.boxes
        if boxes is not None:
            assert boxes.shape == (len(sample.objects.labels), 4)
        found.append((key, sample.label, list(sample.captions), None if boxes is None else boxes.round(6).tolist()))
    good, listed = SHARD[name]
    want = [(k, label, captions, boxes) for k, label, captions, boxes in good]
    assert [row[:3] for row in found] == [row[:3] for row in want]
    for (*_, got), (*_, boxes) in zip(found, want, strict=True):
        assert (got is None) == (boxes is None)
        np.testing.assert_allclose(got or [], boxes or [], atol=1e-6)
    assert [problem.removeprefix(path).removeprefix(":") for problem, _ in source.problems] == listed
    assert bad == (name == "bad_jpg_inside")


@zoo
@pytest.mark.parametrize("name", ["empty", "zero_bytes", "not_a_tar"])
def test_zoo_shard_of_nothing_is_one_sentence(name: str, unpacked: Path):
    with pytest.raises(SpecError, match="holds no pictures"):
        open_source(f"tar:{unpacked}/tars/{name}.tar")


@zoo
def test_zoo_shards_together_give_what_each_gives(unpacked: Path):
    """Bad shards among good ones take nothing from them."""
    source = open_source(f"tar:{unpacked}/tars/*.tar")
    assert len(source) == sum(len(good) for good, _ in SHARD.values()) + 1  # the picture that cannot be decoded
    assert len(source.problems) == sum(len(listed) for _, listed in SHARD.values())
    assert len(outcome(source)[1]) == 1
