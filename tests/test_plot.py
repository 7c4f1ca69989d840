"""abx plot: the curves that are drawn are those that were logged, along what was asked for."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import said as said

from abx.analysis import vector
from abx.analysis.charts import Curve, colour
from abx.analysis.learning import chance_of, choose, learning, smoothed

NAMES = ["loss", "grad_norm", "reward/loss", "reward/chance", "value/loss", "eval/knn_top1", "eval/chance"]
FIRST = [
    {"step": 0, "eval/knn_top1": 0.25, "eval/chance": 0.2},
    {"step": 10, "loss": 4.0, "reward/loss": 2.0, "reward/chance": 2.7, "data/a/views": 80, "data/b/views": 40},
    {"step": 20, "loss": 3.0, "reward/loss": 1.5, "reward/chance": 2.7, "data/a/views": 160, "data/b/views": 80}
    | {"speed/ms_per_step": 100.0},
    {"step": 40, "loss": math.nan, "reward/loss": 1.0, "reward/chance": 2.7, "speed/ms_per_step": 50.0}
    | {"data/a/views": 320, "data/b/views": 160},
    {"step": 40, "eval/knn_top1": 0.5, "eval/chance": 0.2},
]


def test_names_wildcards_and_what_is_nearly_one():
    assert choose(["value/*", "loss"], NAMES) == (["value/loss", "loss"], [])
    assert choose([], NAMES) == (["loss", "reward/loss", "value/loss", "eval/knn_top1"], [])
    assert choose(["*loss", "loss"], NAMES)[0] == ["loss", "reward/loss", "value/loss"]
    nearly = {"los": "loss", "eval/knn": "eval/knn_top1", "reward/los": "reward/loss", "chanc": "eval/chance"}
    for word, near in nearly.items():
        (problem,) = choose([word], NAMES)[1]
        assert problem.startswith(f"no run has a metric {word}; did you mean {near}")
    assert choose(["zzz*"], NAMES)[1] == [f"no run has a metric zzz*; there are {', '.join(sorted(NAMES))}"]
    assert choose([], ["odd"]) == ([], [])


def test_places_along_the_axis():
    loss = lambda along: learning("a", FIRST, "loss", along).x
    assert loss("step") == [10.0, 20.0, 40.0]
    assert loss("views") == [120.0, 240.0, 480.0]
    assert loss("seconds") == pytest.approx([1.0, 2.0, 3.0])
    assert learning("a", FIRST, "eval/knn_top1", "views").x == [0.0, 480.0]
    assert learning("a", FIRST, "no", "step") is None
    with pytest.raises(ValueError, match=r"--x seconds: a has no speed/ms_per_step"):
        learning("a", FIRST[:2], "loss", "seconds")
    with pytest.raises(ValueError, match=r"--x views: a has no data/\*/views"):
        learning("a", FIRST[:1], "eval/knn_top1", "views")


def test_what_guessing_gives():
    assert learning("a", FIRST, "reward/loss", "step").chance == 2.7
    assert learning("a", FIRST, "eval/knn_top1", "step").chance == 0.2
    assert learning("a", FIRST, "loss", "step").chance is None
    known = {"value/accuracy_self": "value/chance", "value/loss": "", "ssl/loss": "ssl/chance", "eval/feature_std": ""}
    assert {name: chance_of(name) for name in known} == known


def test_smoothing():
    """Against the sum that defines it, and of what is alike it changes nothing."""
    values = [3.0, 1.0, math.nan, 4.0, 1.0]
    found = smoothed(values, 0.9)
    weights = 0.9 ** np.array([3, 2, 1, 0])
    assert found[-1] == pytest.approx(weights @ [3, 1, 4, 1] / weights.sum())
    assert math.isnan(found[2])
    assert smoothed([2.0] * 5, 0.99) == pytest.approx([2.0] * 5)
    assert smoothed(values[:2], 0.0) == values[:2]


def folder(path: Path, rows) -> Path:
    path.mkdir(parents=True)
    null = lambda row: {k: None if v != v else v for k, v in row.items()}
    (path / "metrics.jsonl").write_text("".join(json.dumps(null(row)) + "\n" for row in rows))
    return path


@pytest.fixture
def two(tmp_path):
    other = [row | {"loss": row["loss"] - 0.5} if "loss" in row else row for row in FIRST]
    return folder(tmp_path / "x" / "one", FIRST), folder(tmp_path / "x" / "two", other)


def test_numbers(said, two, tmp_path):
    out = tmp_path / "a.png"
    code, text, err = said("plot", *two, "--metrics", "loss", "eval/*_top1", "--x", "views", "--out", out, "--json")
    assert (code, err) == (0, "")
    assert text.splitlines()[0] == f"written: {out}"
    found = json.loads(text.splitlines()[-1], parse_constant=lambda name: pytest.fail(name))
    assert (found["out"], found["x"], found["smooth"]) == (str(out), "views", 0.0)
    curves = {(each["run"], each["metric"]): each for each in found["curves"]}
    assert list(curves) == [("one", "loss"), ("two", "loss"), ("one", "eval/knn_top1"), ("two", "eval/knn_top1")]
    assert curves["two", "loss"] == {
        "run": "two",
        "metric": "loss",
        "x": [120.0, 240.0, 480.0],
        "y": [3.5, 2.5, None],
        "chance": None,
    }
    assert curves["one", "eval/knn_top1"]["chance"] == 0.2


def test_the_picture_has_each_run_in_its_colour(said, two, tmp_path):
    said("plot", *two, "--out", tmp_path / "a.png", "--smooth", "0.5")
    with Image.open(tmp_path / "a.png") as picture:
        seen = np.asarray(picture.convert("RGB"), int).reshape(-1, 3)
    drawn = [(abs(seen - colour(number)).max(1) < 40).sum() for number in range(3)]
    assert min(drawn[:2]) > 100
    assert drawn[2] < 10


def test_svg_is_whole_and_says_what_the_png_says(said, two, tmp_path):
    assert said("plot", *two, "--out", tmp_path / "a.svg", "--metrics", "reward/loss", "--smooth", "0.5")[0] == 0
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text())
    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("reward/loss", "one", "two", "chance", "training step"):
        assert word in words
    assert any("weight of the past 0.5" in word for word in words)
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 3  # two runs and one level of chance, which both have
    assert [bool(each.get("stroke-dasharray")) for each in lines] == [False, False, True]


def test_places_in_an_svg():
    """A straight line from corner to corner of what is drawn stays one; names cannot break the file."""
    drawn = vector.chart("<&", [Curve("<b>", [0, 1, 2], [0.0, 1.0, 2.0], (0, 0, 0))], "x")
    points = re.search(r'points="([^"]*)"', drawn.code)[1].split()
    x, y = np.array([[float(v) for v in p.split(",")] for p in points]).T
    assert np.diff(x) == pytest.approx(np.diff(x)[0], abs=0.2)
    assert np.diff(y) == pytest.approx(np.diff(y)[0], abs=0.2)
    assert (np.diff(x)[0] > 0, np.diff(y)[0] < 0) == (True, True)
    ElementTree.fromstring(vector.sheet("<t>", [drawn], vector.keys([]), "&", 1))


def test_names_that_tell_runs_apart(said, tmp_path):
    runs = [folder(tmp_path / a / "seed-0", FIRST) for a in ("p", "q")]
    _, text, _ = said("plot", *runs, "--metrics", "loss", "--out", tmp_path / "a.svg", "--json")
    assert [each["run"] for each in json.loads(text.splitlines()[-1])["curves"]] == ["p/seed-0", "q/seed-0"]


def test_refused_in_one_sentence(said, two, tmp_path):
    one, _ = two
    (one / "empty").mkdir()
    folder(one / "silent", [])
    out = ("--out", tmp_path / "a.png")
    cases = {
        (*out,): "RUN is missing",
        (one.parent / "onne", *out): f"onne is not there; did you mean {one}?",
        (one / "empty", *out): "has no metrics.jsonl",
        (one / "silent", *out): "has no figures yet",
        (one, one, *out): f"{one} is given twice",
        (one, "--metrics", "los", *out): "--metrics: no run has a metric los; did you mean loss?",
        (one, "--smooth", "1", *out): "--smooth must be from 0 to below 1, not 1",
        (one, "--out", tmp_path / "a.jpg"): "must end in .png or .svg",
        (one, "--out", tmp_path / "no" / "a.png"): "cannot be written: No such file or directory",
        (one / "metrics.jsonl", *out): "is a file, not a run folder",
    }
    for argv, sentence in cases.items():
        code, text, err = said("plot", *argv)
        assert (code, text) == (2, ""), argv
        assert sentence in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    code, _, err = said("plot", one, "--metrics", "los", "zzz", *out)
    assert code == 2
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "error: --metrics: no run has a metric los",
        "error: --metrics: no run has a metric zzz",
    ]
