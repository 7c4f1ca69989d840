"""Parquet files: which columns are taken, what is left out, and pictures read at random from row groups."""

import json
import os
import pickle
import sys
import tarfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, smooth
from test_zoo import BAD, GOOD, PICTURES, ZOO, check_picture, zoo

from abx.data.parquet import arrow, groups
from abx.data.parquet.columns import Columns
from abx.data.schemes import parquet
from abx.data.schemes.parquet import Parquet, columns_asked
from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import check_spec, open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PNG = encoded(smooth(4, 6), "PNG")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_kept", OrderedDict())


def grey(level: int) -> bytes:
    return encoded(np.full((3, 5, 3), level, np.uint8), "PNG")


def levels(source: Source) -> list[int]:
    return [int(source[i].image[0, 0, 0]) for i in range(len(source))]


def write(path: Path, columns: dict, group: int = 4, features: dict | None = None, **options) -> str:
    """Columns as lists or pyarrow's arrays; a column of bytes called image becomes Hugging Face's struct."""
    image = columns.get("image")
    if isinstance(image, list):
        columns = columns | {"image": pa.array([{"bytes": data, "path": None} for data in image], IMAGE)}
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group, **options)
    return str(path)


def names_of_classes(*names: str) -> dict:
    return {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}


def reasons(source: Source) -> list[str]:
    return [reason for _, reason in source.problems]


def why_bad(source: Source, i: int) -> str:
    try:
        source[i]
    except BadRecord as bad:
        return str(bad)
    return ""


# --- the data string ---


@pytest.mark.parametrize(
    ("where", "pattern", "asked"),
    [
        ("a/*.parquet", "a/*.parquet", Columns()),
        ("a.parquet,image=img", "a.parquet", Columns("img")),
        ("a.parquet,label=y, caption=my text,image=img", "a.parquet", Columns("img", "my text", "y")),
        ("{a,b}.parquet,label=y", "{a,b}.parquet", Columns(label="y")),
        ("{a,image=b}.parquet", "{a,image=b}.parquet", Columns()),
        ("x,image=1/a.parquet", "x,image=1/a.parquet", Columns()),
    ],
)
def test_columns_are_named_behind_the_pattern(where: str, pattern: str, asked: Columns):
    assert columns_asked(where) == (pattern, asked)


def test_a_file_may_have_an_option_in_its_name(tmp_path: Path):
    path = write(tmp_path / "a,image=b", {"image": [grey(3)]})
    assert levels(open_source(f"parquet:{path}")) == [3]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("parquet:", "names nothing"),
        ("parquet:HERE", "is a folder: write parquet:HERE/*.parquet"),
        ("parquet:HERE/b.parquet", "matches no file: did you mean HERE/a.parquet?"),
        ("HERE/a.parquet", "needs a scheme: write parquet:HERE/a.parquet"),
        ("parquet:HERE/a.parquet,imgae=x", "imgae is no option; options are image=COLUMN, caption=COLUMN and label="),
        ("parquet:HERE/a.parquet,image=x,image=y", "image is given twice"),
        ("parquet:HERE/a.parquet,image=", "image names no column"),
    ],
)
def test_a_mistake_is_answered_without_reading(spec: str, said: str, tmp_path: Path):
    write(tmp_path / "a.parquet", {"image": [PNG]})
    spec, said = (text.replace("HERE", str(tmp_path)) for text in (spec, said))
    with pytest.raises(SpecError) as wrong:
        open_source(spec)
    assert said in str(wrong.value)
    assert check_spec(spec) == str(wrong.value)
    assert check_spec(f"parquet:{tmp_path}/a.parquet,image=whatever") is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("image=img", "has no column 'img': did you mean image?"),
        ("label=zzz", "has no column 'zzz': its columns are image, text, label, score"),
        ("image=text", "is string, not bytes of pictures"),
        ("caption=label", "is int64, not strings or lists of strings"),
        ("label=score", "is double, not whole numbers"),
    ],
)
def test_a_column_that_is_not_there_or_does_not_fit(asked: str, said: str, tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"image": [PNG], "text": ["x"], "label": [0], "score": [0.5]})
    with pytest.raises(SpecError) as wrong:
        open_source(f"parquet:{path},{asked}")
    assert said in str(wrong.value)
    assert str(wrong.value).isprintable()


def test_without_pyarrow_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.parquet", {"image": [PNG]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert check_spec(f"parquet:{path}") is None
    with pytest.raises(SpecError, match=r"pip install 'annotation-bootstrapping\[parquet\]'"):
        open_source(f"parquet:{path}")


# --- columns ---


def test_the_layout_of_hugging_face(tmp_path: Path):
    path = write(
        tmp_path / "a.parquet",
        {"image": [grey(k) for k in range(10)], "caption": [f" number {k} " for k in range(10)], "label": [2, 0] * 5},
        features=names_of_classes("cat", "d\nog", "fox"),
    )
    source = open_source(f"parquet:{path}")
    assert levels(source) == list(range(10))
    assert source.classes == ("cat", r"d\nog", "fox")
    assert (source[4].label, source[4].captions, source.name(4)) == (2, ("number 4",), f"{path}:4")
    assert source.stored(7).image == grey(7)
    assert source.problems == ()
    for outside in (-1, 10):
        with pytest.raises(IndexError):
            source[outside]
        with pytest.raises(IndexError):
            source.name(outside)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.large_binary())])])
def test_other_columns_of_pictures(kind: pa.DataType, tmp_path: Path):
    values = [grey(k) for k in range(6)]
    if pa.types.is_struct(kind):
        values = [{"bytes": value} for value in values]
    path = write(tmp_path / "a.parquet", {"jpg": pa.array(values, kind), "n": list(range(6))})
    assert levels(open_source(f"parquet:{path}")) == list(range(6))
    assert levels(open_source(f"parquet:{path},image=jpg")) == list(range(6))


def test_which_columns_are_found(tmp_path: Path):
    one = {
        "mask": pa.array([grey(1)], pa.binary()),
        "image": [grey(2)],
        "sentences": ["s"],
        "text": ["t"],
        "label": ["a"],
    }
    source = open_source(f"parquet:{write(tmp_path / 'a.parquet', one)}")
    assert (levels(source), source[0].captions, source[0].label, source.classes) == ([2], ("t",), -1, ())
    source = open_source(f"parquet:{tmp_path}/a.parquet,image=mask,caption=sentences")
    assert (levels(source), source[0].captions) == ([1], ("s",))
    two = {"left": pa.array([PNG], pa.binary()), "right": pa.array([PNG], pa.binary())}
    with pytest.raises(SpecError, match=r"has 2 columns of pictures \(left, right\): name one"):
        open_source(f"parquet:{write(tmp_path / 'b.parquet', two)}")
    with pytest.raises(SpecError, match=r"has no column of pictures \(url, path\): name one"):
        open_source(f"parquet:{write(tmp_path / 'c.parquet', {'url': ['x'], 'path': ['y']})}")


def test_captions_are_strings_or_lists_of_them(tmp_path: Path):
    several = pa.array([["a", " ", "b\nc", None], [], None], pa.list_(pa.string()))
    source = open_source(f"parquet:{write(tmp_path / 'a.parquet', {'image': [PNG] * 3, 'captions': several})}")
    assert [source[i].captions for i in range(3)] == [("a", "b\nc"), (), ()]
    bad = pa.array([b"p\xeache", b"ok"], pa.binary()).view(pa.string())
    source = open_source(f"parquet:{write(tmp_path / 'b.parquet', {'image': [PNG] * 2, 'text': bad})}")
    assert [source[i].captions for i in range(2)] == [("p\ufffdche",), ("ok",)]


def test_classes_without_names_are_numbers(tmp_path: Path):
    columns = {"image": [PNG] * 5, "label": [1, None, 3, -1, 0]}
    path = write(tmp_path / "a.parquet", columns, group=2)
    source = open_source(f"parquet:{path}")
    assert source.classes == ("0", "1", "2", "3")
    assert [source[i].label for i in range(5)] == [1, -1, 3, -1, 0]
    assert open_source(f"parquet:{path},label=label").classes == source.classes


def test_numbers_that_are_no_classes(tmp_path: Path):
    ids = {"image": [PNG] * 2, "label": [10**12, 1]}
    source = open_source(f"parquet:{write(tmp_path / 'a.parquet', ids)}")
    assert (source.classes, source[1].label) == ((), -1)
    assert "goes up to 1000000000000" in source.notes[0]
    path = write(tmp_path / "b.parquet", ids | {"label": [2, 1]}, features=names_of_classes("cat", "dog"))
    source = open_source(f"parquet:{path}")
    assert (source.classes, source[0].label, source[1].label) == (("cat", "dog"), -1, 1)
    assert source.notes == ("the column label goes up to 2: rows of class 2 and above are without one",)
    assert source.problems == ()


@pytest.mark.parametrize("metadata", [b"", b"{", b"[]", b'{"info": 3}', b'{"info": {"features": []}}', b"[" * 100_000])
def test_metadata_that_says_nothing_is_passed_over(metadata: bytes, tmp_path: Path):
    table = pa.table({"image": pa.array([PNG], pa.binary()), "label": [1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
    assert open_source(f"parquet:{tmp_path}/a.parquet").classes == ("0", "1")


def test_files_that_name_the_classes_differently_are_refused(tmp_path: Path):
    columns = {"image": [PNG], "label": [0]}
    write(tmp_path / "a.parquet", columns, features=names_of_classes("cat"))
    write(tmp_path / "b.parquet", columns, features=names_of_classes("dog"))
    with pytest.raises(SpecError, match=r"a\.parquet and .*b\.parquet name the classes of their column label differ"):
        open_source(f"parquet:{tmp_path}/*.parquet")


# --- what is left out ---


def test_files_that_cannot_be_used_are_listed(tmp_path: Path):
    good = {"image": [grey(5)], "label": [0]}
    whole = Path(write(tmp_path / "a.parquet", good)).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    (tmp_path / "d.parquet").write_bytes(b"")
    (tmp_path / "e.parquet").write_bytes(b"PARE" + whole[4:-4] + b"PARE")  # an encrypted footer
    os.mkfifo(tmp_path / "f.parquet")
    write(tmp_path / "g.parquet", {"image": [grey(6)]})
    write(tmp_path / "h.parquet", good | {"image": pa.array([grey(7)], pa.binary())})
    write(tmp_path / "i.parquet", good | {"more": ["x"], "image": [grey(8)]})
    (tmp_path / "j.parquet").symlink_to("nowhere")
    source = open_source(f"parquet:{tmp_path}/*.parquet")
    assert levels(source) == [5, 8]
    assert [Path(name).stem for name, _ in source.problems] == list("bcdefghj")
    said = dict(zip("bcdefghj", reasons(source), strict=True))
    assert all(reason.isprintable() for reason in said.values())
    assert said["f"] == "cannot be read: not a regular file"
    assert said["j"] == "cannot be read: No such file or directory"
    assert said["g"] == f"has not the same columns as {tmp_path}/a.parquet: label"
    assert said["h"] == f"has not the same columns as {tmp_path}/a.parquet: image"


def test_nothing_that_can_be_read_is_one_sentence(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(SpecError, match=r"holds no pictures \(.*a\.parquet: cannot be read"):
        open_source(f"parquet:{tmp_path}/a.parquet")
    write(tmp_path / "b.parquet", {"image": pa.array([], IMAGE)})
    with pytest.raises(SpecError, match=r"holds no pictures$"):
        open_source(f"parquet:{tmp_path}/b.parquet")


def test_rows_without_a_picture_are_bad(tmp_path: Path):
    rows = [None, {"bytes": None, "path": "x/y.jpg"}, {"bytes": None, "path": None}, {"bytes": PNG, "path": "z.png"}]
    source = Parquet([write(tmp_path / "a.parquet", {"image": pa.array(rows, IMAGE)})], Columns())
    for i, said in enumerate(["has no picture", "has the path of a picture, and not its bytes", "has no picture"]):
        with pytest.raises(BadRecord, match=f"^{said}$"):
            source.stored(i)
    assert source[3].image.shape == (4, 6, 3)


def test_the_good_are_kept_and_the_bad_named(tmp_path: Path):
    """The made pictures of `test_zoo`, in one file."""
    pictures = GOOD | BAD
    path = write(tmp_path / "a.parquet", {"image": [data for data, _ in pictures.values()]})
    source = Parquet([path], Columns())
    for i, (name, (_, want)) in enumerate(pictures.items()):
        why = why_bad(source, i)
        assert bool(why) == (name in BAD), name
        assert why.isprintable()
        if name in GOOD:
            assert source[i].image.shape == want.shape, name


@zoo
def test_zoo_as_parquet(tmp_path: Path):
    with tarfile.open(ZOO / "zoo.tar") as tar:
        tar.extractall(tmp_path / "zoo", filter="data")
    image = [(tmp_path / "zoo" / entry["file"]).read_bytes() for entry in PICTURES]
    source = Parquet([write(tmp_path / "a.parquet", {"image": image})], Columns())
    assert len(source) == len(PICTURES)
    for i, entry in enumerate(PICTURES):
        check_picture(entry, None if why_bad(source, i) else source[i].image.shape)


@pytest.mark.parametrize("data", [b"", PNG[:40], b"<svg/>", b"\x89PNG\r\n\x1a\n" + bytes(99), encoded(smooth())[:300]])
def test_pictures_that_cannot_be_decoded_are_bad(data: bytes, tmp_path: Path):
    source = Parquet([write(tmp_path / "a.parquet", {"image": [data, PNG]})], Columns())
    assert source.stored(0).image == data
    with pytest.raises(BadRecord) as bad:
        source[0]
    assert str(bad.value).isprintable()
    assert source[1].image.shape == (4, 6, 3)


def test_files_too_large_to_be_pictures_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = Parquet([write(tmp_path / "a.parquet", {"image": [PNG]})], Columns())
    monkeypatch.setattr(parquet, "MAX_BYTES", len(PNG) - 1)
    with pytest.raises(BadRecord, match="more than any picture"):
        source.stored(0)


# The same damage each time: what some other does inside pyarrow is not for this test to find, and may end the process.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_a_damaged_file_is_listed_or_its_records_are_bad(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Whatever byte is wrong: nothing else is raised, and all that is said prints on one line."""
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    write(path, {"image": [grey(k) for k in range(3)], "text": list("abc"), "label": [0, 1, 2]}, group=2)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        source = Parquet([str(path)], Columns())
    except SpecError as wrong:
        said = [str(wrong)]
    else:
        said = [*reasons(source), *(why for i in range(min(len(source), 5)) if (why := why_bad(source, i)))]
    assert all(map(str.isprintable, said))


# --- row groups ---


@pytest.fixture
def many(tmp_path: Path) -> Source:
    """Three files of 13 rows in row groups of 4."""
    for file in range(3):
        write(tmp_path / f"{file}.parquet", {"image": [grey(13 * file + k) for k in range(13)]})
    return open_source(f"parquet:{tmp_path}/*.parquet")


def test_records_are_numbered_over_files_and_row_groups(many: Source, tmp_path: Path):
    assert levels(many) == list(range(39))
    names = ["0.parquet:0", "0.parquet:12", "1.parquet:0", "2.parquet:12"]
    assert [many.name(i) for i in (0, 12, 13, 38)] == [f"{tmp_path}/{name}" for name in names]


def test_many_threads_read_the_same(many: Source, monkeypatch: pytest.MonkeyPatch):
    """With room for fewer row groups than there are."""
    monkeypatch.setattr(groups, "KEPT", 1000)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(39), 10)).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: int(many[i].image[0, 0, 0]), order)) == order
    assert 1 <= len(groups._kept) < 12


def test_what_is_kept_is_not_read_again_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.parquet", {"image": pa.array([bytes(1000)] * 40, pa.binary())}, use_dictionary=False)
    source = Parquet([path], Columns())
    opened: list[str] = []
    monkeypatch.setattr(groups, "open_parquet", lambda path: opened.append(path) or arrow.open_parquet(path))
    monkeypatch.setattr(groups, "KEPT", 13_000)  # three row groups of 4,016 bytes
    for i in range(40):
        source.stored(i)
    assert len(opened) == 10
    for i in (39, 35, 31):
        source.stored(i)
    assert (len(opened), len(groups._kept)) == (10, 3)
    source.stored(27)
    source.stored(39)
    assert len(opened) == 12
    monkeypatch.setattr(groups, "KEPT", 10)
    source.stored(0)
    assert len(groups._kept) == 1


def test_what_is_kept_is_bounded_over_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = pa.array([bytes(1000)] * 4, pa.binary())
    paths = [write(tmp_path / f"{k}.parquet", {"image": pictures}, use_dictionary=False) for k in range(5)]
    sources = [Parquet([path], Columns()) for path in paths]
    monkeypatch.setattr(groups, "KEPT", 13_000)  # three row groups of 4,016 bytes
    for source in sources:
        source.stored(0)
    assert len(groups._kept) == 3


def test_sources_of_other_columns_share_nothing(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"image": [PNG], "one": ["a cat"], "two": ["a dog"]})
    captions = [Parquet([path], Columns(caption=name))[0].captions for name in ("one", "two")]
    assert captions == [("a cat",), ("a dog",)]


def test_parquet_pickles_without_what_is_kept(many: Source):
    bare = len(pickle.dumps(many))
    many[0]
    copy = pickle.loads(pickle.dumps(many))
    assert len(pickle.dumps(many)) == bare
    assert levels(copy) == levels(many)
    assert (copy.classes, copy.problems, copy.name(1)) == (many.classes, many.problems, many.name(1))


def test_no_file_stays_open(many: Source):
    before = len(os.listdir("/proc/self/fd"))
    levels(many)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_goes_away_or_changes(tmp_path: Path):
    paths = [write(tmp_path / f"{k}.parquet", {"image": [grey(k)] * 3}) for k in range(3)]
    source = Parquet(paths, Columns())
    assert int(source[6].image[0, 0, 0]) == 2
    groups._kept.clear()
    Path(paths[0]).unlink()
    os.truncate(paths[1], 50)
    write(Path(paths[2]), {"image": [grey(9)] * 3})
    os.utime(paths[2], ns=(0, os.stat(paths[2]).st_mtime_ns + 1))
    said = []
    for i in (0, 3, 8):
        with pytest.raises(BadRecord) as bad:
            source[i]
        said.append(str(bad.value))
    assert said[0] == "its row group cannot be read: No such file or directory"
    assert said[1:] == ["the file has changed since it was opened"] * 2
    assert levels(Parquet(paths[2:], Columns())) == [9, 9, 9]


def bytes_of(count: int) -> pa.Array:
    """Columns that do not shrink."""
    return pa.array([np.random.default_rng(k).bytes(600) for k in range(count)], pa.binary())


def test_large_row_groups_are_noted_with_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "LARGE_GROUP", 1000)
    path = write(tmp_path / "a.parquet", {"image": bytes_of(4)}, group=1, use_dictionary=False, write_statistics=False)
    assert Parquet([path], Columns()).notes == ()
    path = write(tmp_path / "b.parquet", {"image": bytes_of(4)}, group=2, use_dictionary=False, write_statistics=False)
    source = Parquet([path], Columns())
    assert (len(source), source.problems) == (4, ())
    (note,) = source.notes
    assert "abx data prepare any --src" in note


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its footer; or, where one value stands for thousands, as soon as too much has been unpacked, and only once."""
    zeros = [bytes(5000)] * 400
    honest = write(tmp_path / "a.parquet", {"image": pa.array(zeros, pa.binary())}, 200, use_dictionary=False)
    repeated = write(tmp_path / "b.parquet", {"image": pa.array(zeros, pa.binary())}, 200)
    assert os.path.getsize(repeated) < 10_000
    for module in (parquet, groups):
        monkeypatch.setattr(module, "MAX_GROUP", 500_000)
    source = Parquet([honest], Columns())
    assert len(source) == 0
    assert reasons(source)[0].startswith("2 of its row groups are left out")
    source = Parquet([repeated], Columns())
    opened: list[str] = []
    monkeypatch.setattr(groups, "open_parquet", lambda path: opened.append(path) or arrow.open_parquet(path))
    for i in (0, 1, 199):
        with pytest.raises(BadRecord, match="unpacks to more than"):
            source.stored(i)
    assert len(opened) == 1
