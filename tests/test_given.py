"""Features from elsewhere: measured as ours are, and refused in a sentence where they are none."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from asked import refused
from runs import one_device

from abx.data.sources import SpecError
from abx.experiment import probe
from abx.experiment.given import read_given
from abx.experiment.probe_settings import MapSettings
from abx.experiment.probing import Probe
from abx.experiment.results import read_runs

ONE = {"features": np.ones((2, 3)), "labels": np.arange(2)}


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


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
    assert probe.probe(replace(asked, probes=("knn",)))[0]["n_test"] == 30
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
