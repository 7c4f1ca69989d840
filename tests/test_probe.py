"""The probe command: what it refuses, what it writes, and that a probe cut short ends as one that never was."""

import errno
import json
import math
import os
from contextlib import suppress
from dataclasses import replace

import jax
import numpy as np
import pytest
from asked import CLASSES, QUICK, Some, figures, pictures, recipe_on, two_steps
from conftest import TINY
from pictures import smooth
from runs import one_device
from small import METHODS

from abx import parallel
from abx.data.layouts import CaptionData
from abx.data.sources import Samples, SpecError
from abx.data.texts import Texts
from abx.experiment import Recipe, feeding, probe, probing, rows
from abx.experiment import run as running
from abx.experiment.given import read_given
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

ONE = {"features": np.ones((2, 3)), "labels": np.arange(2)}
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


def test_networks_and_the_features_they_give(run, data, tmp_path):
    recipe, state = run
    asked = recipe_on(data, recipe, tmp_path, probes=("knn",))
    online, target = (probe.probe(replace(asked, network=name))[0] for name in ("online", "target"))
    assert online["backbone_sha256"] == cache.digest(state.model.backbone)
    assert target["backbone_sha256"] == cache.digest(state.target.backbone)
    subject = load_subject(recipe.out, "target", "2")
    assert cache.digest(subject.model) == digests(state)["target"]
    fresh = untrained(str(recipe.out)).backbone
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


def test_features_from_elsewhere(tmp_path, capsys, rng):
    classes, files = np.array(["a", "b", "c"]), (tmp_path / "train.npz", tmp_path / "test.npz")
    for path, count in zip(files, (60, 30), strict=True):
        labels = np.arange(count) % 3
        shown = np.eye(3)[labels].repeat(2, 1) + 0.1 * rng.random((count, 6))
        np.savez(path, features=shown, labels=labels, classes=classes, tokens=shown[:, None].repeat(2, 1))
    asked = Probe(features=files, out=tmp_path, probes=("knn", "logistic", "map"), map=MapSettings(epochs=40, batch=8))
    assert asked.problems() == []
    found = probe.probe(asked)
    assert [row["top1"] for row in found] == [1.0, 1.0, 1.0]
    assert all((row["n_train"], row["n_test"], row["task"]) == (60, 30, "classification") for row in found)
    assert found[0]["run"] == str(files[0])
    assert "--features must be two files" in replace(asked, features=files[:1]).problems()[0]
    assert "in place of --run" in replace(asked, train="scenes").problems()[0]
    assert "--probes finetune: these take a network" in replace(asked, probes=("finetune",)).problems()[0]
    for flag, value in {"size": 32, "network": "target", "step": "5", "init": "B", "view": "whole"}.items():
        (said,) = replace(asked, **{flag: value}).problems()
        assert said.startswith(f"--{flag} is of networks")
    (part,) = probe.probe(replace(asked, probes=("knn",), train_images=31, test_images=7))
    assert (part["n_train"], part["n_test"], part["top1"]) == (31, 7, 1.0)
    assert part["labels_sha256"] != found[0]["labels_sha256"]
    assert len(read_runs([tmp_path])) == 1
    heads = replace(asked, probes=("map",), map=MapSettings(heads=4))
    assert refused(heads, capsys) == "--map.heads must divide the tokens' width, 6, which 4 does not"
    other = np.arange(30) % 3, np.ones((30, 6)), np.ones((30, 4, 5))
    np.savez(files[1], labels=other[0], features=other[1], tokens=other[2], classes=classes)
    assert "tokens to train on are [2, 6] and those to test on [4, 5]" in refused(asked, capsys)
    np.savez(files[1], features=np.ones((3, 6)), labels=np.arange(3))
    assert "tokens to train on are [2, 6] and those to test on not there" in refused(asked, capsys)
    np.savez(files[0], features=np.ones((3, 6)), labels=np.arange(3), classes=classes)
    assert refused(replace(asked, probes=("map",)), capsys).startswith("--probes map: these read tokens")
    assert "classes of pictures that the training data does not have: 0, 1, 2" in refused(
        replace(asked, probes=("knn",)), capsys
    )


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (None, "is not there"),
        (b"no zip", "is not an .npz that can be read"),
        ({"features": np.ones((2, 3))}, "has no labels, only features"),
        ({"features": np.ones(3), "labels": np.arange(3)}, "with a picture and a number at least, not [3] and [3]"),
        ({"features": np.full((2, 3), np.nan), "labels": np.arange(2)}, "finite numbers, and there is NaN among them"),
        ({"features": np.full((2, 3), np.inf), "labels": np.arange(2)}, "there is infinite numbers among them"),
        ({"features": np.ones((2, 0)), "labels": np.arange(2)}, "a number at least, not [2, 0] and [2]"),
        ({"features": np.full((2, 3), 1e300), "labels": np.arange(2)}, "their largest must be from 1e-30 to 1e+30"),
        (ONE | {"tokens": np.full((2, 1, 3), 1e6)}, "tokens are kept in float16, and their largest must be"),
        (ONE | {"tokens": np.full((2, 1, 3), 1e-6)}, "tokens are kept in float16, and their largest must be"),
        (ONE | {"names": np.array(["a"])}, "names must be as many as features, 2, not [1]"),
        (ONE | {"classes": np.array("abc")}, "classes must be names, one for each number of a label, not []"),
        (ONE | {"classes": np.array(["a", "b", "a"])}, "two are called 'a'"),
        (ONE | {"labels": np.array([0, 300_000_000])}, "there is a label 300000000, and no more than"),
        (np.ones((2, 3)), "is not an .npz that can be read (TypeError)"),
        ({"features": np.ones((2, 3)), "labels": np.ones(2)}, "labels must be integers, not float64"),
        (
            {"features": np.ones((1, 3)), "labels": np.array([4]), "classes": np.array(["a"])},
            "there is a label 4, and 1",
        ),
        ({"features": np.ones((2, 3)), "labels": np.array([{}, 1])}, "is not an .npz that can be read"),
    ],
)
def test_files_that_hold_no_features(tmp_path, arrays, said):
    path = tmp_path / "x.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    elif isinstance(arrays, np.ndarray):
        with path.open("wb") as file:
            np.save(file, arrays)
    elif arrays is not None:
        np.savez(path, **arrays)
    with pytest.raises(SpecError) as wrong:
        read_given(path)
    assert str(wrong.value).startswith(f"{path}")
    assert said in str(wrong.value)


def test_no_byte_of_a_compressed_file_makes_more_than_a_sentence(tmp_path, rng):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, features=rng.random((20, 3)), labels=np.arange(20))
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        with suppress(SpecError):
            read_given(path)


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
            "--init must be Ti, S, B, L or H, as in ViT-S/16, or the folder of a run; XL/16 is not there",
        ),
        ({"init": "S/14", "size": 30}, "--size must be a multiple of the patch, 14, not 30"),
        ({"network": "target"}, "--network must be online with --run none"),
        ({"probes": ("zeroshot",)}, "--probes zeroshot: an untrained network has no text tower"),
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


def refused(recipe, capsys):
    """What stands on stderr when the command ends with 2."""
    with pytest.raises((SystemExit, SpecError)) as stopped:
        probe.probe(recipe)
    if isinstance(stopped.value, SpecError):
        return str(stopped.value)
    assert stopped.value.code == 2
    return capsys.readouterr().err


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
