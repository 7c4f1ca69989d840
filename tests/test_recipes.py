"""Each recipe's smoke preset as a pulse: a few steps end to end in its own process, and what its folder then holds."""

import io
import json
import math
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from pages import unexplained
from PIL import Image

from abx import cli
from abx.experiment.config import Recipe
from abx.experiment.saved import from_json
from abx.log import read_metrics
from recipes import NAMES, ROOT, finish, start, tiny

FILES = {"config.json", "environment.json", "metrics.jsonl", "views.png", "report.txt", "final.json", "checkpoints"}
METRICS = {"loss", "grad_norm", "reward/loss", "reward/chance", "reward/accuracy", "data/rejected", "data/read"}
METRICS |= {"speed/views_per_second", "speed/ms_per_step", "speed/data_wait_fraction"}
PROBES = {"eval/knn_top1", "eval/attentive_top1", "eval/chance"}
SPREAD = {"eval/feature_rank", "eval/feature_std"}
VALUE = {"loss", "accuracy", "copy_accuracy", "accuracy_self", "chance", "explained", "rotated_rise", "gradient_ratio"}
VALUE |= {"entropy_floor", "excess", "sum_q", "sum_y", "gradient_cosine", "gamma", "scale", "bias", "over_copy"}


def picture(rng: np.random.Generator) -> bytes:
    colours = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize((48, 36), Image.Resampling.BICUBIC)
    colours.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes and one file that is no picture; a shard of the same without labels."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    with tarfile.open(root / "a.tar", "w") as shard:
        for i in range(24):
            place = root / "folder" / ("cat", "dog")[i % 2] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data := picture(rng))
            member = tarfile.TarInfo(f"{i:04}.png")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    (root / "folder" / "cat" / "broken.jpg").write_bytes(b"no picture at all")
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, tuple[Path, str]]:
    """Folder and output of four runs: both recipes on scenes, SimCLR on a folder and on a shard."""
    root = tmp_path_factory.mktemp("runs")
    folder = f"folder:{pictures / 'folder'}"
    flags: dict[str, tuple[str, list[object]]] = {
        "ab_simclr": ("ab_simclr", []),
        "simclr": ("simclr", []),
        "folder": ("simclr", ["--data.train", folder, "--eval.test", folder]),
        "tar": ("simclr", ["--data.train", f"tar:{pictures}/*.tar", "--data.workers", 2]),
    }
    common = ["--steps", 4, "--eval.every", 4, "--ckpt.every", 2, "--log.every", 2]
    launch = lambda run: start(
        flags[run][0], *tiny(flags[run][0]), *common, "--out", root / run, *flags[run][1], cache=root / "compiled"
    )
    said = {}
    ab = launch("ab_simclr")  # beside the others, which find each other's compiled code
    try:
        for run in ("simclr", "folder", "tar"):
            said[run] = finish(launch(run))
        said["ab_simclr"] = finish(ab)
    finally:
        ab.kill()
    return {run: (root / run, text) for run, text in said.items()}


@pytest.mark.whole
@pytest.mark.parametrize("run", ["ab_simclr", "simclr", "folder", "tar"])
def test_the_folder_holds_what_was_promised(runs, run):
    out, said = runs[run]
    ab = run == "ab_simclr"
    assert {path.name for path in out.iterdir()} >= FILES
    assert (out / "value_map.png").exists() == ab
    assert {"2", "4"} <= {path.name for path in (out / "checkpoints").iterdir()}
    for name in ("views.png", "value_map.png") if ab else ("views.png",):
        with Image.open(out / name) as drawn:
            drawn.load()
            assert min(drawn.size) > 100

    rows = read_metrics(out / "metrics.jsonl")
    assert all("step" in row for row in rows)
    assert {int(row["step"]) for row in rows} == {0, 2, 4}
    names = {name for row in rows for name in row}
    assert names >= METRICS | SPREAD
    assert unexplained(names) == []
    assert (names >= PROBES) == (run != "tar")  # pictures without labels
    assert (names >= {f"value/{name}" for name in VALUE}) == ab
    assert all(math.isfinite(row.get("loss", 0)) for row in rows)

    text = (out / "report.txt").read_text()
    assert ("AB" if ab else "SimCLR") in text
    assert "step 4 of 4" in text
    assert "nan" not in text
    assert text.strip() in said

    final = json.loads((out / "final.json").read_text())
    assert final["step"] == 4
    assert {len(digest) for digest in final["params_sha256"].values()} == {64}
    assert final["params_sha256"].keys() == {"online", "target"}
    assert final["params_sha256"]["online"] != final["params_sha256"]["target"]
    assert final["metrics"].keys() == names - {"step"}

    config = from_json(json.loads((out / "config.json").read_text()))
    assert isinstance(config, Recipe)
    assert config.steps == 4
    environment = json.loads((out / "environment.json").read_text())
    assert environment["packages"]["jax"]
    assert environment["devices"]


@pytest.mark.whole
def test_what_is_no_picture_is_named_once(runs):
    out, said = runs["folder"]
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [line["name"].endswith("broken.jpg") for line in lines] == [True]
    assert said.count("broken.jpg") >= 1


@pytest.mark.whole
def test_without_labels_the_report_says_what_is_missing(runs):
    assert "no k-NN" in (runs["tar"][0] / "report.txt").read_text()


@pytest.mark.whole
def test_report_of_a_run(runs, capsys):
    cli.main(["report", str(runs["ab_simclr"][0]), "--json"])
    *text, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["step"] == 4
    assert found["healthy"] in (True, False)
    assert found["metrics"]["eval/knn_top1"] >= 0
    assert text[0].startswith("AB, step 4 of 4: ")


@pytest.fixture
def quick_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.whole
def test_value_map_of_a_picture(runs, pictures, tmp_path, capsys, quick_compile):
    run, image, out = str(runs["ab_simclr"][0]), pictures / "folder" / "dog" / "1.png", tmp_path / "map.png"
    cli.main(["value-map", run, str(image), "--out", str(out), "--box", "0", "0", "0.5", "1", "--network", "target"])
    assert capsys.readouterr().out == f"written: {out}\n"
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"

    for wrong, sentence in {
        str(pictures / "folder" / "cat" / "broken.jpg"): "is not a picture that can be read",
        str(pictures / "nothing.png"): "nothing.png is not there",
    }.items():
        with pytest.raises(SystemExit) as stop:
            cli.main(["value-map", run, wrong])
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["value-map", run, str(image), "--out", str(tmp_path / "no" / "folder.png")])
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiled code that one recipe leaves for the next: their probes and most of their towers are the same."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.whole
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ab_simclr", "simclr"}))
def test_every_recipe_trains_looks_and_draws(name, tmp_path, compiled):
    """The two left out are `runs`."""
    out = tmp_path / "run"
    said = finish(
        start(name, *tiny(name), "--steps", 2, "--eval.every", 2, "--log.every", 1, "--out", out, cache=compiled)
    )
    rows = read_metrics(out / "metrics.jsonl")
    names = {name for row in rows for name in row}
    assert names >= PROBES | SPREAD | {"loss", "grad_norm", "data/read"}
    assert unexplained(names) == []
    assert all(math.isfinite(value) for row in rows for key, value in row.items() if not key.startswith("value/"))
    assert {int(row["step"]) for row in rows} == {0, 1, 2}
    assert (out / "report.txt").read_text().strip() in said
    drawn = {"views.png", "value_map.png"} if name.startswith("ab_") else {"views.png"}
    for picture in drawn:
        with Image.open(out / picture) as image:
            image.load()
            assert min(image.size) > 100
    assert json.loads((out / "final.json").read_text())["step"] == 2
    assert from_json(json.loads((out / "config.json").read_text())).problems() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke_learns(name, tmp_path):
    """The smoke preset as a newcomer runs it: the loss falls, and k-NN beats that of the untrained network."""
    command = [sys.executable, str(ROOT / "recipes" / f"{name}.py"), "--out", str(tmp_path / "run")]
    # As a user's process, without what conftest sets to compile faster and run slower.
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")}
    subprocess.run(command, check=True, cwd=ROOT, env=env, capture_output=True, timeout=1200)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    knn = [row["eval/knn_top1"] for row in rows if "eval/knn_top1" in row]
    third = len(losses) // 3
    assert np.mean(losses[-third:]) < np.mean(losses[:third])
    assert knn[-1] > 1.1 * knn[0]
