"""The examples in every --help run as typed: all are valid commands, and what is cheap is run, on a tiny run."""

import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from examples import CONSOLE, RECIPES, lines, words
from PIL import Image
from test_cli import call
from test_typos import VERBS

from abx import cli as console
from abx.experiment import probe
from recipes import NAMES, ROOT, finish, load, start, tiny


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(pixels).resize((60, 48), Image.Resampling.BICUBIC).save(path)


def shard(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i in range(count):
            picture(path.with_suffix(".jpg"), i)
            words = ("a dog on a bench", "two plain stars", "a red house")[i % 3]
            for suffix, data in (("jpg", path.with_suffix(".jpg").read_bytes()), ("txt", words.encode())):
                member = tarfile.TarInfo(f"{i:04}.{suffix}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    path.with_suffix(".jpg").unlink()


def furnish(root: Path) -> None:
    """What the examples take to be there, but for runs."""
    for i in range(24):
        picture(root / "Pictures" / f"{i}.jpg", i)
        for part in ("imagenet/train", "pets/train", "pets/test"):
            picture(root / part / ("cat", "dog")[i % 2] / f"{i}.jpg", i)
    for part in ("train", "val"):
        (root / "imagenet" / f"{part}-00000.arrayrecord").touch()
    (root / "coco").mkdir()
    (root / "coco" / "train-00000.arrayrecord").touch()
    picture(root / "picture.jpg", 99)
    for name in ("shards/a.tar", "train-0.tar", "val-0.tar", "cc12m/0.tar"):
        shard(root / name, 24)
    for name in ("my.model", "captions.model"):
        shutil.copyfile(ROOT / "abx" / "data" / "tokenizers" / "scenes.model", root / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    furnish(root := tmp_path_factory.mktemp("place"))
    return root


@pytest.fixture
def here(place, monkeypatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    return place


def test_lines():
    text = "Usage: abx x\n  abx a --b\n      says abx\n  python recipes/x.py small \\\n      --c 'd e' \\\n  f\n  abx\n"
    assert lines(text) == ["abx a --b", "python recipes/x.py small --c 'd e' f", "abx"]
    assert words(lines(text)[1]) == ["small", "--c", "d e", "f"]


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_command_has_an_example_in_its_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        console.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"  abx {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*NAMES, "probe"])
def test_every_recipe_has_examples(name):
    assert len([line for line in RECIPES if f"recipes/{name}.py" in line]) >= 3


@pytest.mark.parametrize("line", CONSOLE)
def test_examples_are_valid(line, here, monkeypatch, capsys):
    """The command's own parser takes them."""
    taken = []
    for kind in VERBS.values():
        monkeypatch.setattr(kind, "__call__", lambda self: taken.append(self), raising=False)
    monkeypatch.setattr(probe, "probe", lambda recipe: taken.append(recipe) or [])
    if line.startswith("abx probe --run runs/") or "--run RUN" in line:
        line = line.replace("--run runs/ab_simclr-smoke", "--run none").replace(
            "--run RUN --network target", "--run none"
        )
        line = line.replace("--run RUN", "--run none").replace("imagenet:DIR", "imagenet:imagenet")
    try:
        console.main(words(line))
    except SystemExit as stop:
        assert not stop.code, capsys.readouterr().err  # noqa: PT017
        assert "--help" in line
    else:
        assert len(taken) == 1 or line == "abx --version"


@pytest.mark.parametrize("line", [line for line in RECIPES if "recipes/probe.py" not in line])
def test_examples_of_recipes_are_valid(line, here, monkeypatch, capsys):
    """All but what their data holds: that needs the data. A preset that waits for a tokenizer names it."""
    if line.startswith("abx"):
        assert line.split()[1] in ("tokenizer", "data")
        return
    if "folder:coco/train" in line:
        picture(here / "coco" / "train" / "a.jpg", 0)
    taken = []
    monkeypatch.setattr("abx.experiment.run.run", taken.append)
    module = sys.modules["abx.experiment.cli"]  # of the same name as the function in it
    monkeypatch.setattr(module, "stand_in", lambda machine: None)
    monkeypatch.setattr(module, "join", lambda recipe: None)
    try:
        call(Path(line.split()[1]).stem, *words(line))
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    assert len(taken) == 1


# What is run


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory) -> Path:
    """With the runs that the examples name, tiny."""
    cache = tmp_path_factory.mktemp("compiled")
    for name in ("ab_simclr", "simclr"):
        often = ["--steps", 2, "--eval.every", 2, "--log.every", 1, "--ckpt.every", 1]
        finish(start(name, *tiny(name), *often, "--out", place / "runs" / f"{name}-smoke", cache=cache))
        shutil.copytree(place / "runs" / f"{name}-smoke", place / "runs" / f"{name}-small")
    return place


RUN = [
    line
    for line in CONSOLE
    if line.split()[1] not in ("verify-resume", "replay", "table")  # which train, need a step gone wrong, need results
    and "RUN" not in line
    and "prepare coco" not in line
    and "arrayrecord:" not in line
    and "none --init ViT-S/16" not in line  # minutes on a CPU
]


@pytest.mark.whole
def test_examples_run(trained, here, monkeypatch, capsys):
    """In order, as one person might type them; then those that need what others have made."""
    for line in [*RUN, "abx table runs/simclr-small runs/ab_simclr-small"]:
        if line.startswith("abx table"):
            results = here / "runs" / "ab_simclr-smoke" / "results.jsonl"
            for name in ("simclr", "ab_simclr"):
                shutil.copyfile(results, here / "runs" / f"{name}-small" / "results.jsonl")
        if "tokenizer train" in line:  # two dozen captions do not make 32,000 tokens
            line = line.removesuffix(" --vocab 32000") + " --vocab 300"
        try:
            console.main(words(line))
        except SystemExit as stop:
            assert not stop.code, (line, capsys.readouterr())  # noqa: PT017
    written = "map.png explorer.html figures targets.html features.npz tokens.npz pca.png neighbours.html imported.png "
    written += "model.safetensors curves.png my.model"
    assert [name for name in written.split() if not (here / name).exists()] == []


@pytest.mark.whole
@pytest.mark.parametrize("name", NAMES)
def test_examples_of_recipes_plan(name, here, capsys):
    """Each with --dry-run, on data as the example names it."""
    for line in lines(load(name).__doc__ or ""):
        if "arrayrecord:" in line or line.startswith("abx"):
            continue
        if "folder:coco/train" in line:
            picture(here / "coco" / "train" / "a.jpg", 0)
        given = [word for word in words(line) if word != "--dry-run"]
        try:
            call(name, *given, "--dry-run", "--plan.no-compile")
        except SystemExit as stop:
            assert not stop.code, (line, capsys.readouterr().err)  # noqa: PT017
        assert "views a step" in capsys.readouterr().out
    assert not os.path.exists("checkpoints")
