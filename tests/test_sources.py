"""Data strings, folders and shards: what is found, in which order, under which name, and what a mistake is answered."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import Numbered, encoded, smooth, write_tar

from abx.data import patterns
from abx.data.patterns import expand_braces
from abx.data.schemes.folder import Folder
from abx.data.schemes.scenes import Scenes
from abx.data.sources import Names, Source, SpecError, first_usable, printable
from abx.data.specs import check_spec, open_source
from abx.probes.tasks import Classification

PNG = encoded(smooth(4, 6), "PNG")


def grey(level: int) -> bytes:
    return encoded(np.full((3, 5, 3), level, np.uint8), "PNG")


def levels(source: Source) -> list[int]:
    """The grey of each record, which tells files apart."""
    return [int(source[i].image[0, 0, 0]) for i in range(len(source))]


def put(root: Path, *names: str) -> None:
    """Files with grey 0, 1, ... in the order given."""
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(grey(level))


# --- the data string ---


def test_scenes_have_two_splits():
    assert isinstance(open_source("scenes"), Scenes)
    assert [len(open_source(spec)) for spec in ("scenes", "scenes:train", "scenes:test")] == [100_000, 100_000, 10_000]


def test_every_scheme_gives_a_source(tmp_path: Path):
    put(tmp_path, "a.png")
    write_tar(tmp_path / "s.tar", {"x.png": grey(7)})
    for spec in ("scenes", f"folder:{tmp_path}", f"tar:{tmp_path}/s.tar"):
        assert isinstance(open_source(spec), Source)
        assert check_spec(spec) is None


def test_tilde_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "data/a.png")
    write_tar(tmp_path / "s.tar", {"x.png": grey(7)})
    assert len(open_source("folder:~/data")) == 1
    assert len(open_source("tar:~/nothing.tar::~/s.tar")) == 1


@pytest.mark.parametrize(
    ("pattern", "order"),
    [
        ("*.tar", [1, 2, 3, 10, 0]),
        ("s-00?.tar", [1, 2, 3, 10]),
        ("s-00[12].tar", [1, 2]),
        ("s-{003,001}.tar", [3, 1]),
        ("s-{001..003}.tar", [1, 2, 3]),
        ("s-{003..001}.tar", [3, 2, 1]),
        ("{t,s-00{2,1}}.tar", [0, 2, 1]),
        ("s-002.tar::s-*1.tar", [2, 1]),
        ("s-002.tar::s-00*.tar", [2, 1, 3, 10]),
        ("**/s-00[3-9].tar", [3]),
    ],
)
def test_shards_come_in_the_order_of_the_pattern(pattern: str, order: list[int], tmp_path: Path):
    names = {0: "t", 1: "s-001", 2: "s-002", 3: "s-003", 10: "s-00a"}
    for level, name in names.items():
        write_tar(tmp_path / f"{name}.tar", {"x.png": grey(level)})
    spec = "tar:" + "::".join(f"{tmp_path}/{part}" for part in pattern.split("::"))
    assert levels(open_source(spec)) == order


def test_a_file_may_have_braces_and_stars_in_its_name(tmp_path: Path):
    write_tar(tmp_path / "{1,2}*[3].tar", {"x.png": grey(9)})
    assert levels(open_source(f"tar:{tmp_path}/{{1,2}}*[3].tar")) == [9]


@pytest.mark.parametrize("missing", ["no.tar", "no-*.tar", "{no,a}.tar"])
def test_a_part_that_names_nothing_is_listed(missing: str, tmp_path: Path):
    """Half of the data must not go missing without a word."""
    write_tar(tmp_path / "a.tar", {"x.png": PNG})
    source = open_source(f"tar:{tmp_path}/a.tar::{tmp_path}/{missing}")
    assert len(source) == 1
    name = str(tmp_path / missing.replace("{no,a}", "no"))
    assert source.problems == ((name, "cannot be read: No such file or directory"),)


def test_braces_as_in_a_shell():
    assert expand_braces("a{1,2}{x,y}") == ["a1x", "a1y", "a2x", "a2y"]
    assert expand_braces("{b{1,2},a}") == ["b1", "b2", "a"]
    assert expand_braces("{8..11}") == ["8", "9", "10", "11"]
    assert expand_braces("{0..10..}{x}{}") == ["{0..10..}{x}{}"]
    assert expand_braces("{0..10}") == [str(n) for n in range(11)]
    assert expand_braces("{08..11}") == ["08", "09", "10", "11"]
    assert expand_braces("{1..003}") == ["001", "002", "003"]
    assert expand_braces("{,x}y") == ["y", "xy"]
    assert expand_braces("{a,b") == ["{a,b"]
    assert expand_braces("{z{1..2}}") == ["{z1}", "{z2}"]


@pytest.mark.parametrize("pattern", ["{1..1001}", "{1..9999}{1..9999}{1..9999}", "{0..99999999999999999999}"])
def test_absurd_ranges_are_refused_before_they_fill_the_memory(pattern: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patterns, "MAX_SHARDS", 1000)
    assert len(expand_braces("{1..10}{1..100}")) == 1000
    with pytest.raises(SpecError, match="more than 1000 files; shorten"):
        expand_braces(pattern)


@pytest.mark.parametrize("pattern", ["{0..%s}", "{%s..%s}", "a{0..1}b{%s..1}", "{0..0%s}"])
def test_absurd_numbers_are_refused(pattern: str):
    long = "1" * 5000
    with pytest.raises(SpecError, match=r"500[01] digits, more than 30; shorten it") as wrong:
        expand_braces(pattern.replace("%s", long))
    assert len(str(wrong.value)) < 300
    assert expand_braces(f"{{{long[:30]}..{long[:30]}}}") == [long[:30]]


def test_absurd_nesting_is_refused():
    for pattern in ("{a," * 3000 + "}" * 3000, "}" * 3000 + "{a," * 3000 + "}" * 3000):
        with pytest.raises(SpecError, match="nested more than 100 deep"):
            expand_braces(pattern)
    assert len(expand_braces("{a," * 100 + "}" * 100)) == 101


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "data is "),
        ("scene", "did you mean 'scenes'?"),
        ("Folder:x", "did you mean 'folder:x'?"),
        ("scenes:", "names nothing"),
        ("scenes:val", "write scenes or scenes:test, not scenes:val"),
        ("folder", "names nothing"),
        ("tar:", "names nothing"),
        ("HERE/pictures", "needs a scheme: write folder:HERE/pictures"),
        ("HERE/shards/a.tar", "needs a scheme: write tar:HERE/shards/a.tar"),
        ("HERE/shards/*.tar", "needs a scheme: write tar:HERE/shards/*.tar"),
        ("HERE/pictures/a.png", "needs a scheme"),
        ("a:b.tar", "'a:b.tar' needs a scheme: write tar:a:b.tar"),
        ("folder:HERE/pitcures", "does not exist: did you mean HERE/pictures?"),
        ("folder:HERE/zzz/deeper/still", "does not exist: HERE exists, but has no zzz"),
        ("folder:HERE/pictures/a.png", "is a file, not a folder: name the folder that holds it"),
        ("folder:HERE/shards/a.tar", "is a file, not a folder: write tar:HERE/shards/a.tar"),
        ("folder:HERE/dangling", "does not exist: HERE/dangling is a broken link"),
        ("tar:HERE/shards", "is a folder: write tar:HERE/shards/*.tar, or folder:HERE/shards"),
        ("tar:HERE/shards/b.tar", "matches no file: did you mean HERE/shards/a.tar?"),
        ("tar:HERE/shrads/a.tar", "matches no file: did you mean HERE/shards?"),
        ("tar:HERE/none/{000..010}.tar", "matches no file: HERE exists, but has no none"),
        ("tar:HERE/fifo", "matches no file: HERE/fifo is neither a file nor a folder"),
        ("0.75*folder:HERE/no + 0.25*scenes", "folder:HERE/no does not exist"),
        ("0.75*scenes + 0.25*scenes:val", "write scenes or scenes:test, not scenes:val"),
        ("folder:HERE/pictures + 0.5*scenes", "'folder:HERE/pictures' needs a weight: write 0.5*folder:HERE/pictures"),
        ("0*scenes + 1*scenes", "the weight of scenes must be a positive number, not 0"),
        ("-1*scenes + 1*scenes", "the weight of scenes must be a positive number, not -1"),
        ("folder:HERE/\0", "does not exist"),
        ("tar:{0..%s}.tar" % ("9" * 5000), "has 5000 digits"),
        ("webdataset:HERE/shards/a.tar", "did you mean 'tar:HERE/shards/a.tar'?"),
        ("webdataset:x-{0..9}.tar", "or tar:GLOB, not 'webdataset:x-{0..9}.tar'; did you mean 'tar:x-{0..9}.tar'?"),
        ("hf:x.parquet", "did you mean 'parquet:x.parquet'?"),
        ("HERE/shards/a:b.tar", "needs a scheme: write tar:HERE/shards/a:b.tar"),
        ("file:///x/a.tar", "did you mean 'tar:///x/a.tar'?"),
        ("s3://bucket/x", "is not on this machine: abx data prepare makes shards of it"),
        ("s3://bucket/x.tar", "s3://bucket/x.tar is not on this machine"),
        ("tar:s3://b/{0..9}.tar", "tar:s3://b/{0..9}.tar is not on this machine: abx data prepare makes shards of it"),
        ("tar:HERE/shards/a.tar::s3://b/a.tar", "is not on this machine"),
        ("folder:gs://bucket/x", "is not on this machine"),
        ("arrayrecord:https://host/x.arrayrecord", "is not on this machine"),
        ("parquet:hf://datasets/x/*.parquet,image=img", "is not on this machine"),
        ("scenes:s3://x", "write scenes or scenes:test"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path, "pictures/a.png")
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "a.tar", {"x.png": PNG})
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tar(Path("a:b.tar"), {"x.png": PNG})
    spec, said = (text.replace("HERE", str(tmp_path)) for text in (spec, said))
    with pytest.raises(SpecError) as wrong:
        open_source(spec)
    assert said in str(wrong.value)
    assert str(wrong.value).isprintable()
    assert check_spec(spec) == str(wrong.value)


def test_nothing_to_read_is_one_sentence(tmp_path: Path):
    """What only indexing can tell: `check_spec` lets it pass."""
    (tmp_path / "empty").mkdir()
    put(tmp_path, "hidden/.a.png", "words/readme.txt")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.jpg").symlink_to("nowhere")
    write_tar(tmp_path / "words.tar", {"a.txt": b"no picture"})
    for spec, why in {
        "folder:HERE/empty": "holds no pictures",
        "folder:HERE/hidden": "holds no pictures",
        "folder:HERE/words": "holds no pictures",
        "folder:HERE/links": "holds no pictures (HERE/links/a.jpg: a broken link)",
        "tar:HERE/words.tar": "holds no pictures (HERE/words.tar:a: no picture among its parts (txt))",
        "tar:HERE/words/readme.txt": "not a tar",
    }.items():
        here = spec.replace("HERE", str(tmp_path))
        assert check_spec(here) is None
        with pytest.raises(SpecError) as wrong:
            open_source(here)
        assert why.replace("HERE", str(tmp_path)) in str(wrong.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path):
    tmp_path.chmod(0)
    try:
        assert "change its permissions" in check_spec(f"folder:{tmp_path}")
    finally:
        tmp_path.chmod(0o700)


def test_first_usable_passes_over_the_bad():
    assert first_usable(Numbered(9, bad=(0, 1))).image[0, 0, 0] == 2
    with pytest.raises(SpecError, match="none of the first 5 images could be read; the first: numbered/0: cracked"):
        first_usable(Numbered(9, bad=tuple(range(9))), limit=5)
    with pytest.raises(SpecError, match="none of the first 9 images"):
        first_usable(Numbered(9, bad=tuple(range(9))))


# --- names ---


@given(st.lists(st.binary(max_size=9)))
def test_names_are_a_list_of_bytes(names: list[bytes]):
    kept = pickle.loads(pickle.dumps(Names(names)))
    assert [kept[i] for i in range(len(kept))] == names
    for outside in (-1, len(names)):
        with pytest.raises(IndexError):
            kept[outside]


def test_a_million_names_are_small_to_send():
    names = Names(f"{n:012d}.jpg".encode() for n in range(100_000))
    assert len(pickle.dumps(names)) < 100_000 * (16 + 8) + 1000


@given(st.binary())
def test_any_name_prints_on_one_line(name: bytes):
    assert printable(os.fsdecode(name)).isprintable()


def test_printable_escapes_and_keeps():
    assert printable("naïve 图像 🐱") == "naïve 图像 🐱"
    assert printable("a\nb\tc\x1b[2J\u202e") == r"a\nb\tc\x1b[2J\u202e"
    assert printable(os.fsdecode(b"p\xeache")) == r"p\xeache"


# --- folders ---


def test_folder_finds_pictures_at_any_depth_in_the_order_of_bytes(tmp_path: Path):
    names = ["B.png", "Z/y.PNG", "a b/x.png", "a/b/c.jpeg", "noext", "é.png", "图.webp"]
    put(tmp_path, *names)
    put(tmp_path, "notes.txt", "labels.csv", "x.json")
    (tmp_path / "README").write_text("no picture by its first bytes")
    source = Folder(str(tmp_path))
    assert [source.name(i) for i in range(len(source))] == [f"{tmp_path}/{name}" for name in names]
    assert levels(source) == list(range(len(names)))
    assert source.problems == ()
    for outside in (-1, len(names)):
        with pytest.raises(IndexError):
            source[outside]
        with pytest.raises(IndexError):
            source.name(outside)


def test_folder_leaves_the_hidden_out(tmp_path: Path):
    put(tmp_path, "a.png", ".b.png", "._a.png", ".cache/c.png", "d/.e.png")
    assert levels(Folder(str(tmp_path))) == [0]


def test_folder_names_that_are_no_text(tmp_path: Path):
    for level, name in enumerate([b"bad\xff.png", b"new\nline.png", b"tab\t.png"]):
        (Path(os.fsdecode(os.fsencode(tmp_path))) / os.fsdecode(name)).write_bytes(grey(level))
    source = Folder(str(tmp_path))
    assert levels(source) == [0, 1, 2]
    assert [source.name(i)[len(str(tmp_path)) + 1 :] for i in range(3)] == [
        r"bad\xff.png",
        r"new\nline.png",
        r"tab\t.png",
    ]


def test_folder_follows_links_once(tmp_path: Path):
    """To a file, to a folder outside, back to the top, and twice to the same: each folder is read once."""
    put(tmp_path, "outside/a.png", "data/real/b.png", "data/c.png")
    for name, to in {
        "file.png": "c.png",
        "again": "../outside",
        "zagain": "../outside",
        "loop": ".",
        "real/up": "..",
        "alias": "real",
        "0real": "real",
    }.items():
        (tmp_path / "data" / name).symlink_to(to)
    source = Folder(str(tmp_path / "data"))
    names = [source.name(i)[len(str(tmp_path)) + 6 :] for i in range(len(source))]
    assert names == ["again/a.png", "c.png", "file.png", "real/b.png"]
    assert {name[len(str(tmp_path)) + 6 :] for name, _ in source.problems} == {
        "0real",
        "alias",
        "loop",
        "real/up",
        "zagain",
    }
    assert {reason for _, reason in source.problems} == {"a link to a folder that is read already"}


def test_a_loop_of_links_ends(tmp_path: Path):
    put(tmp_path, "a.png")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    source = Folder(str(tmp_path))
    assert len(source) == 1
    assert [os.path.basename(name) for name, _ in source.problems] == ["one", "two"]


def test_class_folders_are_labels(tmp_path: Path):
    put(tmp_path, "dog/1.png", "cat/1.png", "cat/2.png", "ant\n/x.png")
    source = Folder(str(tmp_path))
    assert source.classes == (r"ant\n", "cat", "dog")
    assert [(source[i].label, int(source[i].image[0, 0, 0])) for i in range(4)] == [(0, 3), (1, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(
    "names", [("a.png", "b.png"), ("one/a.png",), ("a/1.png", "b/2.png", "top.png"), ("a/1.png", "b/deep/2.png")]
)
def test_without_class_folders_there_are_no_labels(names: tuple[str, ...], tmp_path: Path):
    put(tmp_path, *names)
    source = Folder(str(tmp_path))
    assert source.classes == ()
    assert {source[i].label for i in range(len(source))} == {-1}


def test_one_folder_alone_is_no_class_and_that_is_said(tmp_path: Path):
    put(tmp_path, "cats\n/1.png", "cats\n/2.png")
    source = Folder(str(tmp_path))
    assert source.classes == ()
    said = r"folders are no classes: there is one alone, cats\n, and a class needs another"
    assert source.notes == (said,)
    assert Classification().check(source, source)[0].endswith(f"looked at); {said}")


@pytest.mark.parametrize("stray", ["top.png", "b/deep/2.png"])
def test_a_picture_that_takes_all_labels_is_named(stray: str, tmp_path: Path):
    put(tmp_path, "a/1.png", "b/2.png", stray)
    reason = f"folders are no classes: 1 of 3 pictures do not lie exactly one folder down, e.g. {tmp_path}/{stray}"
    source = Folder(str(tmp_path))
    assert (source.notes, source.problems) == ((reason,), ())


@pytest.mark.parametrize("names", [("a/1.png", "a/2.png", "top.png"), ("a/1.png", "b/2.png", "c.png", "d.png")])
def test_folders_that_were_hardly_meant_as_classes_are_passed_over(names: tuple[str, ...], tmp_path: Path):
    put(tmp_path, *names)
    assert Folder(str(tmp_path)).notes == ()


def test_folders_pickle(tmp_path: Path):
    put(tmp_path, "cat/a.png", "dog/b.png")
    source = Folder(str(tmp_path))
    copy = pickle.loads(pickle.dumps(source))
    assert levels(copy) == [0, 1]
    assert (copy.classes, copy.problems, copy.name(1)) == (source.classes, source.problems, source.name(1))
