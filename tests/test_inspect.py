"""`abx data inspect`: figures are those counted by hand, by any number of processes; the page trusts no text."""

import json
import os
import pickle
import re
import tarfile
import tracemalloc
from collections import Counter
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import Numbered, encoded, smooth, write_tar
from PIL import Image

from abx.analysis.inspect import choose, page
from abx.analysis.survey import lines, ratios, reasons, short_sides, warnings
from abx.boxes import quantize, relative_boxes
from abx.cli.data.inspect import Inspect
from abx.data.mixture import Mixture
from abx.data.schemes.folder import Folder
from abx.data.schemes.scenes import Scenes
from abx.data.sources import BadRecord, decoded
from abx.data.specs import open_source
from abx.data.survey import Spread, Survey, spread, survey
from abx.data.tally import Tally, format_of
from abx.data.views import RandomCrops
from abx.types import CROWD, DIFFICULT, Objects, Record, Sample, Vocabulary

ZOO = Path(__file__).parents[2] / "shared" / "zoo"
HOSTILE = "<script>alert('x')</script>\" onload=\"y & \u202e\n z"


class Told:
    """A `Source` of given records; None is one that cannot be read."""

    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(
        self, records: list[Record | None], classes: tuple[str, ...] = (), vocabulary: Vocabulary = Vocabulary()
    ) -> None:
        self.records, self.classes, self.vocabulary = records, classes, vocabulary

    def __len__(self) -> int:
        return len(self.records)

    def stored(self, i: int) -> Record:
        record = self.records[i]
        if record is None:
            raise BadRecord(f"byte {i} is cracked")
        return record

    def __getitem__(self, i: int) -> Sample:
        return decoded(self.stored(i))

    def name(self, i: int) -> str:
        return f"told/{i}"


TALL, WIDE = smooth(60, 30), smooth(20, 80)
BOXES = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 1, 0.9]], np.float32)
TOLD = Told(
    [
        Record(encoded(TALL), 0, ("a cat", "two dogs here"), Objects(BOXES, np.array([1, 1]))),
        Record(encoded(TALL, "PNG"), 0, ("a cat",), Objects(BOXES, np.array([0, 1]), np.array([CROWD, 6], np.uint8))),
        Record(encoded(TALL), 2, ("a cat", "a cat", "lonely"), Objects(BOXES[:0], np.zeros(0, np.int64))),
        None,
        Record(b"nothing", 1, ("a cat",)),
        Record(WIDE, -1, (), None, 3, 2.5, verb=1, noun=0),
        Record(encoded(WIDE, "GIF"), 2, ("two dogs here", ""), count=5, distance=1.5, verb=1),
    ],
    ("cat", "dog", "cow"),
    Vocabulary(("head", "tail"), ("wash", "cut"), ("egg",)),
)


def test_figures_are_those_counted_by_hand():
    found = survey(TOLD)
    assert (found.records, found.read, found.readable) == (7, 7, 5)
    assert found.rejected.keys() == {"told/3", "told/4"}
    assert found.rejected["told/3"] == "byte 3 is cracked"
    assert found.formats == {"JPEG": 2, "PNG": 1, "unknown": 1, "drawn": 1, "GIF": 1}
    assert found.sizes == {(60, 30): 3, (20, 80): 2}
    stored = [len(TOLD.records[i].image) for i in (0, 1, 2, 6)]
    assert found.mean_bytes == sum(stored) / 4
    assert found.copies == 1
    assert found.classes == (("cat", 2), ("dog", 0), ("cow", 2))
    assert found.captions == {2: 2, 1: 1, 3: 1, 0: 1}
    assert found.words == {2: 4, 3: 2, 1: 1, 0: 1}
    # "a cat" is said of three pictures, twice of one of them; "two dogs here" of the first and the last.
    assert found.repeated == 4
    assert found.most_repeated == (("a cat", 3), ("two dogs here", 2))
    assert found.boxes == {2: 2, 0: 1}
    assert found.box_classes == (("head", 1), ("tail", 3))
    assert (found.flagged, dict(found.flags)) == (2, {"crowd": 1, "difficult": 1, "truncated": 1})
    assert found.counts == {3: 1, 5: 1}
    assert (found.verbs, found.nouns) == ((("wash", 0), ("cut", 2)), (("egg", 1),))
    assert (found.distanced, found.distance) == (2, Spread(1.5, 1.5, 2.5))
    assert short_sides(found) == [("1-31", 5)]
    assert [each for each in ratios(found) if each.count] == [("1:2 to 2:3", 3), ("3:1 and up", 2)]


@given(st.lists(st.booleans(), min_size=len(TOLD) - 1, max_size=len(TOLD) - 1))
def test_parts_add_up_to_the_whole(cuts: list[bool]):
    whole, together, part = Tally(), Tally(), Tally()
    for i in range(len(TOLD)):
        whole.add(TOLD, i)
        part.add(TOLD, i)
        if i == len(TOLD) - 1 or cuts[i]:
            together += pickle.loads(pickle.dumps(part))
            part = Tally()
    assert together == whole
    assert together.seconds >= 0


def test_processes_change_nothing(tmp_path):
    for i in range(600):
        picture = encoded(np.full((8 + i % 5, 9, 3), i % 250, np.uint8), "PNG")
        (tmp_path / f"{i:03}.png").write_bytes(picture if i % 100 else picture[:40])
    source = Folder(str(tmp_path))
    one, seen = survey(source), []
    two = survey(source, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert one == two
    assert len(one.rejected) == 6
    assert list(one.rejected) == list(two.rejected)
    assert seen == [(256, 600), (512, 600), (600, 600)]
    assert two.rate > 0


def test_turned_pictures_are_counted_upright():
    files = []
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(Record(encoded(TALL, exif=exif)))
    found = survey(Told([*files, Record(encoded(TALL))]))
    assert found.turned == 7
    assert found.sizes == {(60, 30): 7, (30, 60): 4}


def test_limit_is_an_even_choice():
    found = survey(Told([Record(smooth(8, 8), i) for i in range(100)], tuple(map(str, range(100)))), limit=10)
    assert (found.records, found.read) == (100, 10)
    assert [int(each.name) for each in found.classes if each.count] == list(range(0, 100, 10))
    assert "10 looked at" in dict(lines(found))["records"]
    assert not any("no picture" in warning for warning in warnings(found))
    assert survey(Numbered(5), limit=10).read == 5


def test_memory_does_not_grow_with_the_pictures():
    class Large(Numbered):
        def stored(self, i: int) -> Record:
            return Record(np.full((400, 500, 3), i % 256, np.uint8))

    tracemalloc.start()
    found = survey(Large(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sizes == {(400, 500): 100}
    assert peak < 5 * 400 * 500 * 3


@settings(max_examples=200)
@given(st.lists(st.integers(-5, 300), min_size=1))
def test_spread_is_that_of_the_sorted_numbers(numbers: list[int]):
    ranked = sorted(numbers)
    assert spread(Counter(numbers)) == (ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1])
    assert spread(Counter[int]()) is None


def test_formats_are_told_by_content():
    kinds = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF", "PPM": "PPM"}
    for form, name in kinds.items():
        assert format_of(encoded(TALL, form)) == name
    assert format_of(b"") == "empty"
    assert format_of(b"RIFF\0\0\0\0WAVE") == "unknown"
    assert format_of(b"\0\0\0 ftypavif") == "AVIF"


def records(labels: list[int], caption: str = "number {}", alike: int = 1) -> list[Record | None]:
    """As many records; so many in a row have the same picture."""
    return [
        Record(np.full((8, 8, 3), i // alike, np.uint8), label, (caption.format(i),)) for i, label in enumerate(labels)
    ]


def told(source: Told) -> str:
    return "\n".join(warnings(survey(source)))


def test_warns_of_what_spoils_training_and_of_nothing_else():
    fair = [i % 4 for i in range(100)]
    names = ("a", "b", "c", "d")
    assert told(Told(records(fair), names)) == ""
    assert "1 of 5 classes have no picture" in told(Told(records(fair), (*names, "e")))
    assert "largest has 85 pictures and the smallest 5" in told(
        Told(records([min(i // 5, 3) for i in range(100)]), names)
    )
    assert "equal captions" in told(Told(records(fair, "the same"), names))
    assert "equal captions" not in told(Told(records(fair)[:95] + records([0] * 4, "four times"), names))
    assert "byte for byte" in told(Told(records(fair, alike=2), names))
    assert "2 of 102 (1.96 %) of the records cannot be read" in told(Told([*records(fair), None, None], names))
    assert "cannot be read" not in told(Told([*records(fair), None], names))


def test_reasons_are_grouped_and_exact_where_they_can_be():
    found = survey(Told([None, None, Record(b"junk"), Record(smooth(8, 8))]))
    (many, names), (one, name) = reasons(found)
    assert (many, names) == ("byte ... is cracked", ["told/0", "told/1"])
    assert one.endswith("starts with b'junk'")
    assert name == ["told/2"]


def test_problems_of_the_index_are_rejected_too(tmp_path):
    write_tar(tmp_path / "a.tar", {"x.jpg": encoded(TALL), "y.txt": b"alone", "z.jpg": b"cut"})
    found = survey(open_source(f"tar:{tmp_path}/a.tar"))
    assert (found.read, found.readable, len(found.rejected)) == (2, 1, 2)
    assert any("no picture" in reason for reason in found.rejected.values())


def test_a_mixture_is_surveyed_by_names():
    left, right = Told([Record(TALL, 0)], ("cat",)), Told([Record(WIDE, 1), None], ("dog", "cat"))
    found = survey(Mixture([left, right], [Fraction(1), Fraction(1)]))
    assert found.classes == (("cat", 2), ("dog", 0))
    assert found.readable == 2


@pytest.mark.skipif(not (ZOO / "zoo.tar").is_file(), reason="the zoo is not here")
def test_the_zoo_is_counted_as_its_manifest_says(tmp_path):
    with tarfile.open(ZOO / "zoo.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    source = open_source(f"folder:{tmp_path}")
    found = survey(source)
    rejected = {str(Path(name).relative_to(tmp_path)) for name in found.rejected}
    entries = {entry["file"]: entry["expect"] for entry in json.loads((ZOO / "manifest.json").read_text())["files"]}
    names = {str(Path(source.name(i)).relative_to(tmp_path)) for i in range(len(source))}
    assert {name for name in names if entries.get(name) == "reject"} <= rejected
    assert not {name for name in names if entries.get(name) == "decode"} & rejected
    assert found.readable == len(source) - len(rejected) > 40


class Page(HTMLParser):
    """Tags, and the text of every table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "\n"

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(source: Told | Scenes, crops: RandomCrops, samples: int = 2, limit: int = 20) -> tuple[str, list]:
    shown = choose(source, crops, samples)
    return page(HOSTILE, survey(source, limit), shown, source.classes, source.vocabulary), shown


def test_page_needs_nothing_and_obeys_nobody():
    vocabulary = Vocabulary((HOSTILE,), (HOSTILE,), (HOSTILE,))
    boxes = Objects(BOXES, np.array([0, 7]), np.array([DIFFICULT, 0], np.uint8))
    source = Told([Record(TALL, 0, (HOSTILE, "\ud800 é"), boxes, verb=0, noun=0), None], (HOSTILE,), vocabulary)
    source.name = lambda i: f"{i}<img src=http://x>"
    source.problems, source.notes = ((HOSTILE, HOSTILE),), (f"of note: {HOSTILE}",)
    text, _ = page_of(source, RandomCrops(2, 16))
    text.encode()
    parsed = Page(text)
    assert not {tag for tag, _ in parsed.tags} & {"script", "iframe", "object", "embed", "link", "base", "form", "a"}
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:image/").startswith("data:image/"), (tag, attributes)
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "\u202e" not in text
    assert "<script>alert('x')</script>" in parsed.text
    assert "class: <script>" in parsed.text
    assert "of note: <script>" in parsed.text
    assert "(difficult)" in parsed.text


def test_page_says_the_actions_that_training_takes():
    crops = RandomCrops(3, 32)
    text, shown = page_of(Scenes(), crops)
    tables = re.findall(r'<table class="actions">.*?</table>', text, re.DOTALL)
    assert len(tables) == len(shown) == 2
    for table, (name, sample, views) in zip(tables, shown, strict=True):
        assert name in text
        cells = re.findall(r'<td>([^<]*)<br><span class="tokens">([^<]*)</span></td>', table)
        said = np.array([[float(v) for v in numbers.split()] for numbers, _ in cells]).reshape(3, 3, 4)
        actions = relative_boxes(views.boxes)
        np.testing.assert_allclose(said, actions, atol=0.00501)
        tokens = np.array([[int(v) for v in ids.split()] for _, ids in cells]).reshape(3, 3, 4)
        np.testing.assert_array_equal(tokens, quantize(actions))
        # The views are those of the boxes that are drawn.
        y0, x0, y1, x1 = (views.boxes[0] * 96).round().astype(int)
        cut = sample.image[y0:y1, x0:x1].astype(float)
        assert np.abs(views.images[0].mean((0, 1)) - cut.mean((0, 1))).max() < 4


def test_choice_is_fixed_by_the_seed_and_passes_over_what_cannot_be_read():
    crops = RandomCrops(2, 16)
    source = Told([None if i % 2 else Record(smooth(20 + i, 30), i) for i in range(40)])
    once, again, other = (choose(source, crops, 5, seed) for seed in (0, 0, 1))
    assert [each.name for each in once] == [each.name for each in again]
    assert all((a.views.images == b.views.images).all() for a, b in zip(once, again, strict=True))
    assert [each.name for each in once] != [each.name for each in other]
    assert len({each.name for each in once}) == 5
    assert all(int(each.name.partition("/")[2]) % 2 == 0 for each in once)
    assert choose(Told([None] * 3), crops, 5) == []


def run(capsys: pytest.CaptureFixture[str], verb: Inspect) -> tuple[int, str, str]:
    code = 0
    try:
        verb()
    except SystemExit as end:
        code = int(str(end.code))
    out, err = capsys.readouterr()
    return code, out, err


def test_verb_says_and_writes(tmp_path, capsys):
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(encoded(smooth(30, 40 + i)))
    (tmp_path / "bad\n.jpg").write_bytes(b"no")
    spec, out = f"folder:{tmp_path}", tmp_path / "page.html"
    code, said, err = run(capsys, Inspect(spec, out, n=2, size=16, json=True))
    assert (code, err) == (0, "")
    last = json.loads(said.splitlines()[-1])
    assert list(last) == ["images", "readable", "rejected"]
    assert (last["images"], last["readable"]) == (5, 4)
    assert list(last["rejected"]) == [f"{tmp_path}/bad\\n.jpg"]
    assert f"written: {out}" in said
    assert "1 of 5 (20 %) of the records cannot be read" in said
    assert len(said.splitlines()) < 40
    assert out.read_text().count('<section class="sample">') == 4


def test_verb_ends_well_when_all_is_bad(tmp_path, capsys):
    for i in range(300):
        (tmp_path / f"{i}.jpg").write_bytes(b"%d is no picture" % i)
    code, said, err = run(capsys, Inspect(f"folder:{tmp_path}", page=False, json=True))
    assert code == 1
    assert len(said.splitlines()) < 40
    last = json.loads(said.splitlines()[-1])
    assert (last["images"], last["readable"], len(last["rejected"])) == (300, 0, 300)
    assert err.startswith(f"error: none of the 300 images could be read; the first: {tmp_path}/0.jpg: ")
    assert err.count("\n") == 1
    out = tmp_path / "page.html"
    assert run(capsys, Inspect(f"folder:{tmp_path}", out))[0] == 1
    assert "300 rejected" in Page(out.read_text()).text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"spec": "folder:/nowhere/at/all"}, "does not exist"),
        ({"limit": -1}, "--limit must be at least 0"),
        ({"workers": -1}, "--workers must be at least 0"),
        ({"scale": (0.0, 0.5)}, "--scale must be"),
        ({"n": 0}, "--n must be"),
        ({"out": Path("/nowhere/at/all.html")}, "--out /nowhere/at/all.html lies in /nowhere/at, which does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(flags, words, capsys):
    code, said, err = run(capsys, Inspect(**{"spec": "scenes", "limit": 3, "page": "out" in flags, **flags}))
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert words in err


def test_all_mistakes_are_told_at_once(capsys):
    flags = {"limit": -1, "workers": -2, "n": 0, "samples": -3}
    code, said, err = run(capsys, Inspect("folder:/nowhere/at/all", page=False, **flags))
    assert (code, said, err.count("\n")) == (2, "", 1)
    for words in ("/nowhere/at/all does not exist", "--n must be", "--limit", "--workers", "--samples"):
        assert words in err
    assert err.count("; ") == 4


def test_no_number_of_workers_is_one_for_each_core(capsys, monkeypatch):
    asked = []

    def counted(source, limit, workers, progress):
        asked.append(workers)
        return survey(source, limit)

    monkeypatch.setattr("abx.cli.data.inspect.survey", counted)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    for workers in (0, 1, 3):
        assert run(capsys, Inspect("scenes", limit=2, workers=workers, page=False))[0] == 0
    assert asked == [7, 1, 3]


@pytest.mark.parametrize(
    ("spec", "rejected"),
    [
        ("tar:zero_bytes.tar", {"zero_bytes.tar": "is empty"}),
        ("tar:not_a_tar.tar", {"not_a_tar.tar": "not a tar"}),
        ("tar:long.tar", {"long.tar": "not a tar"}),
        ("tar:empty.tar", {}),
        ("tar:unlabelled.tar", {"unlabelled.tar:x": "its class is no number from 0 to 999999: b'cat'"}),
        ("folder:nothing", {}),
        ("folder:rubbish", {}),
        ("parquet:not_a_tar.tar", {"not_a_tar.tar": None}),
        ("1*folder:nothing", {}),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_where_there_is_nothing_to_look_at_json_says_so(spec, rejected, workers, tmp_path, capsys, monkeypatch):
    (tmp_path / "zero_bytes.tar").touch()
    (tmp_path / "not_a_tar.tar").write_bytes(b"just some text")
    (tmp_path / "long.tar").write_bytes(b"just some text" * 100)
    write_tar(tmp_path / "empty.tar", {})
    write_tar(tmp_path / "unlabelled.tar", {"x.jpg": encoded(TALL), "x.cls": b"cat"})
    (tmp_path / "nothing").mkdir()
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "a.txt").write_text("words")
    monkeypatch.chdir(tmp_path)
    code, said, err = run(capsys, Inspect(spec, tmp_path / "page.html", json=True, workers=workers))
    last = json.loads(said.splitlines()[-1])
    assert code == 1
    assert (last["images"], last["readable"]) == (len(rejected), 0)
    got = {name.removeprefix(f"{tmp_path}/"): reason for name, reason in last["rejected"].items()}
    assert got == {name: reason or got[name] for name, reason in rejected.items()}
    assert err.startswith(f"error: {spec} holds no pictures")
    assert err.count("\n") == 1
    assert (tmp_path / "page.html").is_file()


def test_images_are_the_readable_and_the_rejected(tmp_path, capsys):
    """Also those of one name, and what indexing left out, however few are looked at."""
    members = [("a.jpg", b"cut"), ("b.txt", b"alone"), ("a.jpg", b"cut"), ("c.cls", b"1"), ("b.txt", b"again")]
    members += [(f"{k}.jpg", encoded(TALL)) for k in range(8)]
    write_tar(tmp_path / "s.tar", members)
    for limit, images in ((0, 13), (None, 13), (5, 8)):
        _, said, _ = run(capsys, Inspect(f"tar:{tmp_path}/s.tar", limit=limit, page=False, json=True))
        last = json.loads(said.splitlines()[-1])
        assert last["images"] == last["readable"] + len(last["rejected"]) == images
        if limit != 5:
            assert [name.partition("s.tar:")[2] for name in last["rejected"]] == ["b", "c", "b #2", "a", "a #2"]


def test_a_name_that_looks_like_a_second_one_takes_nothing_from_it():
    source = Told([None, None, None, None])
    source.name = lambda i: ("x #2", "x", "x", "x #2")[i]
    assert list(survey(source).rejected) == ["x #2", "x", "x #3", "x #2 #2"]


def test_of_drawn_pictures_a_thousand_are_looked_at_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("abx.data.survey.DRAWN", 10)
    drawn, files = Numbered(40), Told([Record(encoded(smooth(8, 8)))] * 30)
    assert [survey(drawn, limit).read for limit in (None, 0, 20)] == [10, 40, 20]
    assert survey(files, None).read == 30
    mixed = Mixture([drawn, files, Numbered(4)], [Fraction(1), Fraction(1), Fraction(1)])
    found = survey(mixed, None)
    assert (found.records, found.read, found.formats) == (74, 44, {"JPEG": 30, "drawn": 14})
    assert found == survey(mixed, None)
    assert survey(mixed, 20).read == 20


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    assert run(capsys, Inspect("scenes", limit=600, page=False))[2] == ""
    monkeypatch.setattr("abx.cli.data.inspect.EVERY", 0.0)
    assert run(capsys, Inspect("scenes", limit=600, page=False))[2].splitlines() == [
        "256 of 600 records", "512 of 600 records", "600 of 600 records",
    ]  # fmt: skip


def test_a_folder_without_its_classes_is_not_said_to_be_rejected(tmp_path, capsys):
    for name in ("cat/1.jpg", "dog/2.jpg", "stray.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(smooth(30, 40)))
    _, said, _ = run(capsys, Inspect(f"folder:{tmp_path}", page=False, json=True))
    assert "  note: folders are no classes: 1 of 3 pictures" in said
    last = json.loads(said.splitlines()[-1])
    assert (last["images"], last["readable"], last["rejected"]) == (3, 3, {})


def test_nothing_is_said_of_what_there_is_not():
    found: Survey = survey(Numbered(6))
    headings = [line.heading for line in lines(found)]
    assert not {"boxes", "counts", "distances", "verbs", "a file has"} & set(headings)
    assert dict(lines(found))["captions"] == "none"
