"""Shards: which samples are found in them, what is refused, and the index that is made once."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, smooth, write_tar

from abx.data.schemes.folder import Folder
from abx.data.schemes.tar import Tar
from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import open_source
from abx.data.webdataset import annotations, files
from abx.data.webdataset import index as index_files
from abx.data.webdataset.build import Built, build
from abx.data.webdataset.files import File
from abx.data.webdataset.headers import Damaged, members
from abx.data.webdataset.index import Index
from abx.data.webdataset.shard import Said, Shard, read_shard
from abx.types import CROWD, DIFFICULT, TRUNCATED, Vocabulary

PNG = encoded(smooth(4, 6), "PNG")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = tmp_path_factory.mktemp("cache") / "abx"
    monkeypatch.setenv("ABX_CACHE", str(where))
    return where


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_open", OrderedDict())


def grey(level: int) -> bytes:
    return encoded(np.full((3, 5, 3), level, np.uint8), "PNG")


def levels(source: Source) -> list[int]:
    """The grey of each record, which tells files apart."""
    return [int(source[i].image[0, 0, 0]) for i in range(len(source))]


# --- samples ---


def sample(level: int = 1, **parts: bytes) -> dict[str, bytes]:
    """Members of a sample named x: a picture and other extensions."""
    return {"x.png": grey(level)} | {f"x.{extension}": data for extension, data in parts.items()}


def only(path: Path, members: dict[str, bytes]) -> tuple:
    """The single sample of a shard, and the reasons in `problems`."""
    source = Tar([str(write_tar(path / "one.tar", members))])
    assert len(source) == 1
    return source[0], [reason for _, reason in source.problems]


def left_out(path: Path, members: dict[str, bytes]) -> str:
    """Why the sample x is left out, though the one beside it is not."""
    source = Tar([str(write_tar(path / "two.tar", members | {"y.png": grey(9)}))])
    assert levels(source) == [9]
    ((name, reason),) = source.problems
    assert name == f"{path}/two.tar:x"
    return reason


def test_tar_reads_all_parts_of_a_sample(tmp_path: Path):
    boxes = {"boxes": [[0, 0.25, 0.5, 1], [0.1, 0.1, 0.2, 0.2]], "labels": [4, 0]}
    parts = {"cls": b" 12\n", "txt": "a red apple\n\n  une pêche \n".encode(), "json": json.dumps(boxes).encode()}
    got, problems = only(tmp_path, sample(55, **parts))
    assert problems == []
    assert int(got.image[0, 0, 0]) == 55
    assert (got.label, got.captions) == (12, ("a red apple", "une pêche"))
    np.testing.assert_allclose(got.objects.boxes, boxes["boxes"], atol=1e-7)
    assert got.objects.boxes.dtype == np.float32
    assert got.objects.labels.tolist() == [4, 0]


def test_tar_samples_are_runs_of_one_key_over_all_shards(tmp_path: Path):
    first = [("./b.png", grey(0)), ("b.cls", b"3"), ("a.png", grey(1)), ("d/b.PNG", grey(2)), ("d/b.CLS", b"1")]
    second = [("a.png", grey(3)), ("a.png", grey(4)), ("v1.0/c.png", grey(5)), ("b.txt", b"late")]
    paths = [str(write_tar(tmp_path / f"{k}.tar", m)) for k, m in (("z", first), ("y", second))]
    source = Tar(paths)
    assert levels(source) == [0, 1, 2, 3, 4, 5]
    assert [source.name(i).removeprefix(str(tmp_path)) for i in range(6)] == [
        "/z.tar:b", "/z.tar:a", "/z.tar:d/b", "/y.tar:a", "/y.tar:a", "/y.tar:v1.0/c",
    ]  # fmt: skip
    assert [source[i].label for i in range(6)] == [3, -1, 1, -1, -1, -1]
    assert source.problems == ((f"{paths[1]}:b", "no picture among its parts (txt)"),)
    for outside in (-1, 6):
        with pytest.raises(IndexError):
            source[outside]


def test_tar_passes_over_what_is_no_sample(tmp_path: Path):
    """Hidden members (macOS leaves ._x.png) and names without an extension."""
    got, problems = only(tmp_path, {"._x.png": b"junk", "LICENSE": b"text"} | sample() | {"d/.x.png": b"junk"})
    assert got.image.shape == (3, 5, 3)
    assert problems == []


def test_tar_takes_the_plain_name_before_a_longer_one(tmp_path: Path):
    """Masks and depths lie beside pictures as x.seg.png; alone, x.left.png is the picture."""
    got, _ = only(tmp_path, {"x.seg.png": grey(1), "x.jpg": grey(2), "x.depth.png": grey(3)})
    assert got.image[0, 0, 0] == 2
    got, _ = only(tmp_path, {"x.left.png": grey(1), "x.right.png": grey(2), "x.left.txt": b"left"})
    assert (got.image[0, 0, 0], got.captions) == (1, ("left",))


@pytest.mark.parametrize("text", [b"cat", b"", b"1.5", b"-2", b"1000000", "١".encode(), b"9" * 99])
def test_a_class_that_is_no_number_leaves_the_sample_out(text: bytes, tmp_path: Path):
    problem = left_out(tmp_path, sample(cls=text))
    assert problem.startswith("its class is no number from 0 to 999999")
    assert problem.isprintable()


def test_minus_one_is_no_class(tmp_path: Path):
    got, problems = only(tmp_path, sample(cls=b"-1"))
    assert (got.label, problems) == (-1, [])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"boxes": [[0.5, 0.5, 0.5, 0.6]], "labels": [0]}', "no area"),
        ('{"boxes": [[0.8, 0.8, 0.2, 0.2]], "labels": [0]}', "no area"),
        ('{"boxes": [[1.2, 0, 1.5, 1]], "labels": [0]}', "no area"),
        ('{"boxes": [[10, 20, 100, 150]], "labels": [0]}', "not in [0, 1]"),
        ('{"boxes": [[NaN, 0, 1, 1]], "labels": [0]}', "not in [0, 1]"),
        ('{"boxes": [[0, 0, 1, Infinity]], "labels": [0]}', "not in [0, 1]"),
        ('{"boxes": [[0, 0, 1, 1e300]], "labels": [0]}', "not in [0, 1]"),
        ('{"boxes": [[0, 0, 1]], "labels": [0]}', "four numbers"),
        ('{"boxes": [[0, 0, 1, 1], [0, 1]], "labels": [0, 0]}', "four numbers"),
        ('{"boxes": [[[0, 0], [1, 1]]], "labels": [0]}', "four numbers"),
        ('{"boxes": [0, 0, 1, 1], "labels": [0]}', "four numbers"),
        ('{"boxes": "all", "labels": [0]}', "four numbers"),
        ('{"boxes": {"x": 1}, "labels": [0]}', "four numbers"),
        ('{"boxes": null, "labels": []}', "four numbers"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": []}', "1 boxes and 0 labels"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": null}', "labels of its boxes"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": ["cat"]}', "labels of its boxes"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": [-1]}', "labels of its boxes"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": [true]}', "labels of its boxes"),
        ('{"boxes": [[0, 0, 1,', "cannot be parsed"),
        ("[" * 100_000, "cannot be parsed"),
        ("", "cannot be parsed"),
        ("\xff\xfe", "cannot be parsed"),
    ],
)
def test_unsound_boxes_leave_the_sample_out(record: str, reason: str, tmp_path: Path):
    """Without its boxes it would pass for a picture that nobody has looked for any in."""
    assert reason in left_out(tmp_path, sample(json=record.encode("latin-1")))


def test_boxes_without_labels_are_of_no_class_in_particular(tmp_path: Path):
    got, problems = only(tmp_path, sample(json=b'{"boxes": [[0, 0, 1, 1], [0, 0, 0.5, 1]], "count": 2}'))
    assert (got.objects.labels.tolist(), got.count, problems) == ([0, 0], 2, [])
    assert Tar([str(tmp_path / "one.tar")]).vocabulary.objects == ("0",)
    assert left_out(tmp_path, sample(json=b'{"boxes": [[0, 0, 0, 1]]}')).startswith("one of its boxes has no area")


@pytest.mark.parametrize("record", ['{"url": "http://x", "labels": 3}', "[1, 2]", "7", '"boxes"'])
def test_metadata_without_boxes_is_no_problem(record: str, tmp_path: Path):
    got, problems = only(tmp_path, sample(json=record.encode()))
    assert got.objects is None
    assert problems == []


def test_a_box_that_sticks_out_is_clipped_and_no_boxes_are_none_seen(tmp_path: Path):
    got, _ = only(tmp_path, sample(json=b'{"boxes": [[-0.2, 0.5, 1.3, 1.2]], "labels": [1]}'))
    np.testing.assert_allclose(got.objects.boxes, [[0, 0.5, 1, 1]])
    got, _ = only(tmp_path, sample(json=b'{"boxes": [], "labels": []}'))
    assert got.objects.boxes.shape == (0, 4)
    assert got.objects.labels.shape == (0,)


def test_long_captions_and_annotations_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(annotations, "MAX_TEXT", 10)
    monkeypatch.setattr(annotations, "MAX_JSON", 20)
    record = b'{"boxes": [], "labels": []}'
    assert only(tmp_path, sample(txt=b"0123456789 more"))[0].captions == ("0123456789",)
    assert left_out(tmp_path, sample(json=record)) == "its .json cannot be parsed"


def test_classes_have_the_names_of_classes_txt(tmp_path: Path):
    shards = [str(write_tar(tmp_path / "s.tar", sample(cls=b"2")))]
    assert Tar(shards).classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("0\tcat\n1\tn01443537\tgoldfish\n\nnonsense\n2\tfox\n4\tlast one\n")
    assert Tar(shards).classes == ("cat", "goldfish", "fox", "3", "last one")
    write_tar(tmp_path / "plain.tar", sample())
    assert Tar([str(tmp_path / "plain.tar")]).classes == ()


def test_folders_that_number_their_classes_differently_are_refused(tmp_path: Path):
    for name, text in (("a", "0\tcat\n"), ("b", "0\tdog\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "classes.txt").write_text(text)
        write_tar(tmp_path / name / "s.tar", sample(cls=b"0"))
    with pytest.raises(SpecError, match="number their classes differently"):
        open_source(f"tar:{tmp_path}/*/s.tar")
    (tmp_path / "b" / "classes.txt").write_text("0\tcat\n")
    assert open_source(f"tar:{tmp_path}/*/s.tar").classes == ("cat",)


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"\x1f\x8b\x08", "gzip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")],
)
def test_a_compressed_shard_is_refused_with_the_fix(magic: bytes, name: str, tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(magic + bytes(600))
    with pytest.raises(SpecError, match=rf"a\.tar is compressed \({name}\): unpack it"):
        open_source(f"tar:{tmp_path}/a.tar")


@pytest.mark.parametrize("cut", range(0, 4200, 150))
def test_a_cut_shard_keeps_what_is_whole(cut: int, tmp_path: Path):
    """Two samples, picture and class, each a header and a padded block of 512 bytes: 4,096 bytes and the end mark."""
    members = {f"{k}.{e}": data for k in "ab" for e, data in (("png", grey(ord(k))), ("cls", b"1"))}
    path = write_tar(tmp_path / "s.tar", members)
    path.write_bytes(path.read_bytes()[:cut])
    source = Tar([str(path)])
    whole = [at for at in (512 + len(grey(97)), 2048 + 512 + len(grey(98))) if at <= cut]
    assert levels(source) == [97, 98][: len(whole)]
    assert len(source.problems) >= 1
    assert all(name.startswith(str(path)) for name, _ in source.problems)


def test_a_damaged_header_ends_the_shard_and_is_listed(tmp_path: Path):
    path = write_tar(tmp_path / "s.tar", {f"{k}.png": grey(k) for k in range(3)})
    data = bytearray(path.read_bytes())
    data[1024:1030] = b"\xff" * 6
    path.write_bytes(data)
    source = Tar([str(path)])
    assert levels(source) == [0]
    (problem,) = source.problems
    assert "1024" in problem[1]


def test_links_and_devices_in_a_shard_are_passed_over(tmp_path: Path):
    path = write_tar(tmp_path / "s.tar", {"x.png": grey(1), "y.png": grey(2)})
    data = bytearray(path.read_bytes())
    data[1024 + 156 : 1024 + 157] = b"2"
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[1024:1536])
    path.write_bytes(data)
    assert levels(Tar([str(path)])) == [1]


def test_paths_that_lead_out_of_the_shard_are_refused(tmp_path: Path):
    """Nothing is ever unpacked; but such a shard was not made to be trained on."""
    long = "../" * 80 + "e.png"  # in a pax record
    evil = ["../a.png", "/b.png", "x/../../c.png", "x/../d.png", long, "f/.."]
    source = Tar([str(write_tar(tmp_path / "s.tar", {name: grey(1) for name in evil} | {"..g/..h.png": grey(2)}))])
    assert [name.split("s.tar:")[1] for name, _ in source.problems] == evil
    assert {reason for _, reason in source.problems} == {"refused: the path leads out of the shard"}
    assert len(source) == 0


def test_odd_keys_print_on_one_line(tmp_path: Path):
    source = Tar([str(write_tar(tmp_path / "s.tar", {"图 \n像.png": PNG, "x\u202e.txt": b"no picture"}))])
    assert source.name(0).endswith(r":图 \n像")
    assert source.problems[0][0].endswith(r":x\u202e")


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Seven shards of nine samples, each grey by its number."""
    return [str(write_tar(tmp_path / f"{s}.tar", {f"{k}.png": grey(9 * s + k) for k in range(9)})) for s in range(7)]


def test_many_threads_read_the_same_bytes(shards: list[str], monkeypatch: pytest.MonkeyPatch):
    """With fewer shards open than there are, so that files are closed while others read."""
    monkeypatch.setattr(files, "OPEN_FILES", 2)
    source = Tar(shards)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(63), 20)).tolist()
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda i: int(source[i].image[0, 0, 0]), order))
    assert got == order
    assert len(files._open) == 2


def test_no_more_files_stay_open_than_allowed(shards: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "OPEN_FILES", 3)
    """However many sources read them."""
    before = len(os.listdir("/proc/self/fd"))
    sources = [Tar(shards[:4]), Tar(shards[4:]), Tar(shards)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert [level for source in sources for level in levels(source)] == [*range(63), *range(63)]
    assert len(os.listdir("/proc/self/fd")) == before + 3


def test_bad_records_say_what_without_the_name(tmp_path: Path):
    """The name is added by whoever reports, once."""
    source = Tar([str(write_tar(tmp_path / "s.tar", {"x.png": PNG[:40]}))])
    with pytest.raises(BadRecord) as bad:
        source[0]
    assert "s.tar" not in str(bad.value)


def test_shards_pickle_without_their_files(shards: list[str]):
    source = Tar(shards)
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert levels(copy) == levels(source)
    assert (copy.classes, copy.problems, copy.name(1)) == (source.classes, source.problems, source.name(1))


def swap(path: str, parts: dict[str, bytes], how: str) -> None:
    """Another shard in the place of one, its size kept."""
    before = os.stat(path)
    new = write_tar(Path(f"{path}.new"), parts)
    assert new.stat().st_size == before.st_size
    if how == "in place":
        Path(path).write_bytes(new.read_bytes())
    else:
        os.replace(new, path)
    os.utime(path, ns=(0, before.st_mtime_ns + (how != "same time")))


@pytest.mark.parametrize("how", ["in place", "replaced", "same time"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_shard_that_changes_under_a_source_gives_no_picture_for_another_label(how: str, opened: bool, shards):
    source = Tar(shards)
    if opened:
        assert levels(source) == list(range(63))
    swap(shards[3], {f"{k}.png": grey(200 + k) for k in range(9)}, how)
    for i in range(27, 36):
        if opened and how != "in place":  # what was opened is still there
            assert int(source[i].image[0, 0, 0]) == i
            continue
        with pytest.raises(BadRecord, match="the shard has changed since it was indexed"):
            source[i]
    assert int(source[26].image[0, 0, 0]) == 26
    # A source that is opened now reads what is there now, though another has the same path open.
    assert levels(Tar([shards[3]])) == [200 + k for k in range(9)]
    assert levels(pickle.loads(pickle.dumps(Tar(shards))))[27:36] == [200 + k for k in range(9)]


# --- what a .json says ---


def said(path: Path, record: dict, **parts: bytes) -> tuple:
    return only(path, sample(json=json.dumps(record).encode(), **parts))


def test_flags_of_boxes_are_bits(tmp_path: Path):
    two = {"boxes": [[0, 0, 1, 1], [0, 0, 0.5, 1]], "labels": [1, 2]}
    got, problems = said(tmp_path, two | {"iscrowd": [0, 1], "difficult": [True, False], "truncated": [1, 1]})
    assert problems == []
    assert got.objects.flags.tolist() == [DIFFICULT + TRUNCATED, CROWD + TRUNCATED]
    assert got.objects.flags.dtype == np.uint8
    assert said(tmp_path, two)[0].objects.flags is None
    assert said(tmp_path, {"boxes": [], "labels": [], "iscrowd": []})[0].objects.flags.shape == (0,)


@pytest.mark.parametrize("flags", [[0], [0, 2], [0, -1], "01", None, [[0], [1]], [0, None], [0, "1"], [0, 0.5]])
def test_unsound_flags_leave_the_sample_out(flags, tmp_path: Path):
    two = {"boxes": [[0, 0, 1, 1], [0, 0, 0.5, 1]], "labels": [1, 2], "iscrowd": flags, "count": 2}
    assert "its iscrowd is no list" in left_out(tmp_path, sample(json=json.dumps(two).encode()))


def test_captions_of_the_json_where_no_txt_has_any(tmp_path: Path):
    many, one = {"captions": ["a cat ", "", "two\ncats", 7]}, {"caption": " a dog"}
    assert said(tmp_path, many)[0].captions == ("a cat", "two\ncats")
    assert said(tmp_path, one)[0].captions == ("a dog",)
    assert said(tmp_path, one | many)[0].captions == ("a cat", "two\ncats")
    assert said(tmp_path, many, txt=b"a fox")[0].captions == ("a fox",)
    assert said(tmp_path, one, txt=b"")[0].captions == ("a dog",)
    assert said(tmp_path, {"captions": "no list", "caption": ["no string"]})[0].captions == ()


def test_numbers_of_the_json(tmp_path: Path):
    got, problems = said(tmp_path, {"count": 3, "distance": 7, "verb": 12, "noun": 0})
    assert (got.count, got.distance, got.verb, got.noun, problems) == (3, 7.0, 12, 0, [])
    assert said(tmp_path, {"distance": 1.5})[0].distance == 1.5
    clevr = [{"pixel_coords": [10, 20, 9.5]}, {"pixel_coords": [30, 40, 8.25]}]
    assert said(tmp_path, {"objects": clevr, "count": 2})[0].distance == 8.25
    assert said(tmp_path, {"objects": clevr, "distance": 7.0})[0].distance == 7.0
    for other in ([], [{}], [{"pixel_coords": [1, 2]}], 3, [None], [{"pixel_coords": [1, 2, "near"]}]):
        assert np.isnan(said(tmp_path, {"objects": other, "count": 2})[0].distance)


@pytest.mark.parametrize("value", [None, True, [3], {}, -5, 2**31, 10**400, "", "x" * 101])
def test_what_is_no_number_is_unknown(value, tmp_path: Path):
    got, problems = said(tmp_path, {"count": value, "verb": value, "noun": value})
    assert (got.count, got.verb, got.noun, problems) == (-1, -1, -1, [])


@pytest.mark.parametrize("value", [None, True, "1.5", [1.5], 10**400, float("nan"), float("inf"), -float("inf")])
def test_what_is_no_distance_is_unknown(value, tmp_path: Path):
    assert np.isnan(said(tmp_path, {"distance": value, "count": 1})[0].distance)


def test_words_are_numbered_by_their_table(tmp_path: Path):
    (tmp_path / "verbs.txt").write_text("0\tcut\n3\tpour\n")
    members = {f"{k}.{e}": d for k, v in enumerate(["pour", "cut", "sing"]) for e, d in
               (("png", PNG), ("json", json.dumps({"verb": v, "noun": v}).encode()))}  # fmt: skip
    source = Tar([str(write_tar(tmp_path / "s.tar", members))])
    assert source.vocabulary == Vocabulary(verbs=("cut", "1", "2", "pour"), nouns=("cut", "pour", "sing"))
    assert [source[i].verb for i in range(3)] == [3, 0, -1]
    assert [source[i].noun for i in range(3)] == [1, 0, 2]
    assert source.problems == ()
    assert source.notes == ("verbs.txt lacks 1 of the words in the shards, which are unknown: 'sing', ...",)


def test_objects_are_named_by_their_own_table_or_by_the_classes(tmp_path: Path):
    boxes = json.dumps({"boxes": [[0, 0, 1, 1]], "labels": [2]}).encode()
    unclassed = [str(write_tar(tmp_path / "u.tar", sample(json=boxes)))]
    classed = [str(write_tar(tmp_path / "c.tar", sample(json=boxes, cls=b"0")))]
    assert Tar(unclassed).vocabulary.objects == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("0\tcat\n1\tdog\n")
    assert Tar(unclassed).vocabulary.objects == ("cat", "dog", "2")
    assert Tar(classed).vocabulary.objects == ("0", "1", "2")
    (tmp_path / "objects.txt").write_text("2\tear\n")
    for paths in (unclassed, classed):
        assert Tar(paths).vocabulary.objects == ("0", "1", "ear")
    assert (Tar(unclassed).classes, Tar(classed).classes) == ((), ("cat", "dog"))


# --- headers ---


NAME = (
    st.text(st.characters(exclude_characters="\0\n", codec="utf-8"), min_size=1, max_size=12)
    .map(lambda s: s.strip("/"))
    .filter(bool)
)
KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
MEMBER = st.tuples(st.lists(NAME, min_size=1, max_size=30).map("/".join), st.sampled_from(KINDS), st.integers(0, 1500))
FORMATS = [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]


def archive(path: Path, contents: list[tuple[str, bytes, int]], form: int) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for name, kind, size in contents:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, size if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
            member.linkname = "elsewhere" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            try:
                tar.addfile(member, io.BytesIO(b"x" * size))
            except ValueError:  # too long a name for ustar
                assert form == tarfile.USTAR_FORMAT


def walk(path: Path) -> tuple[list[tuple[str, int, int]], str]:
    """Members, and how the shard is damaged."""
    found = []
    try:
        found.extend(map(tuple, members(File(str(path)))))
    except Damaged as damage:
        return found, str(damage)
    return found, ""


@settings(deadline=None)
@given(st.lists(MEMBER, max_size=5), st.sampled_from(FORMATS))
def test_headers_say_what_tarfile_reads(tmp_path_factory: pytest.TempPathFactory, contents, form):
    path = tmp_path_factory.getbasetemp() / "headers.tar"
    archive(path, contents, form)
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
        want = [(each.name, each.offset_data, each.size) for each in tar if each.isreg()]
    found, damage = walk(path)
    assert [(name.rstrip("/"), at, size) for name, at, size in found] == want
    assert damage == ""


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_takes_nothing_of_what_was_before_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damage.tar"
    names = ["a.png", "b" * 150 + ".png", "d/ü.png"]
    archive(path, [(name, tarfile.REGTYPE, 600) for name in names], data.draw(st.sampled_from(FORMATS)))
    whole, _ = walk(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + 3] = data.draw(st.binary(min_size=3, max_size=3))
    cut = data.draw(st.sampled_from([len(content), place]))
    path.write_bytes(content[:cut])
    found, damage = walk(path)
    before = [member for member in whole if member[1] + member[2] <= place]
    assert found[: len(before)] == before
    assert damage.isprintable()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_of_more_than_four_gigabytes(form: int, tmp_path: Path):
    """Its size is in binary (GNU) or in a pax record; what follows it is read."""
    path, size = tmp_path / "s.tar", 9 * 2**30
    big = tarfile.TarInfo("big.jpg")
    big.size = size
    with open(path, "wb") as file:
        file.write(big.tobuf(form))
        file.seek(size, os.SEEK_CUR)
        file.write(write_tar(tmp_path / "rest.tar", {"small.png": grey(4)}).read_bytes())
    source = Tar([str(path)])
    assert levels(source) == [4]
    assert source.problems == ((f"{path}:big", f"{size} bytes, more than any picture we read has"),)


def header(name: str, size: int, changes: dict[int, bytes], signed: bool = False) -> bytes:
    """Of a regular file in GNU's format, some bytes changed and the sum made anew."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[148:156] = b"%011o\0" % size, b" " * 8
    for place, data in changes.items():
        block[place : place + len(data)] = data
    block[148:156] = b"%06o\0 " % (sum(block) - (256 * sum(byte > 127 for byte in block) if signed else 0))
    return bytes(block)


def test_what_other_programs_write(tmp_path: Path):
    """Sums over signed bytes; and GNU's times where ustar has the beginning of a long name."""
    picture = grey(4) + bytes(-len(grey(4)) % 512)
    signed = header("ü.png", len(grey(4)), {}, signed=True)
    times = header("a.png", len(grey(4)), {345: b"14000000000\0"})
    (tmp_path / "s.tar").write_bytes(signed + picture + times + picture + bytes(1024))
    source = Tar([str(tmp_path / "s.tar")])
    assert [source.name(i).split("s.tar:")[1] for i in range(2)] == ["ü", "a"]
    assert (levels(source), source.problems) == ([4, 4], ())


def test_the_map_of_a_sparse_file_is_no_header(tmp_path: Path):
    """GNU's own: the header says that a block of map follows, and does not count it as data."""
    sparse = header("hole.png", 512, {156: b"S", 482: b"\1"})
    rest = write_tar(tmp_path / "rest.tar", {"a.png": grey(4)}).read_bytes()
    (tmp_path / "s.tar").write_bytes(sparse + bytes(512) + b"D" * 512 + rest)
    source = Tar([str(tmp_path / "s.tar")])
    assert (levels(source), source.problems) == ([4], ())


def test_a_name_of_gigabytes_is_not_read(tmp_path: Path):
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = b"L", 2**33
    (tmp_path / "s.tar").write_bytes(name.tobuf(tarfile.GNU_FORMAT))
    assert walk(tmp_path / "s.tar") == (
        [],
        "damaged from byte 0 on (a member's name is too long); the rest of its 512 bytes is left out",
    )


# --- the index ---


def same(one: Shard, other: Shard) -> bool:
    return (
        np.array_equal(one.rows, other.rows)
        and np.array_equal(one.ends, other.ends)
        and (one.keys, one.problems, one.said) == (other.keys, other.problems, other.said)
    )


def fresh(path: str | Path) -> Shard:
    return read_shard(File(str(path)))


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """A shard with every kind of part, odd keys and things wrong with it."""
    boxes = {"boxes": [[0, 0, 1, 1]], "labels": [3], "verb": "pour", "noun": 5}
    parts = {"a.png": grey(1), "a.cls": b"2", "a.txt": b"one\ntwo", "a.json": json.dumps(boxes).encode()}
    return write_tar(
        tmp_path / "s.tar", parts | {"图 \n.png": grey(2), "\udcff.png": grey(3), "x.txt": b"", "../y.png": PNG}
    )


def beside(path: Path) -> Path:
    return path.parent / f".{path.name}.abx-index"


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: File) -> Shard:
        raise AssertionError("the shard was indexed again")

    monkeypatch.setattr(index_files, "read_shard", refuse)


def test_a_shard_is_indexed_once(varied: Path, monkeypatch: pytest.MonkeyPatch):
    first = Tar([str(varied)])
    assert beside(varied).is_file()
    no_reading(monkeypatch)
    again = Tar([str(varied)])
    assert same(index_files.kept(str(varied)).shard, fresh(varied))
    assert fresh(varied).said == Said(3, -1, 5, ("pour",), ())
    assert (again.problems, again.classes, again.vocabulary) == (first.problems, first.classes, first.vocabulary)
    assert [again.name(i) for i in range(3)] == [first.name(i) for i in range(3)]
    assert levels(again) == levels(first) == [1, 2, 3]
    assert len(again.problems) == 2


def test_the_index_is_hidden_from_folders_and_globs(varied: Path):
    Tar([str(varied)])
    (varied.parent / "a.png").write_bytes(PNG)
    assert len(Folder(str(varied.parent))) == 1
    assert len(open_source(f"tar:{varied.parent}/*")) == 3


@pytest.mark.parametrize("change", ["longer", "later", "alike"])
def test_a_shard_that_changed_is_indexed_again(change: str, varied: Path):
    """Also where its size and time are the same: sizes are filled up to 10 KiB, and rsync and tar set times."""
    assert len(Tar([str(varied)])) == 3
    before = os.stat(varied)
    write_tar(varied, {"new.png": grey(9)} if change == "longer" else {f"{k}.png": grey(k) for k in range(4)})
    os.truncate(varied, before.st_size + 10240 * (change == "longer"))
    os.utime(varied, ns=(0, before.st_mtime_ns + (change == "later")))
    assert (os.stat(varied).st_size == before.st_size) == (change != "longer")
    assert levels(Tar([str(varied)])) == ([9] if change == "longer" else [0, 1, 2, 3])
    assert same(index_files.kept(str(varied)).shard, fresh(varied))


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_change_in_the_first_or_the_last_sample_is_seen(where: str, tmp_path: Path):
    """In a large shard too, of which little is read to tell."""
    parts = {"a.png": grey(1), "b.png": bytes(10**6), "c.png": grey(3)}
    path = write_tar(tmp_path / "s.tar", parts)
    before = File(str(path)).stamp()
    write_tar(path, parts | ({"a.png": grey(2)} if where == "first" else {"c.png": grey(2)}))
    os.utime(path, ns=(0, before.time))
    after = File(str(path)).stamp()
    assert after[:2] == before[:2]
    assert after != before


def test_an_index_goes_with_a_copy_of_its_shard(varied: Path, monkeypatch: pytest.MonkeyPatch):
    Tar([str(varied)])
    copy = shutil.copytree(varied.parent, varied.parent.parent / f"{varied.parent.name}-copy")
    no_reading(monkeypatch)
    assert levels(Tar([str(copy / varied.name)])) == [1, 2, 3]


def test_the_keys_are_in_memory_once(tmp_path: Path):
    path = str(write_tar(tmp_path / "s.tar", {f"{k:050d}.png": b"1" for k in range(1000)}))
    index_files.make(path)
    tracemalloc.start()
    kept = index_files.kept(path)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept.shard.rows) == 1000
    assert size < 1000 * (44 + 50) + 10_000


def test_an_index_of_another_version_is_made_again(varied: Path, monkeypatch: pytest.MonkeyPatch):
    Tar([str(varied)])
    monkeypatch.setattr(index_files, "VERSION", index_files.VERSION + 1)
    assert index_files.kept(str(varied)) is None
    assert len(Tar([str(varied)])) == 3
    assert index_files.kept(str(varied)) is not None


def test_that_there_is_nothing_in_a_shard_is_kept_too(tmp_path: Path):
    for parts in ({}, {"x.txt": b"no picture"}):
        path = write_tar(tmp_path / f"{len(parts)}.tar", parts)
        made, _ = index_files.make(str(path))
        assert same(index_files.kept(str(path)).shard, made.shard)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_index_is_made_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = write_tar(tmp_path_factory.getbasetemp() / "index.tar", {"a.png": grey(1), "b.png": grey(2), "c.txt": b""})
    index_files.make(str(path))
    content = bytearray(beside(path).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    beside(path).write_bytes(data.draw(st.sampled_from([content, content[:place], content + b"x"])))
    assert index_files.kept(str(path)) is None
    assert same(index_files.indexed(str(path)).shard, fresh(path))
    assert index_files.kept(str(path)) is not None


def forge(path: Path, **changes) -> None:
    """An index whose checksum is right, and what it says is not."""
    beside(path).write_bytes(index_files._pack(Index(fresh(path)._replace(**changes), File(str(path)).stamp())))


def test_an_index_that_says_nonsense_is_made_again(varied: Path):
    good = fresh(varied)
    far, wide, negative, large = (good.rows.copy() for _ in range(4))
    far["image_at"][1], wide["json_size"][0] = 2**60, 2**31
    negative["label"][0], large["label"][0] = -2, 10**6
    for changes in (
        *({"rows": rows} for rows in (far, wide, negative, large)),
        {"rows": good.rows[:1]},
        {"ends": good.ends[[1, 0, 2]]},
        {"ends": good.ends + 1},
        {"keys": good.keys[:-1]},
        {"problems": (("a",),)},
        {"problems": 3},
        {"said": Said(verbs=10**6)},
        {"said": Said(objects="x")},
        {"said": ()},
    ):
        forge(varied, **changes)
        assert index_files.kept(str(varied)) is None, changes
        assert levels(Tar([str(varied)])) == [1, 2, 3]
    forge(varied)
    assert index_files.kept(str(varied)) is not None


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b"7", b"{}", b"[" * 100_000, b"\xff", b'{"version": 3, "shard": 1}']
)
def test_an_index_with_a_foreign_header_is_made_again(header: bytes, varied: Path):
    rest = struct.pack("<I", len(header)) + header
    beside(varied).write_bytes(b"abx-index" + struct.pack("<I", zlib.crc32(rest)) + rest)
    assert levels(Tar([str(varied)])) == [1, 2, 3]
    assert same(index_files.kept(str(varied)).shard, fresh(varied))


def test_an_index_too_large_for_its_shard_is_not_read(varied: Path):
    beside(varied).touch()
    os.truncate(beside(varied), 2**40)
    assert len(Tar([str(varied)])) == 3
    assert os.path.getsize(beside(varied)) < 4096


@pytest.mark.parametrize("obstacle", ["folder", "pipe", "read-only"])
def test_where_nothing_can_be_written_beside_the_shard_the_index_is_cached(
    obstacle: str, varied: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    if obstacle == "folder":
        (beside(varied) / "full").mkdir(parents=True)
    elif obstacle == "pipe":  # which is not waited for, and is replaced
        os.mkfifo(beside(varied))
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        varied.parent.chmod(0o500)
    try:
        first = Tar([str(varied)])
        assert (len(list(cache.glob("*"))) == 1) == (obstacle != "pipe")
        no_reading(monkeypatch)
        assert levels(Tar([str(varied)])) == levels(first)
    finally:
        varied.parent.chmod(0o700)


def test_without_any_place_for_an_index_shards_open(varied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ABX_CACHE", "/dev/null/cache")
    beside(varied).mkdir()
    for _ in range(2):
        assert levels(Tar([str(varied)])) == [1, 2, 3]
    assert index_files.make(str(varied))[1] is False
    assert sorted(p.name for p in varied.parent.iterdir()) == [beside(varied).name, varied.name]


def test_the_cache_tells_shards_of_one_name_apart(tmp_path: Path, cache: Path):
    paths = []
    for level, folder in enumerate("ab"):
        (tmp_path / folder / ".s.tar.abx-index").mkdir(parents=True)
        paths.append(str(write_tar(tmp_path / folder / "s.tar", {"x.png": grey(level)})))
    for _ in range(2):
        assert levels(Tar(paths)) == [0, 1]
    assert len(list(cache.iterdir())) == 2


def test_many_may_index_a_shard_at_once(varied: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: index_files.make(str(varied)), range(40)))
    assert all(kept for _, kept in made)
    assert same(index_files.kept(str(varied)).shard, fresh(varied))
    assert sorted(p.name for p in varied.parent.iterdir()) == [beside(varied).name, varied.name]


def test_a_shard_that_is_being_written_is_not_remembered(varied: Path, monkeypatch: pytest.MonkeyPatch):
    def slow(file: File) -> Shard:
        shard = read_shard(file)
        with open(varied, "ab") as growing:
            growing.write(bytes(512))
        return shard

    monkeypatch.setattr(index_files, "read_shard", slow)
    assert index_files.make(str(varied))[1] is False
    assert not beside(varied).exists()


def test_a_shard_that_is_gone_is_listed_though_it_has_an_index(varied: Path):
    Tar([str(varied)])
    varied.unlink()
    assert Tar([str(varied)]).problems == ((str(varied), "cannot be read: No such file or directory"),)


def test_a_sample_takes_less_than_a_hundred_bytes(tmp_path: Path):
    members = {f"{k:012d}.{e}": b"1" for k in range(2000) for e in ("jpg", "txt", "cls")}
    source = Tar([str(write_tar(tmp_path / "s.tar", members))])
    assert len(pickle.dumps(source)) / len(source) < 44 + 12 + 2


@pytest.mark.parametrize("workers", [1, 2])
def test_build_indexes_what_has_no_index(workers: int, shards: list[str], tmp_path: Path, monkeypatch):
    Path(shards[3]).unlink()
    index_files.make(shards[0])
    steps: list[Built] = []
    built = build(shards, workers, steps.append)
    assert built == Built(shards=7, made=5, unreadable=1, samples=54, problems=1)
    assert len(steps) == 7
    assert steps[-1] == built
    no_reading(monkeypatch)
    assert len(Tar(shards)) == 54
    assert build(shards, 1, steps.append).made == 0


def test_a_compressed_shard_among_others_is_left_out(shards: list[str]):
    Path(shards[3]).write_bytes(b"\x1f\x8b\x08" + bytes(600))
    for workers in (1, 2):
        built = build(shards, workers, lambda built: None)
        assert (built.samples, built.unreadable, built.problems) == (54, 1, 1)
    source = Tar(shards)
    assert levels(source) == [*range(27), *range(36, 63)]
    assert source.problems == ((shards[3], "compressed (gzip): unpack it"),)
    for path in shards[1:]:
        Path(path).write_bytes(b"BZh9" + bytes(600))
    with pytest.raises(
        SpecError, match=r"1\.tar is compressed \(bzip2\), and so are the 5 other .* prepare webdataset"
    ):
        Tar(shards[1:])
    assert len(Tar(shards)) == 9


def test_the_end_of_the_interpreter_is_silent(shards: list[str]):
    script = "import sys; from abx.data.schemes.tar import Tar; source = Tar(sys.argv[1:]); source[0]; keep = source"
    done = subprocess.run([sys.executable, "-X", "dev", "-c", script, *shards], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
