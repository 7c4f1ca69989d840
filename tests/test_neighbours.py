"""abx neighbours: who is nearest, how often of the same class, and the page; the command."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from seeing import VIT, refused, stand_in

from abx import cli
from abx.analysis import neighbours as math
from abx.analysis import neighbours_page as drawn
from abx.analysis.neighbours import agreement, neighbours
from abx.analysis.neighbours_page import Row, Thumbnail, neighbours_page
from abx.data.sources import Samples
from abx.experiment.neighbouring import Side, liken
from abx.probes.features import Look, extract
from abx.types import Sample

RNG = np.random.default_rng(0)


def at(*degrees):
    """Unit vectors of these directions."""
    return np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], 1).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 8_192])
def test_known_neighbours(monkeypatch, rows):
    monkeypatch.setattr(math, "ROWS", rows)
    features = at(0, 90, 10, 200, 95) * np.array([[1], [1e-20], [30], [2], [1e20]], np.float32)  # lengths do not matter
    found = neighbours(at(2, 91), features, 3)
    assert found.rows.tolist() == [[0, 2, 1], [1, 4, 2]]
    np.testing.assert_allclose(found.similarity[0], np.cos(np.deg2rad([2, 8, 88])), atol=1e-6)
    assert found.similarity.dtype == np.float32


@pytest.mark.parametrize("rows", [3, 8_192])
def test_against_every_cosine(monkeypatch, rows):
    monkeypatch.setattr(math, "ROWS", rows)
    features = RNG.normal(size=(50, 6)).astype(np.float32)
    itself = np.array([3, 17, 49])
    found = neighbours(features[itself], features, 50, itself)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert found.rows.shape == (3, 49)
    for row, own, alike in zip(found.rows, itself, found.similarity, strict=True):
        assert sorted([*row.tolist(), own]) == list(range(50))
        np.testing.assert_allclose(alike, unit[row] @ unit[own], atol=1e-6)
        assert (np.diff(alike) <= 0).all()


@pytest.mark.parametrize("rows", [1, 4, 8_192])
def test_of_the_same_the_first_comes_first_and_itself_never(monkeypatch, rows):
    """However many copies of a picture there are."""
    monkeypatch.setattr(math, "ROWS", rows)
    one, other = RNG.normal(size=(2, 384)).astype(np.float32)
    features = np.stack([other, one, one, other, one, one, one])
    found = neighbours(features[[2, 6]], features, 3, np.array([2, 6]))
    assert found.rows.tolist() == [[1, 4, 5], [1, 2, 4]]
    np.testing.assert_allclose(found.similarity, 1, rtol=1e-6)


def test_a_feature_of_zeros_is_like_nothing():
    found = neighbours(np.zeros((1, 2), np.float32), at(0, 90), 2)
    assert found.similarity.tolist() == [[0, 0]]
    assert found.rows.tolist() == [[0, 1]]


def test_features_that_are_not_finite():
    with pytest.raises(ValueError, match="some features are not finite numbers"):
        neighbours(at(0), np.array([[np.nan, 1]], np.float32), 1)


def test_how_often_of_the_same_class():
    """A picture without a class counts as one of another; a query without one does not count."""
    classes = np.array([0, 0, 1, -1, 0])
    directions = at(0, 1, 21, 51, 53)
    found = neighbours(directions[:4], directions, 2, np.arange(4))
    assert found.rows.tolist() == [[1, 2], [0, 2], [1, 0], [4, 2]]
    same = agreement(found, classes[:4], classes, without_itself=True)
    np.testing.assert_array_equal(same.same, [0.5, 0.5, 0, np.nan])
    np.testing.assert_allclose(same.chance, [2 / 4, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(agreement(found, classes[:4], classes, False).chance, [3 / 5, 3 / 5, 1 / 5, np.nan])


# The page


class Page(HTMLParser):
    """Text, tags and pictures of a page."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.urls, self.rows = "", list[str](), list[str](), list[list[str]]()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        said = dict(attrs)
        self.urls += [said[name] for name in ("src", "href") if name in said]
        if tag == "section":
            self.rows.append([])
        if tag == "figure":
            self.rows[-1].append(said["class"])

    def handle_data(self, data):
        self.text += data


def thumbnail(name="a.png", class_name="", seed=0):
    return Thumbnail(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8), name, class_name)


HOSTILE = "<script>alert(1)</script>\" onerror='x'\n.png"


def test_names_are_text():
    row = Row(thumbnail(HOSTILE, HOSTILE), [(thumbnail(HOSTILE, HOSTILE), 0.5)])
    found = neighbours_page(HOSTILE, [HOSTILE], [(HOSTILE, HOSTILE)], [row])
    page = Page(found.html)
    ours = {"html", "head", "meta", "title", "style", "body", "h1", "p", "table", "tr", "th", "td", "section"}
    assert set(page.tags) <= ours | {"figure", "figcaption", "img", "br", "b"}
    assert "onerror" not in re.sub(r">[^<]*<|\"[^\"]*\"", "", found.html)
    assert page.text.count("<script>alert(1)</script>") >= 5
    assert all(url.startswith("data:image/jpeg;base64,") for url in page.urls)
    assert "default-src 'none'" in found.html
    assert "http" not in found.html.replace("http-equiv", "")


def test_colours_say_the_class():
    with_class = Row(
        thumbnail("q", "cat"), [(thumbnail("a", "cat"), 0.9), (thumbnail("b", "dog"), 0.25), (thumbnail("c"), 0)]
    )
    without = Row(thumbnail("q"), [(thumbnail("a", "cat"), 0.5)])
    page = Page(neighbours_page("t", [], [], [with_class, without]).html)
    assert page.rows == [["query", "same", "other", "other"], ["query", "plain"]]
    assert "1 of 3 of its class" in page.text
    assert "0.900" in page.text
    assert "0.250" in page.text


def test_a_page_grows_only_so_large(monkeypatch):
    rows = [Row(thumbnail(str(i), seed=i), [(thumbnail("x", seed=i), 0.1)] * 2) for i in range(12)]
    whole = neighbours_page("t", ["a"], [], rows)
    assert whole.rows == 12
    assert "queries are shown" not in whole.html
    monkeypatch.setattr(drawn, "BYTES", len(whole.html) // 2)
    found = neighbours_page("t", ["a"], [], rows)
    assert 3 < found.rows < 7
    assert len(found.html.encode()) <= drawn.BYTES
    assert f"The first {found.rows} of 12 queries are shown" in Page(found.html).text
    assert len(Page(found.html).rows) == found.rows


# With a network


def source(labels, seed, classes=("cat", "dog")):
    rng = np.random.default_rng(seed)
    return Samples([Sample(rng.integers(0, 256, (20, 20, 3), np.uint8), i) for i in labels], classes)


def side(data):
    found = extract(VIT, data, Look(16), tokens=False)
    return Side(data, found.places, found)


def test_classes_go_by_name():
    """Of other pictures, which number them in another way."""
    here, there = side(source([0, 1, -1, 0, 1], 0)), side(source([0, 1, 2], 1, ("dog", "bird", "cat")))
    likened = liken(here, there, 5)
    assert likened.found.rows.shape == (3, 5)
    np.testing.assert_allclose(likened.agreement.same, [2 / 5, 0, 2 / 5])
    assert likened.same_class == pytest.approx((4 / 15, 4 / 15))
    nothing = liken(side(source([-1] * 4, 0, ())), 2, 3)
    assert nothing.same_class is None
    assert liken(here, 3, 99).k == 4


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two classes; two files of the same picture, and one whose name is none of ours."""
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch, VIT)
    for i in range(8):
        folder = tmp_path / "pictures" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(min(i, 6)).integers(0, 256, (4, 4, 3), np.uint8)
        name = "<script>alert(1)<" + "\u2215script>.png" if i == 3 else f"{i}.png"
        Image.fromarray(image).resize((40, 30), Image.Resampling.BICUBIC).save(folder / name)
    (tmp_path / "pictures" / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return f"folder:{tmp_path / 'pictures'}"


def call(capsys, *words):
    cli.main(["neighbours", "none", "--init", "S/8", "--json", *words])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_page_of_a_folder(pictures, tmp_path, capsys):
    said = call(capsys, "--data", pictures, "--k", "3", "--queries", "100")
    assert [said[name] for name in ("images", "queries", "shown", "k")] == [8, 8, 8, 3]
    assert [name.endswith("bad.png") for name in said["rejected"]] == [True]
    near = {each["query"]: each for each in said["neighbours"]}
    assert len(near) == 8
    assert all(name not in each["neighbours"] for name, each in near.items())
    (six,), (seven,) = ([name for name in near if name.endswith(end)] for end in ("6.png", "7.png"))
    assert (near[six]["neighbours"][0], near[seven]["neighbours"][0]) == (seven, six)
    assert near[six]["similarity"][0] == pytest.approx(1, abs=1e-5)
    assert said["chance"] == pytest.approx(3 / 7)
    kinds = [name.split("/")[-2] for name in near]
    same = np.mean(
        [[kind == n.split("/")[-2] for n in near[q]["neighbours"]] for kind, q in zip(kinds, near, strict=True)]
    )
    assert said["same_class"] == pytest.approx(same)
    html = (tmp_path / "neighbours.html").read_text()
    assert "<script" not in html
    page = Page(html)
    assert [len(row) for row in page.rows] == [4] * 8
    assert "<script>alert(1)<" in page.text
    # The same command gives the same page.
    call(capsys, "--data", pictures, "--k", "3", "--queries", "100")
    assert (tmp_path / "neighbours.html").read_text() == html


def test_queries_from_elsewhere(pictures, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    image = np.random.default_rng(2).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(image).resize((40, 30), Image.Resampling.BICUBIC).save(tmp_path / "other" / "mine.png")
    said = call(capsys, "--data", pictures, "--k", "20", "--queries", f"folder:{tmp_path / 'other'}")
    assert [said[name] for name in ("images", "queries", "k", "same_class", "chance")] == [8, 1, 8, None, None]
    (found,) = said["neighbours"]
    assert found["query"].endswith("mine.png")
    assert found["neighbours"][0].endswith("2.png")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--queries 0", "--queries must be from 1 to 100, or name data, not 0"),
        ("--queries 101", "--queries must be from 1 to 100, or name data, not 101"),
        ("--queries scens:test", "--queries must be a number, or name data: data is "),
        ("--queries scenes:test", "--queries are the pictures of --data"),
        ("--queries folder:nowhere", "--queries must be a number, or name data: "),
        ("--k 0", "--k must be at least 1, not 0"),
        ("--k 101", "--k must be at most 100, not 101"),
        ("--limit -1", "--limit must be at least 0, not -1"),
        ("--out x.png", "--out x.png must end in .html, .htm"),
        ("--limit 1", "--data: scenes:test holds one picture that can be read"),
    ],
)
def test_what_cannot_be(tmp_path, monkeypatch, capsys, flags, sentence):
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch, VIT)
    refused(capsys, f"neighbours none --init S/8 {flags}", sentence)
