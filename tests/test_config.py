"""The configuration is the object: it goes to JSON and back, and a change that matters never goes unnoticed."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from abx.data.views import RandomCrops
from abx.experiment.config import Checkpointing, Recipe
from abx.experiment.saved import HARMLESS, differences, flat, from_json, to_json
from recipes import NAMES, load

PRESETS = [(name, preset) for name in NAMES for preset in ("smoke", "small", "paper")]


def leaves(recipe: Recipe) -> dict[str, Any]:
    return {path: value for path, value in flat(to_json(recipe)).items() if path.rpartition(".")[2] != "class"}


def place(tree: dict[str, Any], path: str) -> dict[str, Any]:
    """The node that holds a field, by the field's path."""
    for group in path.split(".")[:-1]:
        tree = tree[group]
    return tree


def changed(recipe: Recipe, path: str, value: Any) -> Recipe:
    """With one field set, by its path."""
    tree = to_json(recipe)
    place(tree, path)[path.rpartition(".")[2]] = value
    found = from_json(tree)
    assert isinstance(found, Recipe)
    return found


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_json_and_back(name, preset):
    recipe = load(name).PRESETS[preset]
    written = json.dumps(to_json(recipe))
    again = from_json(json.loads(written))
    assert type(again) is Recipe
    for field in dataclasses.fields(Recipe):
        assert getattr(again, field.name) == getattr(recipe, field.name), field.name
    assert from_json(to_json(again)) == again
    assert differences(to_json(recipe), json.loads(written)) == []


def another(value: Any) -> Any:
    """Some other value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [another(v) for v in value]
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", NAMES)
def test_every_change_that_matters_is_noticed(name):
    recipe = load(name).PRESETS["smoke"]
    old = to_json(recipe)
    noticed = set()
    for path, value in leaves(recipe).items():
        new = to_json(recipe)
        place(new, path)[path.rpartition(".")[2]] = another(value)
        if differences(old, new):
            noticed.add(path)
    harmless = {"out", "resume", "force", "dry_run", "profile", "data.workers", "data.worker", "data.max_rejected"}
    groups = ("plan.", "ckpt.", "log.", "guard.", "mesh.", "eval.every")
    harmless |= {path for path in leaves(recipe) if path.startswith(groups)}
    assert noticed == leaves(recipe).keys() - harmless
    assert {path.partition(".")[0] for path in harmless} == {path.partition(".")[0] for path in HARMLESS}


def test_differences_speak_of_flags_and_both_values():
    recipe = load("ab_simclr").PRESETS["smoke"]
    other = changed(changed(recipe, "optim.lr", 0.5), "data.value_views.scale", [0.1, 0.9])
    assert differences(to_json(recipe), to_json(other)) == [
        "--data.value_views.scale: 0.1 0.5 -> 0.1 0.9",
        "--optim.lr: 0.001 -> 0.5",
    ]


def test_differences_of_another_method_are_one_sentence_for_each_part():
    old, new = (to_json(load(name).PRESETS["smoke"]) for name in ("simclr", "ab_simclr"))
    said = differences(old, new)
    assert "--method: SimCLR -> AB" in said
    assert "--data: PairData -> ABData" in said
    assert len(said) == 2


def test_a_setting_that_the_old_file_does_not_know():
    old = to_json(recipe := load("simclr").PRESETS["smoke"])
    del old["method"]["embed"]
    assert differences(old, to_json(recipe)) == ["--method.embed: unknown -> 64"]


@pytest.mark.parametrize(
    "node",
    [
        {"class": "os.system", "command": "true"},
        {"class": "pathlib.Path"},
        {"class": "abx.cli.main"},  # of abx, but no dataclass
        {"class": "abx.experiment.config.import_module", "name": "antigravity"},
        {"class": "abx.methods.simclr.NoSuchThing"},
        {"class": "abx.no_such_module.SimCLR"},
        {"class": "abxtra.SimCLR"},
        {"class": "abx.methods.simclr.SimCLR", "no_such_field": 1},
        {"class": None},
        {},
    ],
)
def test_only_configurations_of_abx_are_built(node):
    with pytest.raises(ValueError, match="abx"):
        from_json(node)


def test_numbers_that_are_none():
    recipe = load("ab_simclr").PRESETS["smoke"]
    for path, value in leaves(recipe).items():
        if isinstance(value, float):
            for broken in (math.nan, math.inf, -math.inf):
                about = [p for p in changed(recipe, path, broken).problems() if p.startswith(f"--{path} ")]
                assert about == [f"--{path} must be a finite number, not {broken}"]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_have_no_problems(name, preset):
    """But that the paper's row waits for a tokenizer made from its captions, and says so."""
    found = load(name).PRESETS[preset].problems()
    if preset == "paper" and any(path.endswith("tokenizer") for path in leaves(load(name).PRESETS[preset])):
        (problem,) = found
        assert "captions.model is not there" in problem
    else:
        assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_size_stands_for_four_numbers(name):
    recipe = dataclasses.replace(load(name).PRESETS["paper"], size="L").sized()
    assert (recipe.backbone.width, recipe.backbone.depth, recipe.backbone.heads, recipe.backbone.mlp) == (
        1024,
        24,
        16,
        4096,
    )
    assert recipe.size == ""
    assert recipe.backbone.remat == load(name).PRESETS["paper"].backbone.remat
    assert dataclasses.replace(load(name).PRESETS["paper"]).sized() == load(name).PRESETS["paper"]


def test_what_does_not_fit_together():
    recipe = load("mae").PRESETS["smoke"]
    apart = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, views=RandomCrops(1, 16)))
    assert apart.problems() == ["--data.views.size must be --method.backbone.size, 32, not 16"]
    recipe = load("ab_clip").PRESETS["smoke"]
    base = dataclasses.replace(
        recipe.method.base, text=dataclasses.replace(recipe.method.base.text, vocab=100, length=3)
    )
    found = dataclasses.replace(recipe, method=dataclasses.replace(recipe.method, base=base)).problems()
    assert [p.split(",")[0] for p in found] == [
        "--method.base.text.vocab must be at least 512",
        "--method.base.text.length must be at least 24",
    ]


def test_out_that_cannot_be(tmp_path, monkeypatch):
    recipe = load("simclr").PRESETS["smoke"]
    problems = lambda out: dataclasses.replace(recipe, out=out).problems()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert problems(tmp_path / "new" / "deep") == problems(tmp_path) == []
    assert "is a file, not a folder" in problems(tmp_path / "file")[0]
    assert "is a file, not a folder" in problems(tmp_path / "file" / "below")[0]
    assert "is a broken link" in problems(tmp_path / "link" / "below")[0]
    assert "--out" in problems(tmp_path / ("x" * 300))[0]
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert "nothing may be written" in problems(tmp_path / "new")[0]


@pytest.mark.parametrize(
    ("every", "keep_every", "most"), [(10, 0, 4), (10, 20, 8), (10, 15, 7), (10, 1000, 4), (0, 20, 4), (7, 7, 18)]
)
def test_how_many_checkpoints_there_can_be(every, keep_every, most):
    """Of 100 steps: the newest two, the best, the one being written, and those that stay before the last step."""
    assert Checkpointing(every, keep_every=keep_every).most(100) == most
