"""The value explorer's page: its numbers are the network's, it needs nothing but itself, and it trusts no text."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exploring import RUNS, Page, one_network, saved_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import one_device
from small import ab

from abx import cli
from abx.analysis.explorer import (
    LEVELS,
    MOST,
    Annotation,
    Exploration,
    TooLarge,
    explore,
    page_bytes,
    rounded,
)
from abx.analysis.value_grid import TARGET_AREAS, ValueGrid, both_grids, pixel_grid
from abx.boxes import relative_boxes
from abx.data.images import crop_resize
from abx.data.sources import SpecError
from abx.data.texts import Texts
from abx.experiment import exploring
from abx.experiment.annotating import annotate
from abx.experiment.exploring import explore_run
from abx.methods import SigLIP

HOSTILE = "</script><script>alert('x')</script><!-- \" onload=\"y & \u202e\u2028\n z @@DATA@@ 'é"
PLACES = (2, 3)


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick, picture):
    """A folder of runs, with their recipes and states; beside them pictures."""
    root = tmp_path_factory.mktemp("explored")
    Image.fromarray(picture).save(root / "picture.png")
    for k in range(2):
        Image.fromarray(np.full((20, 30, 3), 90 * k + 20, np.uint8)).save(root / f"{k}.png")
    (root / "words.txt").write_text("no picture")
    return root, {name: saved_run(root / name, name) for name in RUNS}


GIVEN = {
    "ab_clip": ("a striped disc", "two plain stars"),
    "ab_simclr": ("0.png", "1.png"),
    "ab_dino": ("7", "0"),
}


def asked(root, name):
    return [str(root / each) if each.endswith(".png") else each for each in GIVEN[name]]


# --- numbers


@partial(jax.jit, static_argnums=0)
def directly(method, model, carry, views, action, annotated):
    """Equation 4 and the base's reward for all annotations: logits of moving from the first view, rewards of both."""
    base = method.base
    encoded = base.encode_target(model.base, base.prepare(annotated, None))
    psi = base.annotations(model.value.annotation_head, encoded)
    tokens = jax.vmap(model.backbone)(views)
    phi = model.value.phi(tokens[None, :1], action[None, None, None])[0, 0, 0]
    logits = jnp.exp(model.value.log_scale) * (psi @ phi) + model.value.bias
    return logits, base.reward(model.base, carry.base, tokens, encoded)


@pytest.mark.parametrize("name", GIVEN)
def test_the_page_says_what_the_network_says(runs, picture, name, monkeypatch):
    """Any source, target, annotation and checkpoint, evaluated one by one from the pixels of the picture."""
    root, made = runs
    recipe, states = made[name]
    kept = {}
    monkeypatch.setattr(exploring, "explore", lambda *a, **k: kept.update(batch=a[3], looks=a[4]) or explore(*a, **k))
    found = explore_run(root / name, root / "picture.png", asked(root, name), checkpoints=["all"], places=PLACES)
    page = Page.of(found.html)
    assert page.sizes == (12, 36, 2)
    assert [each["step"] for each in page.data["checkpoints"]] == [1, 3]
    rng = np.random.default_rng(0)
    for c, step in enumerate((1, 3)):
        unit = page.data["checkpoints"][c]["unit"]
        for _ in range(6):
            s, g, l = (int(rng.integers(size)) for size in page.sizes)
            source, target, number = page.boxes("sources")[s], page.boxes("targets")[g], list(kept["looks"])[l]
            views = np.stack([crop_resize(picture, box, 16) for box in (source, target)])
            action = relative_boxes(np.stack([source, target]))[0, 1]
            logits, rewards = directly(recipe.method, *one_network(states[step]), views, action, kept["batch"])
            assert abs(page.logits(c)[s, g, l] - logits[number]) <= unit / 2 + 1e-4
            assert page.values(c)[s, g, l] == pytest.approx(float(jax.nn.sigmoid(logits[number])), rel=unit / 2 + 2e-4)
            assert page.rewards(c, "here")[s, l] == pytest.approx(float(rewards[0, number]), rel=1e-3)
            assert page.rewards(c, "there")[g, l] == pytest.approx(float(rewards[1, number]), rel=1e-3)
    assert recipe.method.base.annotation_count(kept["batch"]) == (30 if name == "ab_dino" else 8)
    assert np.ptp(page.logits(0), axis=1).min() > 2 * unit  # or the test would say nothing of boxes


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_rounding_is_by_half_a_unit_at_most(values):
    low, unit, numbers = rounded(np.array(values, np.float32))
    assert numbers.min() >= 0
    assert numbers.max() <= LEVELS
    np.testing.assert_allclose(low + unit * numbers, np.array(values, np.float32), atol=0.51 * unit, rtol=1e-7)


@pytest.mark.parametrize("hw", [(384, 384), (480, 640), (100, 400), (33, 32), (1, 50)])
def test_boxes_lie_on_pixels_and_have_the_areas_that_they_say(hw):
    grid = pixel_grid(hw, TARGET_AREAS, 5)
    assert grid.boxes.shape == (4, 5, 5, 4)
    pixels = grid.flat * np.array([*hw, *hw])
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)
    assert ((grid.flat >= 0) & (grid.flat <= 1)).all()
    height, width = (pixels[:, 2:] - pixels[:, :2]).T
    assert min(height.min(), width.min()) > 0.9
    if min(hw) > 30:
        areas = (height * width / np.prod(hw)).reshape(4, 25)
        np.testing.assert_allclose(areas, np.tile(np.array(TARGET_AREAS)[:, None], (1, 25)), rtol=0.08)
    assert (np.abs(height - width) <= 1)[height < min(hw) - 1].all()
    first, last = grid.boxes[0, 0, 0], grid.boxes[0, -1, -1]
    assert (first[:2] == 0).all()
    assert (last[2:] == 1).all()
    assert (pixel_grid(hw, (0.25,), 1).boxes.shape) == (1, 1, 1, 4)


def test_without_action_tokens_all_moves_look_alike(runs, picture):
    recipe, states = runs[1]["ab_simclr"]
    blind = replace(recipe.method, actions=False)
    batch = recipe.data.blank().reward
    found = explore(blind, {1: one_network(states[1])}, picture, batch, size=16, count=2, places=PLACES)
    logits = found.values[1].logits
    assert np.ptp(logits, axis=1).max() < 1e-5
    assert np.ptp(logits, axis=0).max() > 1e-5


def test_left_to_itself_it_shows_what_is_worth_most(runs, picture):
    recipe, states = runs[1]["ab_simclr"]
    batch = jax.tree.map(
        lambda x: np.random.default_rng(0).integers(0, 255, x.shape, np.uint8), recipe.data.blank().reward
    )
    batch = batch._replace(boxes=recipe.data.blank().reward.boxes)
    models = {1: one_network(states[1])}
    everything = explore(
        recipe.method, models, picture, batch, {i: Annotation(str(i)) for i in range(8)}, size=16, places=PLACES
    )
    highest = everything.values[1].logits.max((0, 1))
    found = explore(recipe.method, models, picture, batch, size=16, count=2, places=PLACES)
    assert [each.label for each in found.annotations] == [f"annotation {i}" for i in np.argsort(-highest)[:2]]


# --- the file


def made_up(labels=("a", "b"), steps=(1,), places=(2, 3), picture=None, look=None, title="title", note="note"):
    rng, picture = np.random.default_rng(0), np.zeros((30, 40, 3), np.uint8) if picture is None else picture
    sources, targets = both_grids(picture.shape[:2], places)
    s, g, l = len(sources.flat), len(targets.flat), len(labels)
    values = {
        step: ValueGrid(
            rng.normal(-4, 2, (s, g, l)).astype(np.float32),
            rng.random((s, l), np.float32),
            rng.random((g, l), np.float32),
        )
        for step in steps
    }
    return Exploration(title, note, picture, [Annotation(x, look) for x in labels], sources, targets, values, 32)


class Elements(HTMLParser):
    """What a browser would make of the file."""

    def __init__(self, page):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_full_page_is_below_five_megabytes():
    """The default grids, a photograph that is nothing but noise, eight annotations with pictures, six checkpoints."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    page = made_up("abcdefgh", range(6), (5, 9), noise, noise).html
    assert 2e6 < len(page) < MOST == 5_000_000
    parts = sum(len(each[k]) for each in Page.of(page).data["checkpoints"] for k in ("logits", "here", "there"))
    assert page_bytes(8, (5, 9), 6) == pytest.approx(parts, rel=0.01)
    with pytest.raises(TooLarge, match=r"would have [\d.]+ MB, above 5"):
        _ = made_up("abcdefgh", range(12), (5, 9), noise).html


def test_the_page_needs_nothing_but_itself():
    page = made_up(look=np.zeros((9, 9, 3), np.uint8)).html
    elements = Elements(page).found
    assert {tag for tag, _ in elements} & {"link", "iframe", "object", "embed", "base", "form"} == set()
    sources = [found[key] for _, found in elements for key in ("src", "href", "action", "srcset") if key in found]
    assert not [each for each in sources if not each.startswith("data:image/")]
    assert set(re.findall(r"\w+://[^\s\"'`<]*", page)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = (found["content"] for tag, found in elements if found.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    *_, script = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert allowed["script-src"] == f"'sha256-{digest}'"


def test_no_text_gets_out_of_its_place():
    quiet, loud = (Elements(made_up((x, "b"), title=x, note=x).html) for x in ("quiet", HOSTILE))
    assert [tag for tag, _ in loud.found] == [tag for tag, _ in quiet.found]
    assert all(set(a[1]) == set(b[1]) for a, b in zip(loud.found, quiet.found, strict=True))
    data = Page.of(made_up((HOSTILE, "b"), title=HOSTILE, note=HOSTILE).html).data
    for said in (data["annotations"][0]["label"], data["title"], data["note"]):
        assert said.startswith("</script><script>alert('x')</script><!-- ")
        assert said.endswith("@@DATA@@ 'é")
        assert said.isprintable()


def test_in_a_notebook_the_page_is_in_a_frame_that_can_do_nothing_else():
    found = made_up((HOSTILE, "b"), title=HOSTILE)
    ((tag, frame),) = Elements(found._repr_html_()).found
    assert tag == "iframe"
    assert frame["sandbox"] == "allow-scripts"
    assert frame["srcdoc"] == found.html


def test_values_that_are_not_finite_are_refused():
    found = made_up()
    found.values[1].here[0, 0] = np.nan
    with pytest.raises(ValueError, match="step 1: not all values are finite"):
        _ = found.html


# --- annotations of each kind, and what does not fit


def test_texts_share_the_reward_with_those_of_the_run(runs):
    root, _ = runs
    found = explore_run(root / "ab_clip", root / "picture.png", GIVEN["ab_clip"], places=PLACES)
    assert [each.label for each in found.annotations] == list(GIVEN["ab_clip"])
    assert "over 8 texts: these 2 and 6 of the run's reward data" in found.note
    alone = explore_run(root / "ab_clip", root / "picture.png", GIVEN["ab_clip"], places=PLACES, alone=True)
    assert "over these 2 texts alone" in alone.note
    np.testing.assert_allclose(alone.values[3].here.sum(1), 1, rtol=1e-5)
    assert (found.values[3].here.sum(1) < 0.9).all()
    np.testing.assert_allclose(found.values[3].logits, alone.values[3].logits, atol=1e-4)
    judged = ab(SigLIP(), value_bias=0.0)
    batch, texts = runs[1]["ab_clip"][0].data.blank().reward, Texts(length=16)
    assert "each text by itself" in annotate(judged, None, None, GIVEN["ab_clip"], batch, texts, alone=False).note


def test_prototypes_have_the_picture_that_shows_them_best(runs):
    root, _ = runs
    found = explore_run(root / "ab_dino", root / "picture.png", ["7", str(root / "0.png")], places=PLACES)
    first, second = found.annotations
    assert first.label == "prototype 7"
    assert first.look.shape == (16, 16, 3)
    assert re.fullmatch(r"0\.png: prototype \d+", second.label)
    assert (second.look == 20).all()
    assert "all 30 prototypes" in found.note


@pytest.mark.parametrize("name", ["ab_clip", "ab_simclr", "ab_dino"])
def test_none_given_are_the_most_valued_of_the_run(runs, name):
    root, _ = runs
    found = explore_run(root / name, root / "picture.png", count=2, places=PLACES)
    highest = found.values[3].logits.max((0, 1))
    assert (np.diff(highest) <= 0).all()
    assert len({each.label for each in found.annotations}) == 2
    kind = {"ab_clip": r"[\w ,]+", "ab_simclr": r"picture \d of the reward data", "ab_dino": r"prototype \d+"}[name]
    assert all(re.fullmatch(kind, each.label) for each in found.annotations)
    assert all((each.look is None) == (name == "ab_clip") for each in found.annotations)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("ab_clip", ["words.txt"], "is a file; the annotations of this run are texts"),
        ("ab_clip", [""], "the run's tokenizer makes nothing of ''"),
        ("ab_clip", ["a star", "a  star"], "two texts are the same to the run's tokenizer"),
        ("ab_simclr", ["a star"], "the annotations of this run are pictures, and 'a star' is no file"),
        ("ab_simclr", ["words.txt"], "is not a picture that can be read"),
        ("ab_dino", ["a star"], "are prototypes, 0 to 29, or pictures, and 'a star' is no file"),
        ("ab_dino", ["30"], "there are prototypes 0 to 29, and no 30"),
        ("ab_dino", ["7", "07"], "prototype 7 is named twice"),
    ],
)
def test_annotations_that_do_not_fit_the_method_are_refused(runs, name, given, sentence, monkeypatch):
    root, made = runs
    recipe, states = made[name]
    monkeypatch.chdir(root)
    texts = recipe.data.streams()["reward"].texts
    with pytest.raises(SpecError, match=re.escape(sentence)) as wrong:
        annotate(recipe.method, *one_network(states[3]), given, recipe.data.blank().reward, texts, alone=False)
    assert str(wrong.value).startswith("--annotations: ")
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("given", "more", "sentence"),
    [
        (["a", "b", "a"], {}, "--annotations: 'a' is named twice"),
        ([], {"alone": True}, "--alone: name the --annotations"),
        ([], {"checkpoints": ()}, "--checkpoints: name one at least"),
        ([], {"checkpoints": ("2",)}, "--checkpoints 2: "),
        ([], {"checkpoints": ("newst",)}, "--checkpoints must be newest, best or one of 1, 3, not newst"),
        ([], {"count": 0}, "--count must be at least 1, not 0"),
        ([], {"places": (5, 26)}, "--places must be two numbers from 1 to 25, not 5 26"),
        ([], {"places": (25, 25)}, "MB, above 5: give fewer --annotations or --checkpoints"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(runs, given, more, sentence):
    root, _ = runs
    with pytest.raises(SpecError, match=re.escape(sentence)) as wrong:
        explore_run(root / "ab_clip", root / "picture.png", given, **more)
    assert "\n" not in str(wrong.value)


# --- the command


def said(capsys, *argv):
    code = 0
    try:
        cli.main(["explore", *map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_the_page(runs, tmp_path, capsys):
    root, _ = runs
    out = tmp_path / "e.html"
    flags = ["--annotations", "a disc", "<b>", "--checkpoints", "all", "--places", 2, 3, "--network", "target"]
    code, told, err = said(capsys, root / "ab_clip", root / "picture.png", *flags, "--out", out)
    assert (code, err) == (0, "")
    assert told.startswith(f"written: {out} (")
    page = Page.of(out.read_text(encoding="utf-8"))
    assert page.data["title"] == "ab_clip: what moving about picture.png is worth"
    assert [each["label"] for each in page.data["annotations"]] == ["a disc", "<b>"]
    assert page.data["note"].endswith("those of the target network.")


def test_without_a_picture_one_that_the_run_has_not_learnt_from(runs, tmp_path, capsys, monkeypatch):
    root, _ = runs
    monkeypatch.chdir(tmp_path)
    words = ["--annotations", *GIVEN["ab_clip"], "--places", *PLACES]
    code, told, err = said(capsys, root / "ab_clip", "--sample", 3, *words)
    assert (code, err) == (0, "")
    assert told.startswith("written: explorer.html (")
    title = Page.of((tmp_path / "explorer.html").read_text(encoding="utf-8")).data["title"]
    assert title == "ab_clip: what moving about picture 3 of scenes:test is worth"
    code, _, err = said(capsys, root / "ab_clip", "--sample", 10**9, *words)
    assert code == 2
    assert "--sample must be from 0 to" in err


def test_the_command_refuses_with_2_and_one_sentence(runs, tmp_path, capsys):
    root, _ = runs
    run, image = root / "ab_clip", root / "picture.png"
    (tmp_path / "simclr").mkdir()
    config = json.loads((root / "ab_simclr" / "config.json").read_text())
    (tmp_path / "simclr" / "config.json").write_text(json.dumps(config))
    cases = {
        (tmp_path / "no", image): "no is not there",
        (tmp_path / "simclr", image): "holds no checkpoint yet",
        (run, tmp_path / "no.png"): "no.png is not there",
        (run, root / "words.txt"): "is not a picture that can be read",
        (run, image, "--out", tmp_path): "is a folder: name an HTML file to write",
        (run, image, "--out", tmp_path / "no" / "e.html"): "which does not exist: name an HTML file to write",
        (run, image, "--annotations", "a", "a"): "'a' is named twice",
        (run, image, "--checkpoints", "7"): "--checkpoints 7: ",
    }
    for argv, sentence in cases.items():
        code, out, err = said(capsys, *argv)
        assert (code, out) == (2, ""), argv
        assert sentence in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_without_the_runs_data_annotations_stand_alone(runs, tmp_path):
    root, _ = runs
    config = json.loads((root / "ab_clip" / "config.json").read_text())
    config["data"]["reward"] = f"folder:{tmp_path}/gone"
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "config.json").write_text(json.dumps(config))
    (moved / "checkpoints").symlink_to(root / "ab_clip" / "checkpoints")
    with pytest.raises(SpecError, match=r"gone does not exist.*with --annotations and --alone"):
        explore_run(moved, root / "picture.png", GIVEN["ab_clip"], places=PLACES)
    found = explore_run(moved, root / "picture.png", GIVEN["ab_clip"], places=PLACES, alone=True)
    assert "a striped disc" in found.html
