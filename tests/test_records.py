"""Records on disk and shards of them: what goes in comes out, and what is no record is answered with a reason."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import encoded

from abx.data.images import MAX_BYTES
from abx.data.records import MAGIC, MAX_HEADER, WRITER, pack, unpack
from abx.data.schemes import arrayrecord
from abx.data.schemes.arrayrecord import ArrayRecords
from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import check_spec, open_source
from abx.types import CROWD, TRUNCATED, Objects, Record, Vocabulary

FULL = Record(
    b"picture",
    7,
    ("one", "zwei 图"),
    Objects(
        np.array([[0, 0.1, 0.5, 1], [0.25, 0.25, 0.75, 0.3]], np.float32),
        np.array([3, 0]),
        np.array([CROWD | TRUNCATED, 0], np.uint8),
    ),
    2,
    0.1,
    5,
    0,
)


def same(a: Record, b: Record) -> bool:
    def plain(record: Record) -> tuple:
        objects = record.objects
        arrays = objects and tuple(None if x is None else (x.dtype.str, x.shape, x.tobytes()) for x in objects)
        return (*record._replace(objects=None, distance=0.0), repr(record.distance), arrays)

    return plain(a) == plain(b)


# --- one record ---

sides = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)).filter(lambda s: s[0] != s[1]).map(sorted)
boxes = st.tuples(sides, sides).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))
numbers = st.integers(-1, 2**31 - 1)


@st.composite
def objects(draw) -> Objects:
    rows = draw(st.lists(boxes, max_size=4))
    labels = [draw(st.integers(0, 2**31 - 1)) for _ in rows]
    flags = draw(st.none() | st.just([draw(st.integers(0, 255)) for _ in rows]))
    return Objects(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        None if flags is None else np.array(flags, np.uint8),
    )


records = st.builds(
    Record,
    st.binary(max_size=50),
    numbers,
    st.lists(st.text(), max_size=3).map(tuple),
    st.none() | objects(),
    numbers,
    st.floats(-1e9, 1e9) | st.just(float("nan")),
    numbers,
    numbers,
)
anything = st.text(st.characters(), max_size=20)


@given(anything, records)
@example("../../etc/passwd\0", FULL)
@example("bad\udcff", Record(b""))
def test_what_is_packed_is_unpacked(key: str, record: Record):
    got_key, got = unpack(pack(key, record))
    assert got_key == key
    assert same(got, record)


def test_only_what_is_known_takes_room():
    assert pack("k", Record(b"xyz")) == MAGIC + struct.pack("<I", 11) + b'{"key":"k"}xyz'


def test_half_a_surrogate_pair_is_no_text():
    """JSON may hold one; UTF-8 cannot."""
    assert unpack(pack("k", Record(b"", captions=("a\ud800b", "🐱"))))[1].captions == ("a\ufffdb", "🐱")


@pytest.mark.parametrize(
    "record",
    [
        Record(b"", -2),
        Record(b"", 2**31),
        Record(b"", distance=float("inf")),
        Record(b"", objects=Objects(np.array([[0, 0, 0, 1]], np.float32), np.array([1]))),
        Record(b"", objects=Objects(np.array([[0, 0, 1, 1.5]], np.float32), np.array([1]))),
        Record(b"", objects=Objects(np.array([[0, 0, 1, np.nan]], np.float32), np.array([1]))),
        Record(b"", objects=Objects(np.array([[0, 0, 1, 1]], np.float32), np.array([-1]))),
        Record(b"", captions=("long" * MAX_HEADER,)),
    ],
)
def test_what_could_not_be_unpacked_is_not_packed(record: Record):
    with pytest.raises(BadRecord):
        pack("k", record)


def test_pixels_are_not_packed():
    with pytest.raises(TypeError):
        pack("k", Record(np.zeros((2, 2, 3), np.uint8)))


def with_header(header: bytes, length: int | None = None) -> bytes:
    return MAGIC + struct.pack("<I", len(header) if length is None else length) + header + b"picture"


def with_known(**known: object) -> bytes:
    return with_header(json.dumps({"key": "k", **known}).encode())


BOX = [[0, 0, 1, 1]]
HOSTILE = {
    b"": "not a record of abx",
    b"\xff\xd8\xff\xe0" + bytes(99): "not a record of abx",
    b"abx\x02" + bytes(99): "another version",
    MAGIC + b"\1\0": "ends early",
    with_header(b"{}", 2**32 - 1): "4294967295 bytes",
    with_header(b"{}", 10): "10 bytes, more than there are",
    with_header(b" " * (MAX_HEADER + 1)): "or may be",
    with_header(b"[" * 1_000_000): "cannot be parsed",
    with_header(b'{"key": "k", "label": ' + b"9" * 5000 + b"}"): "cannot be parsed",
    with_header(b'{"key": "\xff"}'): "cannot be parsed",
    with_header(b'{"key": "k", "distance": NaN}'): "cannot be parsed",
    with_header(b'{"key": "k", "distance": 1e999}'): "distance",
    with_header(b'["key"]'): "no JSON object",
    with_header(b"{}"): "its key",
    with_known(key=3): "its key",
    with_known(key="k" * 5000): "its key",
    with_known(colour="red"): "'colour'",
    with_known(label=True): "its label",
    with_known(label="3"): "its label",
    with_known(label=-1): "its label",
    with_known(count=1.5): "its count",
    with_known(verb=2**31): "its verb",
    with_known(noun=None): "its noun",
    with_known(distance="far"): "its distance",
    with_known(distance=10**400): "its distance",
    with_known(captions="red"): "its captions",
    with_known(captions=["red", None]): "its captions",
    with_known(captions=["\ud800"]): "its captions",
    with_known(labels=[1]): "but no boxes",
    with_known(flags=[1]): "but no boxes",
    with_known(boxes=BOX): "labels of its boxes",
    with_known(boxes=BOX, labels=[]): "not as many",
    with_known(boxes=BOX, labels=[1], flags=[0, 0]): "not as many",
    with_known(boxes=BOX, labels=[1.0]): "labels of its boxes",
    with_known(boxes=BOX, labels=[1], flags=[256]): "flags of its boxes",
    with_known(boxes={"a": 1}, labels=[1]): "its boxes",
    with_known(boxes=[[0, 0, 1]], labels=[1]): "its boxes",
    with_known(boxes=[[0, 0, 1, "1"]], labels=[1]): "its boxes",
    with_known(boxes=[[0, 0, 1, True]], labels=[1]): "its boxes",
    with_known(boxes=[[0, 0, 1, 1.01]], labels=[1]): "its boxes",
    with_known(boxes=[[-0.01, 0, 1, 1]], labels=[1]): "its boxes",
    with_known(boxes=[[1, 0, 0, 1]], labels=[1]): "its boxes",
    with_known(boxes=[[0, 0.5, 1, 0.5 + 1e-12]], labels=[1]): "its boxes",
    with_known(boxes=[[0, 0, 1, 10**400]], labels=[1]): "its boxes",
}


@pytest.mark.parametrize("case", range(len(HOSTILE)))
def test_hostile_bytes_get_a_reason(case: int):
    data, reason = list(HOSTILE.items())[case]
    with pytest.raises(BadRecord) as bad:
        unpack(data)
    assert reason in str(bad.value)
    assert str(bad.value).isprintable()
    assert len(str(bad.value)) < 200


@given(st.data())
def test_a_damaged_record_is_a_record_or_has_a_reason(data: st.DataObject):
    packed = bytearray(pack("key", FULL))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    try:
        key, record = unpack(bytes(packed[:cut]))
    except BadRecord as bad:
        reason = str(bad)
    else:
        reason = ""
        assert same(unpack(pack(key, record))[1], record)
    assert reason.isprintable()


def test_a_picture_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("abx.data.records.MAX_BYTES", 100)
    assert MAX_BYTES > 100
    assert len(unpack(with_header(b'{"key":"k"}') + bytes(93))[1].image) == 100
    with pytest.raises(BadRecord, match="101 bytes"):
        unpack(with_header(b'{"key":"k"}') + bytes(94))


# --- shards of them ---


def write(path: Path, packed: list[bytes], options: str = WRITER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrayRecordWriter(str(path), options)
    for data in packed:
        writer.write(data)
    writer.close()
    return path


def grey(level: int, **known: object) -> bytes:
    picture = encoded(np.full((3, 5, 3), level, np.uint8), "PNG")
    return pack(f"key/{level}", Record(picture, **known))


def levels(source: Source) -> list[int]:
    return [int(source[i].image[0, 0, 0]) for i in range(len(source))]


def manifest(folder: Path, **said: object) -> None:
    (folder / "manifest.json").write_text(json.dumps(said))


def test_shards_are_a_source(tmp_path: Path):
    write(tmp_path / "s-1.arrayrecord", [grey(3, label=1, captions=("a",)), grey(4)])
    write(tmp_path / "s-0.arrayrecord", [grey(k) for k in range(3)])
    manifest(tmp_path, classes=["cat", "dog"], vocabulary={"objects": ["ear\n"], "verbs": ["cut"]})
    spec = f"arrayrecord:{tmp_path}/s-*.arrayrecord"
    assert check_spec(spec) is None
    source = open_source(spec)
    assert isinstance(source, Source)
    assert levels(source) == [0, 1, 2, 3, 4]
    assert levels(open_source(f"arrayrecord:{tmp_path}/s-{{1,0}}.arrayrecord")) == [3, 4, 0, 1, 2]
    assert (source[3].label, source[3].captions, source[4].label) == (1, ("a",), -1)
    assert source.name(3) == f"{tmp_path}/s-1.arrayrecord:key/3"
    assert (source.classes, source.vocabulary) == (("cat", "dog"), Vocabulary((r"ear\n",), ("cut",)))
    assert source.problems == ()
    for outside in (-1, 5):
        with pytest.raises(IndexError):
            source.stored(outside)
        with pytest.raises(IndexError):
            source.name(outside)


def test_without_a_manifest_there_are_no_classes(tmp_path: Path):
    """Nor labels, which would be numbers of nothing; and that is said."""
    source = ArrayRecords([str(write(tmp_path / "a.arrayrecord", [grey(0, label=3, count=2)]))])
    assert (source.classes, source.vocabulary, source[0].label, source[0].count) == ((), Vocabulary(), -1, 2)
    assert source.problems == ()
    (note,) = source.notes
    assert note.startswith(
        f"{tmp_path}/manifest.json is not there, so the records beside it are read without their cla"
    )


def test_only_a_folder_with_a_manifest_has_classes(tmp_path: Path):
    paths = [str(write(tmp_path / name / "a.arrayrecord", [grey(0, label=1)])) for name in "ab"]
    manifest(tmp_path / "a", classes=["cat", "dog"])
    source = pickle.loads(pickle.dumps(ArrayRecords(paths)))
    assert (source.classes, source[0].label, source[1].label) == (("cat", "dog"), 1, -1)


def test_reading_does_not_need_the_writer():
    program = (
        "import sys, abx.data.schemes.arrayrecord\n"
        "print([name for name in sys.modules if name.startswith('abx.data.prepare')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '["a"]',
        '{"classes": 3}',
        '{"classes": ["a", 3]}',
        '{"vocabulary": []}',
        '{"splits": []}',
        '{"splits": {"train": 3}}',
        '{"splits": {"train": {"shards": [{"file": 3, "records": 1, "bytes": 1}]}}}',
        '{"splits": {"train": {"shards": [{"file": "a.arrayrecord", "records": 1, "bytes": 0.5}]}}}',
        '{"splits": {"train": {"shards": [{"file": "a.arrayrecord", "records": 1}]}}}',
        '{"splits": {"train": {"shards": [["a.arrayrecord"]]}}}',
        '{"splits": {"train": {"shards": {"a": 1}}}}',
    ],
)
def test_a_bad_manifest_is_noted(text: str, tmp_path: Path):
    write(tmp_path / "a.arrayrecord", [grey(0)])
    (tmp_path / "manifest.json").write_text(text)
    source = ArrayRecords([str(tmp_path / "a.arrayrecord")])
    assert (len(source), source.classes, source.problems) == (1, (), ())
    (note,) = source.notes
    assert note.startswith(f"{tmp_path}/manifest.json ")


def test_a_pipe_for_a_manifest_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "manifest.json")
    source = ArrayRecords([str(write(tmp_path / "a.arrayrecord", [grey(0)]))])
    assert len(source) == 1
    (note,) = source.notes
    assert note.startswith(f"{tmp_path}/manifest.json cannot be read, ")
    assert note.endswith(": not a regular file")


def test_of_a_manifest_only_so_much_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("abx.data.manifests.MAX_MANIFEST", 20)
    path = str(write(tmp_path / "a.arrayrecord", [grey(0)]))
    (tmp_path / "manifest.json").write_text('{"classes": ["cat"]}')
    assert ArrayRecords([path]).classes == ("cat",)
    (tmp_path / "manifest.json").write_text('{"classes": ["cat" ]}')
    assert ArrayRecords([path]).classes == ()


def prepared(folder: Path, *shards: int, splits: tuple[str, ...] = ("train", "val")) -> list[Path]:
    """So many records in each shard of each split, and the manifest that lists them."""
    folder.mkdir(exist_ok=True)
    paths, listed = [], dict[str, dict]()
    for split in splits:
        names = [f"{split}-{k:05d}-of-{len(shards):05d}.arrayrecord" for k in range(len(shards))]
        made = [write(folder / name, [grey(k) for k in range(n)]) for name, n in zip(names, shards, strict=True)]
        listed[split] = {
            "complete": True,
            "shards": [
                {"file": path.name, "records": n, "bytes": path.stat().st_size, "sha256": ""}
                for path, n in zip(made, shards, strict=True)
            ],
        }
        paths += made
    manifest(folder, splits=listed)
    return paths


def test_a_set_that_is_whole_has_nothing_to_tell(tmp_path: Path):
    paths = prepared(tmp_path, 3, 2)
    for each in (paths, paths[:2], paths[2:]):
        source = ArrayRecords([str(path) for path in each])
        assert (source.notes, source.problems) == ((), ())


def test_shards_that_are_gone_or_not_asked_for_are_noted(tmp_path: Path):
    paths = prepared(tmp_path, 3, 2, 4, 1, 2, 2)
    note = f"{tmp_path}/manifest.json lists 6 shards of train, "
    (some,) = open_source(f"arrayrecord:{tmp_path}/train-{{00000..00003}}-*.arrayrecord").notes
    assert some == f"{note}2 are not read: {paths[4].name}, {paths[5].name}"
    for path in paths[1:6]:
        path.unlink()
    source = open_source(f"arrayrecord:{tmp_path}/*.arrayrecord")
    assert source.notes == (f"{note}5 are not read: {paths[1].name}, {paths[2].name}, {paths[3].name}, ...",)
    assert (source.problems, len(source)) == ((), 3 + 14)


def test_a_shard_that_cannot_be_read_is_told_once(tmp_path: Path):
    paths = prepared(tmp_path, 3, 2)
    paths[1].write_bytes(b"")
    source = ArrayRecords([str(path) for path in paths])
    assert ([name for name, _ in source.problems], source.notes) == ([str(paths[1])], ())


@pytest.mark.parametrize("records", [2, 3])
def test_a_shard_that_is_not_what_is_listed_is_left_out(records: int, tmp_path: Path):
    """Of as many records, too, if it is longer."""
    paths = prepared(tmp_path, 3, 2)
    write(paths[0], [grey(7, captions=("another" * 10_000,)) for _ in range(records)])
    source = ArrayRecords([str(path) for path in paths])
    ((name, reason),) = source.problems
    assert name == str(paths[0])
    assert reason.startswith(f"is not what manifest.json lists: {records} records in ")
    assert reason.isprintable()
    assert source.notes == ()
    assert levels(pickle.loads(pickle.dumps(source))) == [0, 1, 0, 1, 2, 0, 1]


def test_preparing_that_was_not_finished_is_noted(tmp_path: Path):
    """Before the manifest of the set is written, and before that of a further split is."""
    paths = prepared(tmp_path, 3, 2, splits=("train",))
    val = write(tmp_path / "val-00000-of-00003.arrayrecord", [grey(0)])
    every = [str(path) for path in (*paths, val)]
    (note,) = ArrayRecords(every).notes
    assert note.startswith(f"{tmp_path}/manifest.json does not list {val.name}: ")
    assert ArrayRecords(every[:2]).notes == ()
    (tmp_path / "manifest.json").unlink()
    first, *others = ArrayRecords(every).notes
    assert first.startswith(f"{tmp_path}/manifest.json is not there")
    assert [note.partition("; ")[2] for note in others] == [
        "of train 2 of 2 shards are read",
        "of val 1 of 3 shards are read",
    ]


def test_a_split_that_is_not_complete_is_noted(tmp_path: Path):
    """A unit that could not be read has no shard, and the manifest lists none."""
    paths = prepared(tmp_path, 3, 2)
    said = json.loads((tmp_path / "manifest.json").read_text())
    said["splits"]["val"]["complete"] = False
    manifest(tmp_path, **said)
    (note,) = ArrayRecords([str(path) for path in paths]).notes
    assert note == f"{tmp_path}/manifest.json says that val is not complete: not all that is published was found"
    assert ArrayRecords([str(path) for path in paths[:2]]).notes == ()


def test_folders_must_number_classes_alike(tmp_path: Path):
    paths = [str(write(tmp_path / name / "a.arrayrecord", [grey(0)])) for name in "abc"]
    manifest(tmp_path / "a", classes=["cat", "dog"])
    manifest(tmp_path / "b", classes=["cat", "dog"], vocabulary={"nouns": ["ear"]})
    assert ArrayRecords(paths).classes == ("cat", "dog")
    assert ArrayRecords(paths).vocabulary.nouns == ("ear",)
    manifest(tmp_path / "c", classes=["dog", "cat"])
    with pytest.raises(SpecError, match=f"{tmp_path}/a and {tmp_path}/c number their classes differently"):
        ArrayRecords(paths)


def test_a_class_beyond_the_names_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.arrayrecord", [grey(0, label=2), grey(1, label=1)])
    manifest(tmp_path, classes=["cat", "dog"])
    source = ArrayRecords([str(path)])
    assert source[1].label == 1
    with pytest.raises(BadRecord, match="its class is 2, and there are 2"):
        source[0]


def test_what_is_no_shard_is_passed_over(tmp_path: Path):
    """Every way in which a file can be none, among one that is whole."""
    good = write(tmp_path / "good", [grey(k) for k in range(200)])
    whole = good.read_bytes()
    bad = {
        "empty": b"",
        "text": b"hello" * 100_000,
        "zeros": bytes(1 << 18),
        "cut10": whole[:10],
        "cut": whole[: len(whole) // 2],
        "short": whole[:-1],
        "block": whole[: -(1 << 16)],
        "longer": whole + b"more",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "none", [])
    manifest(tmp_path)
    names = [*bad, "pipe", "folder", "none", "missing"]
    source = ArrayRecords([str(tmp_path / name) for name in [*names, "good"]])
    assert len(source) == 200
    assert [name for name, _ in source.problems] == [f"{tmp_path}/{name}" for name in names]
    assert all(reason.isprintable() and len(reason) < 150 for _, reason in source.problems)


def test_nothing_to_read_is_one_sentence(tmp_path: Path):
    (tmp_path / "a.arrayrecord").write_bytes(b"no")
    with pytest.raises(SpecError, match=r"holds no pictures \(.*no ArrayRecord, or cut off \(2 bytes\)\)"):
        open_source(f"arrayrecord:{tmp_path}/*.arrayrecord")
    for spec, said in {
        f"arrayrecord:{tmp_path}": "is a folder: write arrayrecord:",
        f"arrayrecord:{tmp_path}/b.arrayrecord": "did you mean",
        f"{tmp_path}/a.arrayrecord": "write arrayrecord:",
    }.items():
        assert said in (check_spec(spec) or "")


def test_damaged_bytes_cost_the_records_that_they_lie_in(tmp_path: Path):
    path = write(tmp_path / "a.arrayrecord", [grey(k) for k in range(200)])
    data = bytearray(path.read_bytes())
    at = data.index(b"key/77")
    data[at] ^= 1
    path.write_bytes(data)
    source, bad = ArrayRecords([str(path)]), []
    for i in range(200):
        try:
            assert int(source[i].image[0, 0, 0]) == i
        except BadRecord as reason:
            bad.append((i, str(reason).isprintable()))
    assert bad == [(77, True)]
    assert source.name(77) == f"{path}:#77"


@pytest.mark.parametrize("options", [WRITER, "group_size:1"])
def test_records_of_others_are_named_as_such(options: str, tmp_path: Path):
    """Compressed ones are not even unpacked: a gigabyte of zeros takes a few bytes there."""
    source = ArrayRecords([str(write(tmp_path / "a.arrayrecord", [b"their record"] * 3, options))])
    assert len(source) == 3
    with pytest.raises(BadRecord, match=r"not a record of abx \(abx data prepare writes them\)"):
        source.stored(1)


def test_a_shard_that_changes_is_a_reason(tmp_path: Path):
    paths = [str(write(tmp_path / f"{name}.arrayrecord", [grey(k % 256) for k in range(300)])) for name in "abc"]
    source = ArrayRecords(paths)
    sent = pickle.dumps(source)
    source.stored(0)
    os.truncate(paths[0], 1000)
    with pytest.raises(BadRecord, match="the shard can no longer be read"):
        source.stored(299)
    os.unlink(paths[1])
    write(Path(paths[2]), [grey(0)])
    there = pickle.loads(sent)
    for i, reason in ((0, "no ArrayRecord"), (300, "No such file"), (600, "it has changed")):
        with pytest.raises(BadRecord, match=f"can no longer be read: {reason}"):
            there.stored(i)


def test_a_few_files_stay_open_and_many_threads_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrayrecord, "OPEN_SHARDS", 3)
    paths = [str(write(tmp_path / f"{k:02d}", [grey(10 * k + j) for j in range(10)])) for k in range(20)]
    source = ArrayRecords(paths)
    before = len(os.listdir("/proc/self/fd"))
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(200), 20)).tolist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: int(source[i].image[0, 0, 0]), order))
    assert read == order
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    there = pickle.loads(pickle.dumps(source))
    assert levels(there) == list(range(200))


def test_names_need_not_be_text(tmp_path: Path):
    path = write(tmp_path / "a.arrayrecord", [grey(5)])
    path = path.rename(tmp_path / os.fsdecode(b"\xff\n.arrayrecord"))
    source = open_source(f"arrayrecord:{tmp_path}/*.arrayrecord")
    assert levels(source) == [5]
    assert source.name(0) == rf"{tmp_path}/\xff\n.arrayrecord:key/5"


def test_a_thousand_shards_open_quickly(tmp_path: Path):
    data = write(tmp_path / "first", [grey(k) for k in range(9)]).read_bytes()
    paths = [tmp_path / f"{k:04d}" for k in range(1000)]
    for path in paths:
        path.write_bytes(data)
    began = time.monotonic()
    assert len(ArrayRecords([str(path) for path in paths])) == 9000
    assert time.monotonic() - began < 5
