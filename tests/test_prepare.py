"""From a data set to shards: what is written, that it is the same however often it was stopped, and what is said."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tyro
from pictures import encoded, smooth, write_tar
from PIL import Image

from abx.cli.data.prepare import Prepare
from abx.data.images import BadImage, decode
from abx.data.prepare.base import LayoutError, Published, Split
from abx.data.prepare.manifest import Manifest
from abx.data.prepare.pictures import kept
from abx.data.prepare.published import any as any_data
from abx.data.prepare.published import webdataset
from abx.data.prepare.shard import PARTS, PrepareError
from abx.data.prepare.write import prepare
from abx.data.schemes.folder import Folder
from abx.data.sources import BadRecord
from abx.data.specs import open_source
from abx.types import CROWD, Objects, Record, Vocabulary

MISSING = "missing or empty, or it could not be read"
ZOO = Path(__file__).parents[2] / "shared" / "zoo" / "zoo.tar"


@dataclass(frozen=True)
class Made:
    """Records kept in memory, one of which may not be readable."""

    name: str
    records: tuple[tuple[str, Record], ...]
    error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        yield from self.records
        if self.error:
            raise self.error


def jpeg(level: int) -> bytes:
    return encoded(np.full((6, 9, 3), level, np.uint8))


def unit(number: int, *extra: tuple[str, Record], error: Exception | None = None) -> Made:
    records = [(f"{number}/{k}", Record(jpeg(10 * number + k), label=k)) for k in range(3)]
    return Made(f"unit {number}", (*records, *extra), error)


def published(*units: Made, expected: int | None = None) -> Published:
    return Published((Split("train", units, expected),), ("a", "b", "c"), Vocabulary(("ear",)), "ask first")


class Shelf:
    """A unit of which some pictures cannot be read, until they can."""

    name = "shelf"

    def __init__(self, *pictures: bytes) -> None:
        self.pictures, self.error, self.reads = pictures, None, 0

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        self.reads += 1
        if self.error:
            raise self.error
        return iter([(str(k), Record(data, k)) for k, data in enumerate(self.pictures)])


FOUR = published(*map(unit, range(4)), expected=12)


def write(data: Published, out: Path, *, source: str = "there", short_side: int = 256, workers: int = 1, **options):
    settings = {"name": "made", "quality": 95, **options}
    return prepare(data, out, source=source, short_side=short_side, workers=workers, **settings)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def source_of(out: Path, split: str = "train"):
    return open_source(f"arrayrecord:{out}/{split}-*.arrayrecord")


# --- pictures ---


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_a_picture_that_is_small_enough_keeps_its_bytes(form: str):
    data = encoded(smooth(20, 30), form)
    assert kept(data, 20, 95) is data
    assert kept(data, 0, 95) is data
    assert kept(data, 19, 95) != data


@pytest.mark.parametrize(
    ("height", "width", "short_side", "want"),
    [(40, 60, 20, (20, 30)), (60, 40, 20, (30, 20)), (41, 61, 20, (20, 30)), (21, 4000, 20, (20, 3810))],
)
def test_the_short_side_is_shrunk_and_proportions_stay(height: int, width: int, short_side: int, want: tuple[int, int]):
    got = decode(kept(encoded(smooth(height, width), "PNG"), short_side, 95))
    assert got.shape[:2] == want
    assert np.abs(got.astype(int) - smooth(*want)).mean() < 3


def test_shrinking_does_not_alias():
    checks = np.repeat((np.indices((90, 90)).sum(0) % 2 * 255)[..., None], 3, -1).astype(np.uint8)
    got = decode(kept(encoded(checks, "PNG"), 30, 95))
    assert np.abs(got[2:-2, 2:-2].astype(int) - 127).max() < 8


def test_a_turned_picture_is_turned_upright():
    tags = Image.Exif()
    tags[0x0112] = 6
    data = encoded(np.ascontiguousarray(np.rot90(smooth())), exif=tags)
    for short_side in (0, 20):
        made = kept(data, short_side, 95)
        with Image.open(BytesIO(made)) as image:
            assert (image.format, image.getexif().get(0x0112)) == ("JPEG", None)
        got = decode(made)
        assert got.shape[0] < got.shape[1]
        assert np.abs(got.astype(int) - smooth(*got.shape[:2])).mean() < 3


def test_what_is_encoded_has_full_colour_and_the_chosen_quality():
    data = encoded(smooth(50, 70), "PNG")
    with Image.open(BytesIO(kept(data, 20, 95))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    assert len(kept(data, 20, 95)) > len(kept(data, 20, 30))


def test_pixels_are_kept_without_loss():
    assert np.array_equal(decode(kept(smooth(), 256, 95)), smooth())
    assert decode(kept(smooth(), 24, 95)).shape == (24, 32, 3)


def test_what_no_jpeg_can_hold_is_no_jpeg():
    tags = Image.Exif()
    tags[0x0112] = 6
    assert decode(kept(encoded(smooth(1, 66_000), "PNG", exif=tags), 0, 95)).shape == (66_000, 1, 3)


def test_a_bad_picture_has_its_reason():
    for data in (b"", jpeg(0)[:-40], b"text"):
        with pytest.raises(BadImage):
            kept(data, 256, 95)


# --- shards ---


def test_all_that_is_known_arrives(tmp_path: Path):
    objects = Objects(np.array([[0, 0.25, 0.5, 1]], np.float32), np.array([0]), np.array([CROWD], np.uint8))
    full = Record(encoded(smooth(60, 80)), 2, ("one", "two"), objects, 4, 1.5, 6, 7)
    manifest = write(published(Made("all", (("k", full), ("j", Record(jpeg(3)))))), tmp_path, short_side=30)
    source = source_of(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert source.vocabulary == Vocabulary(("ear",), tuple(map(str, range(7))), tuple(map(str, range(8))))
    got = source[0]
    assert got.image.shape == (30, 40, 3)
    assert (got.label, got.captions, got.count, got.distance, got.verb, got.noun) == (2, ("one", "two"), 4, 1.5, 6, 7)
    for a, b in zip(got.objects, objects, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (source[1].label, source[1].captions, source[1].objects) == (-1, (), None)
    assert source.name(0) == f"{tmp_path}/train-00000-of-00001.arrayrecord:k"
    assert manifest.splits["train"].pictures == 2


def test_the_manifest_says_what_was_done(tmp_path: Path):
    bad = [(f"bad/{k}\n", Record(b"")) for k in range(120)]
    write(published(unit(0), unit(1, *bad, ("half", Record(jpeg(1)[:-30]))), expected=999), tmp_path)
    said = json.loads((tmp_path / "manifest.json").read_text())
    train = said["splits"].pop("train")
    assert said == {
        "version": 2,
        "name": "made",
        "source": "there",
        "licence": "ask first",
        "short_side": 256,
        "quality": 95,
        "classes": ["a", "b", "c"],
        "vocabulary": {"objects": ["ear"], "verbs": [], "nouns": []},
        "splits": {},
    }
    assert (train["pictures"], train["expected"], train["complete"], train["failed"]) == (6, 999, False, [])
    assert train["rejected"]["count"] == 121
    assert train["rejected"]["first"] == [[f"bad/{k}\\n", MISSING] for k in range(100)]
    for k, shard in enumerate(train["shards"]):
        path = tmp_path / f"train-0000{k}-of-00002.arrayrecord"
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert shard == {"file": path.name, "records": 3, "bytes": path.stat().st_size, "sha256": digest}


def test_a_whole_data_set_is_complete(tmp_path: Path):
    assert write(FOUR, tmp_path / "a").splits["train"].complete
    assert (
        write(
            published(
                unit(0),
            ),
            tmp_path / "b",
        )
        .splits["train"]
        .complete
    )
    assert not write(published(unit(0), expected=4), tmp_path / "c").splits["train"].complete


def test_stopped_half_way_the_result_is_the_same(tmp_path: Path):
    write(FOUR, tmp_path / "whole")
    out = tmp_path / "stopped"
    third = replace(unit(2), error=RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        write(published(unit(0), unit(1), third, unit(3), expected=12), out)
    first = {path: path.stat().st_mtime_ns for path in out.glob("*.arrayrecord")}
    assert [path.name[:11] for path in sorted(first)] == ["train-00000", "train-00001"]
    assert not (out / "manifest.json").exists()
    write(FOUR, out)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert files(out) == files(tmp_path / "whole")
    assert [path.name for path in (out / PARTS).iterdir() if path.suffix == ".tmp"] == []


def test_a_unit_that_is_done_is_not_read_again(tmp_path: Path):
    write(FOUR, tmp_path)
    before = files(tmp_path)
    unreadable = [Made(f"unit {k}", (), RuntimeError("read")) for k in range(4)]
    write(published(*unreadable, expected=12), tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("harm", ["gone", "longer", "changed", "no part", "part of nothing"])
def test_a_shard_that_is_not_what_was_written_is_written_again(harm: str, tmp_path: Path):
    write(FOUR, tmp_path)
    before = files(tmp_path)
    shard, part = tmp_path / "train-00001-of-00004.arrayrecord", tmp_path / PARTS / "train-00001-of-00004.json"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "gone": shard.unlink,
        "longer": lambda: shard.write_bytes(shard.read_bytes() + b"x"),
        "changed": lambda: shard.write_bytes(data),
        "no part": part.unlink,
        "part of nothing": lambda: part.write_text("[]"),
    }[harm]()
    write(FOUR, tmp_path)
    assert files(tmp_path) == before


def test_a_damaged_shard_goes_if_its_unit_is_gone(tmp_path: Path):
    write(published(unit(0), unit(1)), tmp_path)
    shard = tmp_path / "train-00001-of-00002.arrayrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    train = write(published(unit(0), unit(1, error=OSError("gone"))), tmp_path).splits["train"]
    assert (train.pictures, train.failed) == (3, (("unit 1", "gone"),))
    assert not shard.exists()


def test_retry_reads_again_what_was_rejected_and_nothing_else(tmp_path: Path):
    whole, broken = Shelf(jpeg(0)), Shelf(jpeg(1), b"")
    data = Published((Split("train", (whole, broken)),))
    write(data, tmp_path / "a")
    broken.pictures = (jpeg(1), jpeg(2))
    assert write(data, tmp_path / "a").splits["train"].rejected == 1
    train = write(data, tmp_path / "a", retry=True).splits["train"]
    assert (train.pictures, train.rejected, whole.reads, broken.reads) == (3, 0, 1, 2)
    write(data, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_retry_loses_nothing_where_the_unit_is_gone(tmp_path: Path):
    broken = Shelf(jpeg(1), b"")
    data = Published((Split("train", (broken,)),))
    write(data, tmp_path)
    before = files(tmp_path)
    broken.error = OSError("gone")
    write(data, tmp_path, retry=True)
    assert files(tmp_path) == before


def test_two_runs_and_any_number_of_workers_give_the_same_bytes(tmp_path: Path):
    data = published(*[unit(k, ("bad", Record(b"x"))) for k in range(5)])
    seen: list[tuple[int, int]] = []
    for name, workers in (("a", 1), ("b", 1), ("c", 2)):
        write(data, tmp_path / name, workers=workers, progress=lambda pictures, shards: seen.append((pictures, shards)))
        assert seen[-1] == (20, 5)
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")
    assert len(files(tmp_path / "a")) == 6


def test_an_error_in_a_worker_ends_all_and_keeps_what_is_whole(tmp_path: Path):
    data = published(unit(0), replace(unit(1), error=RuntimeError("power cut")), *map(unit, range(2, 5)))
    with pytest.raises(RuntimeError, match="power cut"):
        write(data, tmp_path, workers=2)
    left = {name: data for name, data in files(tmp_path).items() if name.endswith(".arrayrecord")}
    assert "train-00001-of-00005.arrayrecord" not in left
    write(published(*map(unit, range(5))), tmp_path)
    assert left.items() <= files(tmp_path).items()


@dataclass(frozen=True)
class Dying(Made):
    def __iter__(self) -> Iterator[tuple[str, Record]]:
        os._exit(1)


def test_a_worker_that_dies_is_one_sentence(tmp_path: Path):
    with pytest.raises(PrepareError, match=r"a worker process died.*fewer --workers goes on"):
        write(published(unit(0), Dying("unit 1", ())), tmp_path, workers=2)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "it is gone"), LayoutError("it is gone")])
def test_a_unit_that_cannot_be_read_is_named_and_tried_again(error: Exception, tmp_path: Path):
    write(FOUR, tmp_path / "whole")
    out = tmp_path / "half"
    lost = replace(unit(2), error=error)
    train = write(published(unit(0), unit(1), lost, unit(3), expected=12), out).splits["train"]
    assert (train.pictures, train.failed, train.complete) == (9, (("unit 2", "it is gone"),), False)
    assert len(source_of(out)) == 9
    write(FOUR, out)
    assert files(out) == files(tmp_path / "whole")


def test_when_all_is_bad_it_says_so(tmp_path: Path):
    bad = Made("u", (("k", Record(b"")), ("l", Record(b"text"))))
    with pytest.raises(
        PrepareError, match="none of the 2 pictures of there could be used; the first: k: missing or empty"
    ):
        write(published(bad), tmp_path / "a")
    with pytest.raises(PrepareError, match="no pictures of there could be used; the first: unit 1: gone"):
        write(published(unit(1, error=OSError("gone"))), tmp_path / "b")


def test_keys_never_touch_the_file_system(tmp_path: Path):
    keys = ["../../evil", "/abs/evil", "a\0b", "a\nb", "bad\udcff", "", "k" * 4096, "same", "same"]
    out = tmp_path / "in" / "out"
    write(published(Made("../../unit", tuple((key, Record(jpeg(k))) for k, key in enumerate(keys)))), out)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and PARTS not in path.parts) == [
        "manifest.json",
        "train-00000-of-00001.arrayrecord",
    ]
    source = source_of(out)
    assert [int(source[i].image[0, 0, 0]) for i in range(len(keys))] == list(range(len(keys)))
    assert all(source.name(i).isprintable() for i in range(len(keys)))


def test_unsound_annotations_cost_one_picture(tmp_path: Path):
    wrong = Objects(np.array([[0, 0, 2, 2]], np.float32), np.array([0]))
    train = write(published(unit(0, ("wrong", Record(jpeg(0), objects=wrong)))), tmp_path).splits["train"]
    assert (train.pictures, train.rejected, [name for name, _ in train.reasons]) == (3, 1, ["wrong"])


# --- the folder ---


def test_other_settings_are_refused(tmp_path: Path):
    write(FOUR, tmp_path)
    before = files(tmp_path)
    for change, said in {
        ("source", "here"): "--src there",
        ("short_side", 5): "--short-side 256",
        ("quality", 90): "--quality 95",
        ("name", "other"): "data set made",
    }.items():
        with pytest.raises(PrepareError, match=f"was prepared with {said}: give another --out, or --restart"):
            write(FOUR, tmp_path, **dict([change]))
    with pytest.raises(PrepareError, match="other files in train"):
        write(published(unit(0), unit(9)), tmp_path)
    with pytest.raises(PrepareError, match="other names of classes"):
        write(FOUR._replace(classes=("b", "a")), tmp_path)
    assert files(tmp_path) == before


def test_restart_begins_again_and_removes_nothing_else(tmp_path: Path):
    (tmp_path / "train-00000-of-00009.arrayrecord.txt").write_text("mine")
    write(FOUR, tmp_path)
    write(published(unit(7)), tmp_path, short_side=5, restart=True)
    assert sorted(files(tmp_path)) == [
        "manifest.json",
        "train-00000-of-00001.arrayrecord",
        "train-00000-of-00009.arrayrecord.txt",
    ]
    assert source_of(tmp_path)[0].image.shape == (5, 8, 3)


def test_splits_can_be_prepared_one_by_one(tmp_path: Path):
    both = Published((Split("train", [unit(0)]), Split("val", [unit(1), unit(2)])))
    write(both, tmp_path / "both")
    for name in ("val", "train"):
        write(both, tmp_path / "each", splits=(name,))
    assert files(tmp_path / "both") == files(tmp_path / "each")
    with pytest.raises(PrepareError, match="there is no split test; there are train, val"):
        write(both, tmp_path / "each", splits=("test",))


def test_what_is_not_ours_is_left_alone(tmp_path: Path):
    (tmp_path / "train-00000-of-00004.arrayrecord").write_text("not ours")
    with pytest.raises(PrepareError, match="holds shards that were not prepared there"):
        write(FOUR, tmp_path)
    assert (tmp_path / "train-00000-of-00004.arrayrecord").read_text() == "not ours"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrepareError, match="file/out cannot be written: Not a directory"):
        write(FOUR, tmp_path / "file" / "out")


def test_a_lock_that_leads_elsewhere_is_not_written_through(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out" / PARTS).mkdir(parents=True)
    lock = tmp_path / "out" / PARTS / "lock"
    for target in (tmp_path / "mine", tmp_path / "nowhere"):
        lock.symlink_to(target)
        with pytest.raises(PrepareError, match=r"\.parts/lock is a link, and has to be a file: remove it"):
            write(FOUR, tmp_path / "out")
        lock.unlink()
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    lock.write_text("what is in it stays")
    write(FOUR, tmp_path / "out")
    assert lock.read_text() == "what is in it stays"


def test_two_at_once_are_refused(tmp_path: Path):
    @dataclass(frozen=True)
    class Nested(Made):
        def __iter__(self) -> Iterator[tuple[str, Record]]:
            with pytest.raises(PrepareError, match="is being written by another process"):
                write(FOUR, tmp_path)
            yield from self.records

    assert write(published(Nested("u", unit(0).records)), tmp_path).splits["train"].pictures == 3


# --- any data string, and the command ---


def run(capsys: pytest.CaptureFixture[str], **flags) -> tuple[int, str, str]:
    code = 0
    try:
        Prepare(**flags)()
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_becomes_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    src, out = tmp_path / "pictures", tmp_path / "out"
    for k, name in enumerate(["cat/1.jpg", "cat/2.jpg", "dog/3.jpg"]):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_bytes(jpeg(k))
    (src / "dog" / "cut.jpg").write_bytes(jpeg(9)[:-50])
    code, said, err = run(capsys, name="any", src=f"folder:{src}", out=out, workers=1, json=True)
    assert (code, err) == (0, "")
    assert "all: 3 pictures in 1 shards\n  1 could not be used:\n    dog/cut.jpg: " in said
    assert "What could not be used is tried again by the same command with --retry.\n" in said
    assert f"data: arrayrecord:{out}/all-*.arrayrecord" in said
    last = json.loads(said.splitlines()[-1])
    assert last == {"out": str(out), "splits": {"all": {"records": 3, "rejected": 1, "expected": 4, "complete": True}}}
    source = source_of(out, "all")
    assert source.classes == ("cat", "dog")
    assert [(source.name(i).partition(":")[2], source[i].label) for i in range(3)] == [
        ("cat/1.jpg", 0),
        ("cat/2.jpg", 0),
        ("dog/3.jpg", 1),
    ]
    assert source.stored(0).image == jpeg(0)
    (src / "dog" / "cut.jpg").write_bytes(jpeg(9))
    code, said, err = run(capsys, name="any", src=f"folder:{src}", out=out, workers=1, retry=True)
    assert (code, err) == (0, "")
    assert "all: 4 pictures in 1 shards\n  data: " in said
    assert "--retry" not in said


def test_any_is_made_of_units_of_two_thousand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = any_data.find("scenes:test")
    assert [len(split.units) for split in found.splits] == [5]
    assert len({unit.name for unit in found.splits[0].units}) == 5
    monkeypatch.setattr(any_data, "UNIT", 2)
    write_tar(tmp_path / "s.tar", {"3.txt": b"three"} | {f"{k}.jpg": jpeg(k) for k in (3, 0, 1, 2, 4)})
    found = any_data.find(f"tar:{tmp_path}/*.tar")
    assert [[key for key, _ in unit] for unit in found.splits[0].units] == [
        ["s.tar:3", "s.tar:0"],
        ["s.tar:1", "s.tar:2"],
        ["s.tar:4"],
    ]
    write(found, tmp_path / "out")
    source = source_of(tmp_path / "out", "all")
    assert [source[i].captions for i in range(5)] == [("three",), (), (), (), ()]
    again = any_data.find(f"arrayrecord:{tmp_path}/out/*.arrayrecord")
    write(again, tmp_path / "again")
    copy = source_of(tmp_path / "again", "all")
    assert [copy.stored(i) for i in range(5)] == [source.stored(i) for i in range(5)]


def test_data_that_changes_under_way_is_not_mixed_up(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    (unit,) = any_data.find(f"folder:{tmp_path}").splits[0].units
    (tmp_path / "b.jpg").write_bytes(jpeg(1))
    any_data._opened.cache_clear()
    with pytest.raises(OSError, match="had 1 records, and now has 2"):
        list(unit)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"name": "anny"}, "there is no data set 'anny': did you mean any? There are any"),
        ({"name": "zzz"}, "there is no data set 'zzz': there are any"),
        ({"src": "folder:HERE/none"}, "folder:HERE/none does not exist"),
        ({"out": None}, "--out is missing"),
        ({"src": ""}, "--src is missing: where the data lies; abx data prepare any says how"),
        ({"short_side": -1}, "--short-side must be at least 0"),
        ({"quality": 0}, "--quality must be from 1 to 100"),
        ({"workers": -1}, "--workers must be at least 0"),
        ({"splits": ("train",)}, "there is no split train; there are all"),
        ({"out": Path("/dev/null/x")}, "/dev/null/x cannot be written: Not a directory"),
    ],
)
def test_a_mistake_is_one_sentence(flags: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    flags = {"name": "any", "src": f"folder:{tmp_path}", "out": tmp_path / "out"} | flags
    flags["src"] = flags["src"].replace("HERE", str(tmp_path))
    code, out, err = run(capsys, **flags)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said.replace('HERE', str(tmp_path))}")
    assert err.count("\n") == 1


def test_flags_are_typed_as_they_are_written(tmp_path: Path):
    args = ["any", "--src", "scenes:test", "--out", str(tmp_path), "--short-side", "96", "--splits", "all", "--restart"]
    want = Prepare("any", "scenes:test", tmp_path, 96, splits=("all",), restart=True)
    assert tyro.cli(Prepare, args=args) == want


def test_where_the_system_does_not_tell_the_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """macOS."""
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    Prepare("any", f"folder:{tmp_path}", tmp_path / "out")()
    assert len(source_of(tmp_path / "out", "all")) == 1


def test_a_split_that_is_not_what_is_published_is_told(tmp_path: Path, capsys, monkeypatch):
    """Also where some unit is missing and nobody knows how many pictures there should be."""
    train = Split("train", (unit(0), unit(1, error=OSError("gone"))))
    splits = (train, Split("val", (unit(2),), 4), Split("test", (unit(3),), 3))
    monkeypatch.setattr(any_data, "find", lambda src: Published(splits, ("a", "b", "c")))
    _, out, _ = run(capsys, name="any", src="x", out=tmp_path, workers=1, json=True)
    said = json.loads(out.splitlines()[-1])["splits"]
    assert {name: split["complete"] for name, split in said.items()} == {"train": False, "val": False, "test": True}
    assert [line for line in out.splitlines() if "not complete" in line] == [
        "  not complete: 1 units are missing",
        "  not complete: 3 pictures were found, and val is published with 4",
    ]
    (note,) = source_of(tmp_path).notes
    assert "train is not complete" in note


def test_off_a_terminal_progress_is_plain_and_begins_with_how_much_there_is(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(any_data, "UNIT", 2)
    for k in range(5):
        (tmp_path / f"{k}.jpg").write_bytes(jpeg(k))
    code, out, err = run(capsys, name="any", src=f"folder:{tmp_path}", out=tmp_path / "out", workers=1)
    assert (code, err) == (0, "")
    first, last, *_ = out.splitlines()
    assert first == "0 of 5 pictures, 0 of 3 shards"
    assert re.fullmatch(r"5 of 5 pictures, 3 of 3 shards, [0-9,]+ a second", last)
    assert not set("\r\x1b") & set(out)


def test_without_a_source_the_layout_is_told(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, name="any")
    assert code == 0
    assert out.startswith("Any data string")
    assert out.endswith("abx data prepare any --src WHERE --out FOLDER\n")


def test_units_that_failed_are_told_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(any_data, "find", lambda src: published(unit(0), unit(1, error=OSError("gone")), expected=9))
    code, out, err = run(capsys, name="any", src="x", out=tmp_path, workers=1)
    assert code == 1
    assert "  1 units could not be read:\n    unit 1: gone\n  not complete: 3 pictures were found" in out
    assert ", and train is published with 9\n" in out
    assert err == "error: 1 units could not be read; the same command tries them again\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_it_goes_on(workers: int, tmp_path: Path):
    program = (
        "from pathlib import Path; from abx.cli.data.prepare import Prepare\n"
        "if __name__ == '__main__':\n"
        f"    Prepare('any', 'scenes:test', Path({str(tmp_path / 'out')!r}), workers={workers})()\n"
    )
    (tmp_path / "program.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    tmp = tmp_path / "out" / PARTS / "all-00000-of-00005.arrayrecord.tmp"
    try:
        while not tmp.exists():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, err
    assert err == "error: interrupted; the same command goes on with the shards that are missing\n"


@pytest.mark.skipif(not ZOO.is_file(), reason="no zoo beside the checkout")
def test_the_zoo_comes_out_as_the_folder_reads_it(tmp_path: Path):
    with tarfile.open(ZOO) as tar:
        tar.extractall(tmp_path, filter="data")
    source, good, bad = Folder(str(tmp_path)), {}, {}
    for i in range(len(source)):
        name = source.name(i).removeprefix(f"{tmp_path}/")
        try:
            good[name] = source[i].image.shape
        except BadRecord as reason:
            bad[name] = str(reason)
    manifest: Manifest = write(any_data.find(f"folder:{tmp_path}"), tmp_path / "out", short_side=0)
    split = manifest.splits["all"]
    assert (split.pictures, split.rejected) == (len(good), len(bad))
    assert dict(split.reasons) == bad | {"zero_bytes.jpg": MISSING}
    shards = source_of(tmp_path / "out", "all")
    assert {shards.name(i).partition(":")[2]: shards[i].image.shape for i in range(len(shards))} == good


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path):
    """Also those of splits that were written before."""
    high, low = (Made("u", ((f"{k}", Record(encoded(smooth()), label=k)),)) for k in (4, 1))
    data = Published((Split("train", (high,)), Split("val", (low,))))
    for splits in (("train",), ("val",)):
        write(data, tmp_path / "out", splits=splits)
    source = open_source(f"arrayrecord:{tmp_path}/out/*.arrayrecord")
    assert source.classes == ("0", "1", "2", "3", "4")
    assert sorted(source[i].label for i in range(2)) == [1, 4]


def test_names_reach_as_far_as_the_numbers(tmp_path: Path):
    objects = Objects(np.array([[0, 0, 1, 1]], np.float32), np.array([2]))
    record = Record(jpeg(0), 3, objects=objects, verb=1)
    data = published(Made("u", (("k", record),)))
    write(data, tmp_path / "some")
    source = source_of(tmp_path / "some")
    assert source.classes == ("a", "b", "c", "3")
    assert source.vocabulary == Vocabulary(("ear", "1", "2"), ("0", "1"), ())
    assert source[0].label == 3


def test_without_labels_there_are_no_classes_and_their_names_are_those_of_objects(tmp_path: Path):
    """As in `tar:`."""
    objects = Objects(np.array([[0, 0, 1, 1]], np.float32), np.array([1]))
    data = Published((Split("train", (Made("u", (("k", Record(jpeg(0), objects=objects)),)),)),), ("cat", "dog"))
    write(data, tmp_path)
    source = source_of(tmp_path)
    assert (source.classes, source.vocabulary.objects) == ((), ("cat", "dog"))


def test_a_number_out_of_all_bounds_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("abx.data.prepare.write.MAX_CLASSES", 10)
    objects = Objects(np.array([[0, 0, 1, 1]], np.float32), np.array([2**31 - 1]))
    write(published(Made("u", (("k", Record(jpeg(0), objects=objects)),))), tmp_path)
    assert source_of(tmp_path).vocabulary.objects == ("ear", *map(str, range(1, 10)))


# --- a WebDataset, read as it is and prepared ---

TOLD = [
    {"verb": "cut", "noun": 2, "boxes": [[0, 0.25, 0.5, 1]], "labels": [3], "iscrowd": [1], "caption": "of the json"},
    {"verb": "sing", "noun": "onion", "count": 4, "distance": 0.5, "captions": ["one", "two"]},
    {"captions": ["only here"]},
    {"boxes": [[0, 0, 0, 0]], "labels": [1], "verb": 1},
    {"boxes": [[0, 0, 1, 1]], "verb": 1},
]
MEMBERS = [
    ("./a/0.seg.png", encoded(smooth(9, 9), "PNG")), ("a/0.JPG", jpeg(0)), ("a/0.cls", b"5\n"),
    ("a/0.txt", b"first\n\nsecond \xff\n"), ("a/0.json", json.dumps(TOLD[0]).encode()), ("a/0.npy", b"x"),
    ("1.left.jpg", jpeg(1)), ("1.json", json.dumps(TOLD[1]).encode()), ("1.cls", b"4"), ("1.txt", b" \n"),
    ("2.jpg", jpeg(2)), ("2.txt", b"\n"), ("2.json", json.dumps(TOLD[2]).encode()),
    ("3.jpg", jpeg(3)), ("3.json", json.dumps(TOLD[3]).encode()), ("3.cls", b"-1"),
    ("4.jpg", jpeg(4)), ("4.dat", b""), ("4.dat", b""), ("4.cls", b"1"),
    ("5.jpg", jpeg(5)), ("between.npy", b"x"), ("5.cls", b"2"),
    ("6.jpg", jpeg(6)), ("6.json", b"{"), ("8.jpg", jpeg(8)), ("8.json", json.dumps(TOLD[4]).encode()),
    ("9.jpg", jpeg(9)), ("9.cls", b"cat"), ("._7.jpg", jpeg(7)), ("jpg", jpeg(7)),
    ("7.jpg", jpeg(7)), ("7.jpg", jpeg(8)), ("../8.jpg", jpeg(9)), ("7.cls", b"3"), ("7.txt", b"long " * (1 << 18)),
]  # fmt: skip
TABLES = {
    "classes.txt": "0\tn01440764\ttench\n2\tfox\n",
    "objects.txt": "1\tear\n",
    "verbs.txt": "0\tcut\n3\tpour\n",
    "nouns.txt": "1\tonion\n",
}


@pytest.mark.parametrize(
    "tables", [list(TABLES), ["verbs.txt", "nouns.txt"], ["classes.txt", "verbs.txt", "nouns.txt"]]
)
@pytest.mark.parametrize("classed", [True, False])
def test_a_webdataset_is_prepared_as_tar_reads_it(tables: list[str], classed: bool, tmp_path: Path):
    write_tar(tmp_path / "s.tar", [(name, data) for name, data in MEMBERS if classed or not name.endswith(".cls")])
    for table in tables:
        (tmp_path / table).write_text(TABLES[table])
    near = open_source(f"tar:{tmp_path}/s.tar")
    write(webdataset.find(str(tmp_path)), tmp_path / "out", short_side=0)
    far = source_of(tmp_path / "out")
    assert (far.classes, far.vocabulary) == (near.classes, near.vocabulary)
    assert [repr(far.stored(i)) for i in range(len(far))] == [repr(near.stored(i)) for i in range(len(near))]
    assert [far.name(i).rpartition(":")[2] for i in range(len(far))] == [
        f"s/{key}" for key in ("a/0", "1", "2", "4", "5", "8", "9", "7", "7#2") if key != "9" or not classed
    ]
    assert far.stored(1).noun == 1
    assert far.stored(2).captions == ("only here",)
    assert far.stored(5).objects.labels.tolist() == [0]


def test_what_is_said_unsoundly_is_left_out_counted_and_named(tmp_path: Path):
    write_tar(tmp_path / "s.tar", [*MEMBERS, ("e.jpg", jpeg(1)), ("e.json", b""), ("f.jpg", jpeg(1)), ("f.cls", b"")])
    split = write(webdataset.find(str(tmp_path)), tmp_path / "out").splits["train"]
    assert split.rejected == len(split.reasons)
    assert [name for name, _ in split.reasons if ": " in name] == [
        "s/3: one of its boxes has no area inside the picture",
        "s/6: its .json cannot be parsed",
        "s/9: its class is no number from 0 to 999999: b'cat'",
        "s/e: its .json cannot be parsed",
        "s/f: its class is no number from 0 to 999999: b''",
    ]


def test_a_word_without_a_table_is_unknown_in_what_is_prepared(tmp_path: Path):
    write_tar(tmp_path / "s.tar", MEMBERS)
    write(webdataset.find(str(tmp_path)), tmp_path / "out")
    assert [record.verb for record in map(source_of(tmp_path / "out").stored, range(6))] == [-1, -1, -1, -1, -1, 1]


@pytest.mark.parametrize("table", list(TABLES))
def test_a_pipe_for_a_table_is_not_waited_for(table: str, tmp_path: Path):
    write_tar(tmp_path / "s.tar", MEMBERS)
    near = open_source(f"tar:{tmp_path}/s.tar")
    os.mkfifo(tmp_path / table)
    again = open_source(f"tar:{tmp_path}/s.tar")
    assert (again.classes, again.vocabulary) == (near.classes, near.vocabulary)


def test_tables_of_the_splits_must_agree(tmp_path: Path):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "s.tar", MEMBERS)
        (tmp_path / name / "classes.txt").write_text("0\tcat\n")
    assert webdataset.find(str(tmp_path)).classes == ("cat",)
    (tmp_path / "val" / "classes.txt").write_text("0\tdog\n")
    with pytest.raises(LayoutError, match=r"train and .*val number their classes differently \(classes\.txt\)"):
        webdataset.find(str(tmp_path))


def test_what_indexing_left_out_is_counted(tmp_path: Path):
    write_tar(tmp_path / "a.tar", {"x.jpg": encoded(smooth()), "y.txt": b"no picture", "z.jpg": encoded(smooth())})
    split = write(any_data.find(f"tar:{tmp_path}/a.tar"), tmp_path / "out").splits["all"]
    assert (split.pictures, split.rejected, split.expected, split.complete) == (2, 1, 3, True)
    [(key, _)] = split.reasons
    assert re.fullmatch(r"a\.tar:y: no picture among its parts.*", key)
