"""The probe command: what it refuses, what it writes, and that a probe cut short ends as one that never was."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from asked import CLASSES, QUICK, Some, figures, pictures, recipe_on, refused, two_steps
from conftest import TINY
from pictures import smooth
from runs import one_device
from small import METHODS

from abx import parallel
from abx.data.layouts import CaptionData
from abx.data.sources import Samples
from abx.data.texts import Texts
from abx.experiment import Recipe, feeding, probe, probing, rows
from abx.experiment import run as running
from abx.experiment.loading import Subject, load_subject, named, untrained
from abx.experiment.material import Material, Part
from abx.experiment.probe_settings import (
    DecoderSettings,
    FineTuneSettings,
    KNNSettings,
    LinearSettings,
    MapSettings,
)
from abx.experiment.probing import PRESETS, Probe, Saying
from abx.experiment.results import read_results, read_runs
from abx.experiment.run import digests
from abx.nn import ViT
from abx.nn.answers import AnswerConfig
from abx.optim import AdamW
from abx.probes import cache
from abx.probes.features import Features, Look
from abx.probes.named import Named
from abx.probes.questions import Facts
from abx.probes.tasks import Classification, Detection
from abx.types import Sample

PAPER = ["paper,", "on", "its", "own", "data", "(table)"]


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick):
    return two_steps(tmp_path_factory)


@pytest.fixture
def data(monkeypatch, tmp_path):
    return pictures(monkeypatch, tmp_path)


# --- what it writes ---


@pytest.mark.whole
def test_all_kinds_over_one_pass_of_features(run, data, tmp_path, monkeypatch, capsys):
    recipe, state = run
    passes, original = [], cache.extract
    monkeypatch.setattr(cache, "extract", lambda *a, **k: passes.append(1) or original(*a, **k))
    kinds = ("knn", "linear", "logistic", "map", "decoder", "finetune")
    asked = recipe_on(data, recipe, tmp_path / "out", probes=kinds)
    assert asked.problems() == []
    found = probe.probe(asked)
    assert len(passes) == 2
    assert [row["probe"] for row in found] == list(kinds)
    for row in found:
        # The linear probe keeps a fifth of so few apart, to choose its learning rate by.
        n_train = 29 if row["probe"] == "linear" else 36
        assert (row["n_train"], row["n_test"], row["rejected"]) == (n_train, 24, {"test": 1, "train": 1})
        assert (row["size"], row["view"], len(row["settings"])) == (16, "centre", 8)
        assert row.get("lr") == (pytest.approx(QUICK.lr * 16 / 256) if row["probe"] == "finetune" else None)
        assert row.get("steps") == {"linear": 4, "map": 5, "decoder": 5, "finetune": 5}.get(row["probe"])
        assert row["backbone_sha256"] == cache.digest(state.model.backbone)
        assert (row["run"], row["network"], row["step"]) == (str(recipe.out), "online", 2)
        assert 0 <= row["top1"] <= 1
    assert found[2]["top1"] == 1.0  # colours
    assert read_results(tmp_path / "out" / "results.jsonl") == found
    said = capsys.readouterr().out
    assert "36 pictures, 1 could not be read" in said
    assert "top1 66.2 (1)" in said  # SimCLR's linear probe in the paper's Table 1
    # The same again: features are there, and trained probes are; nothing is trained or computed.
    monkeypatch.setattr(feeding, "_order", None)
    again = probe.probe(replace(asked, probes=("knn", "linear", "map")))
    assert len(passes) == 2
    assert figures(again) == [figures(found)[i] for i in (0, 1, 3)]
    # From anywhere, and of another training of the probe, which is another measurement.
    monkeypatch.chdir("/")
    results = read_runs([tmp_path / "out"])[0].results
    assert len(results) == 9
    assert len({result.settings for result in results}) == 6
    (other,) = probe.probe(replace(asked, probes=("knn",), knn=KNNSettings(k=3)))
    assert other["settings"] != found[0]["settings"]


def test_networks_and_the_features_they_give(run, data, tmp_path, monkeypatch):
    recipe, state = run
    asked = recipe_on(data, recipe, tmp_path, probes=("knn",))
    online, target = (probe.probe(replace(asked, network=name))[0] for name in ("online", "target"))
    assert online["backbone_sha256"] == cache.digest(state.model.backbone)
    assert target["backbone_sha256"] == cache.digest(state.target.backbone)
    # By a path from here, which rows give from the root: tables are made elsewhere.
    monkeypatch.chdir(recipe.out.parent)
    subject, none = load_subject(Path(recipe.out.name), "target", "2"), untrained(recipe.out.name)
    assert (subject.run, none.run, none.init) == (str(recipe.out), "none", str(recipe.out))
    assert cache.digest(subject.model) == digests(state)["target"]
    fresh = none.backbone
    first = running.train.init(recipe.method, recipe.optim.build(2), recipe.seed, recipe.data.blank()).model.backbone
    for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(first), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert cache.digest(fresh) != online["backbone_sha256"]
    big = named("ViT-Ti/16", 32, "token")
    assert (big.width, big.patch, big.size, big.pool) == (192, 16, 32, "token")


def test_questions_with_boxes(run, data, tmp_path):
    (row,) = probe.probe(recipe_on(data, run[0], tmp_path, task="objects", probes=("decoder",)))
    assert (row["kind"], row["view"], row["n_train"], row["n_test"]) == ("objects", "whole", 72, 48)
    assert 0 <= row["top1"] <= 1


def test_detection(run, data, tmp_path, monkeypatch):
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    few = Named(Detection(max_objects=3), *data)
    monkeypatch.setattr(probing, "parse", lambda text: few)
    (row,) = probe.probe(recipe_on(data, run[0], tmp_path, task="detection", probes=("decoder",)))
    assert (row["kind"], row["view"], row["n_train"], row["n_test"]) == ("detection", "whole", 36, 24)
    assert {"ap", "ap50", "iou", "f1"} <= row.keys()


def test_the_same_on_one_device_and_on_eight(run, data, tmp_path, monkeypatch, quick):
    asked = recipe_on(data, run[0], tmp_path, probes=("knn", "logistic"), cache=False)
    one = probe.probe(asked)
    monkeypatch.setattr(parallel, "mesh", quick)
    eight = probe.probe(asked)
    for a, b in zip(one, eight, strict=True):
        assert (a["top1"], a["n_test"]) == (b["top1"], b["n_test"])


def test_a_probe_of_other_labels_is_another_probe(run, data, tmp_path, monkeypatch):
    """Also where nothing else tells the data apart."""
    monkeypatch.setattr(probe, "identity", lambda *of: {})
    asked = recipe_on(data, run[0], tmp_path, probes=("linear",), cache=False)
    probe.probe(asked)
    train = next(iter(data))
    data[train]._samples = [each._replace(label=(each.label + 1) % 3) for each in data[train]._samples]
    probe.probe(asked)
    assert len(list((tmp_path / "probes").iterdir())) == 2


def test_frozen_means_frozen(run, data, tmp_path, monkeypatch):
    def moved(kind, m):
        object.__setattr__(m.backbone.norm, "scale", m.backbone.norm.scale + 1)
        return {"top1": 1.0, "n_train": 1, "n_test": 1}

    monkeypatch.setattr(probe, "measure", moved)
    with pytest.raises(AssertionError, match="not what it was"):
        probe.probe(recipe_on(data, run[0], tmp_path, probes=("knn",)))
    assert not (tmp_path / "results.jsonl").exists()


def test_the_command_on_scenes(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ABX_CACHE", str(tmp_path / "cache"))
    flags = "--run none --probes knn --train-images 150 --test-images 31 --json"
    probe.main("probe.py", "Doc.", [*flags.split(), "--out", str(tmp_path), "--init", str(run[0].out)])
    lines = capsys.readouterr().out.splitlines()
    (row,) = json.loads(lines[-1])["results"]
    assert (row["probe"], row["task"], row["kind"]) == ("knn", "scenes-classification", "classification")
    assert (row["n_train"], row["n_test"], row["train"], row["test"]) == (150, 31, "scenes", "scenes:test")
    assert (row["run"], row["init"]) == ("none", str(run[0].out))
    assert json.loads((tmp_path / "results.jsonl").read_text()) == row


def test_a_dry_run_writes_nothing(run, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert probe.probe(recipe_on(data, run[0], out, dry_run=True)) == []
    assert not out.exists()
    assert "--train: 37 pictures, 16 pixels, centre" in capsys.readouterr().out


# --- what it refuses ---


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run": "nowhere"}, "--run nowhere is not there"),
        ({"run": "RUN", "step": "3"}, "--step 3: RUN has no such checkpoint; there are 2"),
        ({"run": "RUN", "step": "last"}, "--step must be newest, best or one of 2, not last"),
        ({"run": "RUN", "size": 20}, "--size must be a multiple of the patch, 8, not 20"),
        (
            {"init": "XL/16"},
            "--init must be Ti, S, B, L or H, as in ViT-S/16, the folder of a run, or a file of weights (.safetensors, "
            ".npz); XL/16 is not there",
        ),
        ({"init": "S/14", "size": 30}, "--size must be a multiple of the patch, 14, not 30"),
        ({"network": "target"}, "--network must be online with --run none"),
        ({"probes": ("zeroshot",)}, "--probes zeroshot: a network of no run has no text tower"),
        ({"probes": ()}, "--probes must name one or more"),
        ({"probes": ("knn", "knn")}, "--probes must name one or more, each once, not knn knn"),
        ({"task": "clasification"}, "--task: there is no task 'clasification': did you mean classification?"),
        ({"task": "classification"}, "--train and --test must say on which data: --task classification names none"),
        (
            {"task": "scenes-objects", "view": "centre", "probes": ("decoder",)},
            "--view must be whole for scenes-objects, not centre",
        ),
        (
            {"task": "scenes-detection", "view": "centre", "probes": ("decoder",)},
            "--view must be whole for scenes-detection",
        ),
        ({"task": "scenes-detection"}, "--probes knn: --task scenes-detection can be asked of the decoder probe alone"),
        ({"train": "scene"}, "--train: data is "),
        ({"train_images": -1}, "--train_images must be at least 0, not -1"),
        ({"batch": 0}, "--batch must be at least 1, not 0"),
        ({"decoder": DecoderSettings(AnswerConfig(heads=7))}, "--decoder.net.heads must divide the width"),
        ({"map": MapSettings(heads=5)}, "--map.heads must divide the tokens' width, 384, which 5 does not"),
        ({"map": MapSettings(epochs=0)}, "--map.epochs must be at least 1, not 0"),
        ({"map": MapSettings(optim=AdamW(lr=math.nan))}, "--map.optim.lr must be a finite number, not nan"),
        ({"linear": LinearSettings(optim=AdamW(lr=-1.0))}, "--linear.optim.lr must be above 0, not -1.0"),
        ({"finetune": FineTuneSettings(drop_path=1.0)}, "--finetune.drop_path must be a probability below 1"),
        ({"seed": -1}, "--seed must be in [0, 2147483647], not -1"),
    ],
)
def test_each_mistake_is_one_sentence(run, changes, sentence, monkeypatch):
    monkeypatch.setattr(jax, "devices", None)  # nothing touches a device
    here = str(run[0].out)
    changes = {k: here if v == "RUN" else v for k, v in changes.items()}
    (found,) = Probe(**{"probes": ("knn",)} | changes).problems()
    assert found.replace(here, "RUN").startswith(sentence)


def test_all_mistakes_at_once(capsys):
    words = ("run=nowhere", "probes=knn", "task=x", "batch=0", "knn.k=0")
    with pytest.raises(SystemExit) as stopped:
        probe.main("probe.py", "Doc.", [f"--{word}" for word in words])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1].rstrip(":") for line in said] == ["--run", "--task", "--knn.k", "--batch"]
    with pytest.raises(SystemExit):
        probe.main("probe.py", "Doc.", ["smke"])
    assert capsys.readouterr().err == "error: there is no preset 'smke'; did you mean smoke?\n"


def test_presets_are_well(monkeypatch):
    for preset in PRESETS.values():
        assert preset.problems() == []


def test_a_checkpoint_of_another_architecture(run, data, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    config = (run[0].out / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"width": 32', '"width": 48'))
    os.symlink(run[0].out / "checkpoints", copy / "checkpoints")
    said = refused(replace(recipe_on(data, run[0], tmp_path), run=str(copy)), capsys)
    assert said.startswith("--run: ")
    assert "is of another model" in said


BROKEN = [
    (lambda said: "[]", "it is the configuration of no run"),
    (lambda said: "5", "it is the configuration of no run"),
    (lambda said: "null", "it is the configuration of no run"),
    (lambda said: "[" * 100_000, ""),
    (lambda said: json.dumps({"class": "os.system"}), "os.system is not a class of abx"),
    (lambda said: json.dumps(said | {"method": 5}), "method of abx.experiment.config.Recipe cannot be 5"),
    (lambda said: json.dumps(said | {"method": said["optim"]}), "method of abx.experiment.config.Recipe cannot be"),
    (lambda said: json.dumps(said | {"steps": "many"}), "steps of abx.experiment.config.Recipe cannot be 'many'"),
    (lambda said: json.dumps(said | {"seed": True}), "seed of abx.experiment.config.Recipe cannot be True"),
    (lambda said: json.dumps(said).replace('"heads": 2', '"heads": 5'), "method.backbone.heads must divide"),
]


@pytest.mark.parametrize("asked", ["run", "init"])
@pytest.mark.parametrize(("broken", "why"), BROKEN)
def test_a_configuration_that_is_none(run, tmp_path, broken, why, asked):
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    said = json.loads((run[0].out / "config.json").read_text())
    (tmp_path / "config.json").write_text(broken(said))
    (sentence,) = (s for s in Probe(**{asked: str(tmp_path)}).problems() if s.startswith(f"--{asked} "))
    assert f"{tmp_path / 'config.json'} is not a configuration that this version of abx reads: {why}" in sentence


def test_a_run_whose_tokenizer_is_gone(tmp_path, capsys):
    gone = Texts(tokenizer=str(tmp_path / "gone.model"), length=12)
    recipe = Recipe(CaptionData("scenes", 16, text=gone), METHODS["clip"].method, 10)
    subject = Subject(ViT(TINY, key=jax.random.key(0)), "runs/clip", "", "online", 10, recipe, None)
    with pytest.raises(SystemExit) as stopped:
        probe._towers(Probe(run="runs/clip", probes=("zeroshot", "knn")), subject)
    assert stopped.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: --probes zeroshot: the run's data.text.tokenizer: ")
    assert "gone.model" in said
    probe._towers(Probe(run="runs/clip", probes=("knn",)), subject)


@pytest.mark.parametrize(
    ("facts", "classes", "said"),
    [
        (
            Facts(),
            (),
            ["retrieval: none of the test pictures has a caption", "zeroshot: none of the test pictures has"],
        ),
        (
            Facts(label=0),
            ("0", "1"),
            ["retrieval: none", "zeroshot: zero-shot classification needs classes with names"],
        ),
        (Facts(label=0, captions=("a cat",)), ("cat", "dog"), []),
    ],
)
def test_what_all_probes_need_is_asked_before_the_first(tmp_path, monkeypatch, capsys, facts, classes, said):
    features = Features(None, np.ones((1, 4), np.float32), [facts], ["a"], np.arange(1), [])
    part = Part(Samples([Sample(smooth(8, 8))], classes), "folder:x", np.arange(1), features, [facts])
    asked, measured = Probe(probes=("retrieval", "zeroshot"), out=tmp_path), []
    material = Material(asked, None, {}, Look(), Classification(), None, None, part, None, {}, "")
    monkeypatch.setattr(probe, "measure", lambda kind, m: measured.append(kind) or {"n_train": 0, "n_test": 1})
    if not said:
        probe._measured(material)
        assert measured == ["retrieval", "zeroshot"]
        return
    with pytest.raises(SystemExit):
        probe._measured(material)
    found = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"error: --probes {each}") for line, each in zip(found, said, strict=True)] == [True, True]
    assert not measured


def test_labels_that_do_not_fit(run, data, tmp_path, capsys):
    train, test = data
    asked = recipe_on(data, run[0], tmp_path, probes=("knn",))
    data[test] = Some(12, 1, classes=("red", "green", "violet"))
    assert "names for the classes of pictures that the training data does not have: violet" in refused(asked, capsys)
    data[test] = Some(12, 1)
    data[train] = Some(12, 1, classes=(*CLASSES, "white"))
    said = refused(asked, capsys)
    assert "no training picture is used: white; take more --train-images" in said
    assert "--task action: no picture of the training data has a verb" in refused(
        replace(asked, task="action", probes=("decoder",)), capsys
    )
    assert "is a run of SimCLR, which has no text tower" in refused(replace(asked, probes=("retrieval",)), capsys)
    data[train] = Some(3, 1, bad=(0, 1, 2))
    assert refused(asked, capsys).startswith("--train: none of the first 3 images could be read")
    assert not (tmp_path / "results.jsonl").exists()


def test_classes_go_by_name(run, data, tmp_path):
    _, test = data
    asked = recipe_on(data, run[0], tmp_path, probes=("logistic",))
    (straight,) = probe.probe(asked)
    other = Some(25, 1, bad=(5,), classes=("blue", "red", "green"))
    other._samples = [s._replace(label=(s.label + 1) % 3) for s in other._samples]
    data[test] = other
    (by_name,) = probe.probe(replace(asked, cache=False))
    assert by_name["top1"] == straight["top1"] == 1.0


def test_a_training_whose_loss_is_no_number_stops(run, data, tmp_path, capsys):
    asked = recipe_on(data, run[0], tmp_path, log=Saying(0))
    high = replace(QUICK, lr=3e38)
    for kind in ("map", "linear"):
        settings = replace(getattr(asked, kind), optim=high, epochs=8)
        said = refused(replace(asked, probes=(kind,), **{kind: settings}), capsys)
        assert said.startswith(f"--{kind}.optim.lr must be lower: the loss of {kind}-classification is ")
    assert not (tmp_path / "results.jsonl").exists()
    # One of several rates alone is only not chosen.
    linear = LinearSettings(rates=(1e-3, 1e38), epochs=8, batch=8, optim=replace(QUICK, lr=3.0))
    (row,) = probe.probe(replace(asked, probes=("linear",), linear=linear))
    assert row["rate"] == 1e-3


# --- the file ---


def test_results_that_cannot_be_written_are_said_before_anything_is_computed(run, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "out" / "results.jsonl").mkdir(parents=True)
    asked = recipe_on(data, run[0], tmp_path / "out", probes=("knn",))
    (said,) = asked.problems()
    assert said == f"--out {tmp_path / 'out'}: {tmp_path / 'out' / 'results.jsonl'} is no file"

    def full(path, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(probe, "append", full)
    assert refused(replace(asked, out=tmp_path), capsys).endswith("cannot be written: No space left on device")


def test_what_a_kill_cut_off_is_removed(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    rows.append(path, [{"a": 1}])
    with path.open("a") as file:
        file.write('{"b": 2')
    rows.append(path, [{"c": 3}, {"d": 4}])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"c": 3}, {"d": 4}]


def test_a_table(capsys):
    row = {"probe": "knn", "task": "pets", "top1": 0.5, "n_train": 1000, "n_test": 20, "seconds": 1.2}
    other = row | {"probe": "decoder", "top1": None, "ap": 0.25}
    said = rows.table([row, other], ["66.2 (1)", ""]).splitlines()
    assert said[0].split() == ["probe", "task", "top1", "ap", "n_train", "n_test", *PAPER]
    assert said[1].split() == ["knn", "pets", "50.0", "1,000", "20", "66.2", "(1)"]
    assert said[2].split() == ["decoder", "pets", "-", "25.0", "1,000", "20"]
    assert rows.line(row) == "knn: top1 50.0  (1,000 to train, 20 to test; 1 s)"
