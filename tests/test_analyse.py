"""`abx analyse` and `abx targets`, on a run of eight steps: every checkpoint is looked at, numbers lie beside pictures,
and what cannot be is said in a sentence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import one_device, tiny
from small import BACKBONE, DECODER, TEXT

from abx import cli as console
from abx.data.layouts import ABCaptionData, ABMultiCropData, SLIPData
from abx.data.sources import SpecError
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Checkpointing, Evaluation, analysing
from abx.experiment.analysing import Size
from abx.experiment.heldout import Held
from abx.experiment.illustrating import FIGURES, Wanted
from abx.experiment.inspecting import inspect_targets
from abx.experiment.run import run
from abx.experiment.sweeps import Run, gamma_of, overlap_of, panels, sweep, unlike
from abx.methods import AB, CLIP, SLIP

KEPT = Checkpointing(every=2, keep=1, keep_best=False, keep_every=4)
OFF = Evaluation(every=0)


@pytest.fixture(scope="module", autouse=True)
def meshes(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def ab(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ab"
    run(tiny("ab", out, ckpt=KEPT, eval=OFF, steps=10))
    return out


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """AB over CLIP, whose annotations are captions."""
    out = tmp_path_factory.mktemp("runs") / "clip"
    crops = RandomCrops(n=3, size=16, scale=(0.1, 0.5))
    data = ABCaptionData(reward_batch=8, value_batch=8, reward_views=RandomCrops(1, 16, (0.5, 1.0)), value_views=crops)
    method = AB(CLIP(BACKBONE, replace(TEXT, vocab=1000, length=64), embed=20), decoder=DECODER, value_embed=20)
    run(tiny("ab", out, method=method, data=data, ckpt=KEPT, eval=OFF, steps=2))
    return out


@pytest.fixture
def said(capsys):
    def said(*argv: object) -> tuple[int, str, str]:
        code = 0
        try:
            console.main([str(a) for a in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return said


def numbers(folder: Path, figure: str) -> dict:
    return json.loads((folder / f"{figure}.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_test_pictures_without_captions_are_for_moves_alone(clip, tmp_path):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    shutil.copytree(clip, run := tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["eval"]["test"] = f"folder:{tmp_path}"
    (run / "config.json").write_text(json.dumps(config))
    assert Held.open(run).specs == {"reward": "scenes:test", "value": f"folder:{tmp_path}"}
    assert Held.open(run).new
    assert not Held.open(run, data="scenes", annotated="0.5*scenes + 0.5*scenes:test").new


def test_every_kept_checkpoint_is_looked_at(ab, said, tmp_path):
    code, out, err = said(
        "analyse", ab, "--figure", "9", "--batches", 1, "--images", 4, "--out", tmp_path / "new" / "figures", "--json"
    )
    assert (code, err) == (0, "")
    files = [str(tmp_path / "new" / "figures" / f"9.{end}") for end in ("png", "json")]
    assert json.loads(out.splitlines()[-1]) == {"written": files}
    found = numbers(tmp_path / "new" / "figures", "9")
    [of_run] = found["runs"]
    assert [row["step"] for row in of_run["checkpoints"]] == [4, 8, 10]
    assert all(row["views"] == 12 and 0.0999 < row["top_tenth"] <= 1 for row in of_run["checkpoints"])
    assert (of_run["name"], of_run["method"], of_run["new_pictures"]) == ("ab", "AB over SimCLR", True)
    assert of_run["data"] == {"reward": "scenes:test", "value": "scenes:test"}
    assert {"command", "devices", "packages"} <= set(found["made"])
    with Image.open(files[0]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_batches_are_the_same_every_time_and_may_be_of_the_same_images(ab):
    held = Held.open(ab)
    first, again = (held.batches(2)[1] for _ in range(2))
    np.testing.assert_array_equal(first.batch.value.images, again.batch.value.images)
    apart = held.batches(1)[0].records
    together = held.batches(1, lambda name, s: s._replace(batch=5), together=True)[0].records
    assert apart["reward"].tolist() != apart["value"].tolist()
    assert together["reward"].tolist() == together["value"].tolist()
    assert len(together["value"]) == 5


def test_targets_of_a_run(ab, said, tmp_path):
    code, out, err = said("targets", ab, "--out", tmp_path / "t.html", "--images", 4, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out.splitlines()[-1])
    assert told["step"] == 10
    assert (told["images"], told["views"], told["annotations"]) == (4, 3, 8)
    with np.load(tmp_path / "t.npz") as kept:
        y, q = kept["target"][:, None], kept["value"]
        again = -(y * np.log(q) + (1 - y) * np.log(1 - q)).sum(-1).mean()
        np.testing.assert_allclose(kept["error"], y - q, atol=1e-6)
    assert again == pytest.approx(told["loss"], rel=1e-3)
    assert told["entropy"] <= told["loss"]
    assert (tmp_path / "t.html").read_text().count('<section class="error">') == 10


@pytest.mark.whole
def test_every_figure_of_a_run_whose_annotations_are_captions(clip, said, tmp_path):
    figures = ("4right", "7", "8left", "8right", "9")
    common = ("--batches", 1, "--images", 4, "--out", tmp_path)
    code, _, err = said("analyse", clip, "--figure", *figures, "--annotations", 8, *common)
    assert (code, err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {f"{f}.{end}" for f in figures for end in ("png", "json")}
    [of_run] = numbers(tmp_path, "8left")["runs"]
    assert of_run["losses"] == ["CLIP", "value"]
    assert all(-1 <= row["cosine"] <= 1 for row in of_run["checkpoints"])
    [of_run] = numbers(tmp_path, "8right")["runs"]
    assert of_run["checkpoints"][0]["chance"] == 1 / 8
    code, _, err = said("analyse", clip, "--figure", "7", "--candidates", "a striped disc", "a field", *common)
    assert (code, err) == (0, "")
    [of_run] = numbers(tmp_path, "7")["runs"]
    assert of_run["candidates"] == ["a striped disc", "a field"]
    assert sum(of_run["checkpoints"][-1]["rewards"]) == pytest.approx(1)
    assert len(of_run["checkpoints"][-1]["values"]) == 2
    code, _, err = said("targets", clip, "--out", tmp_path / "t.html", "--images", 2)
    assert (code, err) == (0, "")


@pytest.mark.whole
def test_figures_of_other_methods(tmp_path, said):
    """SLIP has two losses and rewards, but no values; AB over DINO has prototypes."""
    pair, few = RandomCrops(2, 16, (0.2, 1.0)), ("--batches", 1, "--images", 4, "--out", tmp_path)
    slip = SLIP(BACKBONE, replace(TEXT, vocab=1000, length=64), 20, ssl_hidden=48, ssl_embed=24)
    data = SLIPData(pairs_batch=8, images_batch=8, pairs_views=RandomCrops(1, 16, (0.5, 1.0)), images_views=pair)
    run(tiny("ab", tmp_path / "slip", method=slip, data=data, ckpt=KEPT, eval=OFF, steps=2))
    code, _, err = said("analyse", tmp_path / "slip", "--figure", "8left", "8right", "7", "--annotations", 8, *few)
    assert (code, err) == (0, "")
    [of_run] = numbers(tmp_path, "8left")["runs"]
    assert of_run["losses"] == ["CLIP", "SimCLR"]
    code, _, err = said("analyse", tmp_path / "slip", "--figure", "4right", *few)
    assert (code, "is a run of SLIP, which has no value function" in err) == (2, True)

    from small import DINO_

    data = ABMultiCropData(
        reward_batch=8, value_batch=8, reward_views=MultiCrops(pair, RandomCrops(2, 8)), value_views=RandomCrops(3, 16)
    )
    dino = AB(DINO_, reward_weight=1.0, decoder=DECODER, value_embed=20)
    run(tiny("ab", tmp_path / "dino", method=dino, data=data, ckpt=KEPT, eval=OFF, steps=2))
    code, _, err = said("analyse", tmp_path / "dino", "--figure", "4right", "7", "8left", "9", *few)
    assert (code, err) == (0, "")
    assert len(numbers(tmp_path, "7")["runs"][0]["candidates"]) == 10
    code, _, err = said("analyse", tmp_path / "dino", "--figure", "8right", *few)
    assert (code, "of which none is a picture's own" in err) == (2, True)
    code, _, err = said("analyse", tmp_path / "dino", "--figure", "7", "--candidates", "99", *few)
    assert (code, "--candidates: 99 is not the number of a prototype, from 0 to 29" in err) == (2, True)


def test_what_cannot_be_is_said_in_a_sentence(ab, said, tmp_path):
    (tmp_path / "file").touch()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    cases: dict[tuple[object, ...], str] = {
        ("analyse", tmp_path / "nowhere", "--figure", "9"): "nowhere is not there",
        ("analyse", tmp_path, "--figure", "9"): "it has no config.json",
        ("analyse", ab, "--figure", "9", "--images", 1): "--images must be at least 2, not 1",
        ("analyse", ab, "--figure", "9", "--batches", 0): "--batches must be at least 1, not 0",
        ("analyse", ab, "--figure", "9", "--out", tmp_path / "file"): "file is a file, not a folder",
        ("analyse", ab, "--figure", "9", "--data", "scnes"): "--data: data is",
        ("analyse", ab, "--figure", "9", "--annotated", "scnes"): "--annotated: data is",
        ("analyse", ab, "--figure", "5"): "has no eval/attentive_top1 nor eval/knn_top1",
        ("analyse", ab, "--figure", "5", "--metric", "value/los"): "has no value/los; did you mean value/loss?",
        ("analyse", ab, "--figure", "7", "--image", tmp_path / "file"): "is not a picture that can be read",
        ("analyse", ab, "--figure", "7", "--candidates", tmp_path / "b.png"): "b.png cannot be read: No such file",
        ("targets", ab, "--out", tmp_path): "is a folder; give the name of an HTML file",
        ("targets", ab, "--out", tmp_path / "a.npz"): "must not end in .npz",
        ("targets", ab, "--images", 0): "--images must be at least 1, not 0",
        ("targets", ab, "--out", tmp_path / "no" / "t.html"): "cannot be written",
    }
    for argv, sentence in cases.items():
        code, _, err = said(*argv)
        assert code == 2, argv
        assert sentence in err, err
        assert err.count("\n") == 1, err
    code, _, err = said("analyse", ab, "--figure", "4")
    assert (code, "4right" in err) == (2, True)


def test_a_run_of_another_method_has_no_values(ab, tmp_path):
    held = replace(Held.open(ab), recipe=tiny("simclr", tmp_path))
    silent = lambda line: None
    for look in (analysing.overlap, analysing.taught):
        with pytest.raises(SpecError, match="is a run of SimCLR, which has no value function"):
            look(held, Size(), silent)
    with pytest.raises(SpecError, match="which has no value function"):
        inspect_targets(held, 1, 0, 1, tmp_path / "t.html", tmp_path / "t.npz")
    with pytest.raises(SpecError, match="which has one loss"):
        analysing.aligned(held, Size(), silent)
    with pytest.raises(SpecError, match="which has no gamma"):
        gamma_of(held)


# --- sweeps


def test_runs_of_equal_setting_are_averaged():
    runs = [
        Run("a", "AB over CLIP", 0.5, {"knn": 0.25}),
        Run("b", "AB over CLIP", 0.5, {"knn": 0.75}),
        Run("c", "AB over CLIP", 0.0, {"knn": 0.125}),
        Run("d", "DINO", 0.2501, {"knn": 1.0}),
    ]
    assert panels(runs) == {
        "knn": {
            "AB over CLIP": {"x": [0.0, 0.5], "mean": [0.125, 0.5], "std": [0.0, 0.25], "runs": [1, 2]},
            "DINO": {"x": [0.25], "mean": [1.0], "std": [0.0], "runs": [1]},
        }
    }


def test_what_else_differs_in_a_sweep_is_told(ab):
    held = Held.open(ab)
    recipe = held.recipe
    alike = replace(held, recipe=replace(recipe, seed=7, method=replace(recipe.method, gamma=0.9)), name="alike")
    other = replace(held, recipe=replace(recipe, optim=replace(recipe.optim, lr=0.5)), name="other")
    assert unlike([held, alike], ["method.gamma"]) == []
    [line] = unlike([held, other, alike], ["method.gamma"])
    assert "other: --optim.lr" in line
    lines = list[str]()
    drawn = FIGURES["5"]([held, other], Wanted(Size(1), metric="value/loss"), lines.append)
    assert any("--optim.lr" in line for line in lines)
    assert "--optim.lr" in drawn.how


def test_a_sweep_reads_what_runs_came_to(ab):
    held = Held.open(ab)
    rows = [json.loads(line) for line in (ab / "metrics.jsonl").read_text().splitlines()]
    last = [row["value/loss"] for row in rows if "value/loss" in row][-1]
    [found] = sweep([held], overlap_of, "value/loss", 0, lambda line: None)
    assert found.figures == {"value/loss": last}
    assert 0.1 < found.x < 0.4  # independent crops of a tenth to a half of the area
    (ab / "results.jsonl").write_text(
        json.dumps({"probe": "knn", "task": "c:folder:x", "network": "online", "date": "2026-01-31", "top1": 0.5})
        + "\n"
    )
    try:
        [found] = sweep([held], overlap_of, "knn/c/top1", 0, lambda line: None)
        assert found.figures == {"knn/c/top1": 0.5}
        with pytest.raises(SpecError, match="did you mean knn/c/top1"):
            sweep([held], overlap_of, "knn/c/top", 0, lambda line: None)
    finally:
        (ab / "results.jsonl").unlink()
