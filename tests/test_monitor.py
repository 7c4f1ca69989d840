"""Which pictures a run is looked at with, and that labels of two sources mean the same."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from abx.data.sources import SpecError
from abx.data.streams import open_sources
from abx.experiment import Evaluation
from abx.experiment.monitor import Monitor
from recipes import load


def classes(root, **counts):
    """A folder for each class; the brightness of a picture tells its class and number."""
    for c, (name, count) in enumerate(sorted(counts.items())):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((40, 40, 3), 10 * c + i, np.uint8)).save(root / name / f"{i}.png")
    return f"folder:{root}"


def monitor(train, /, **evaluation):
    recipe = load("simclr").PRESETS["smoke"]
    recipe = dataclasses.replace(
        recipe, data=dataclasses.replace(recipe.data, train=train), eval=Evaluation(**evaluation)
    )
    return Monitor.open(recipe, open_sources(recipe.data))


def shades(labelled):
    return set(labelled.images[:, 0, 0, 0].tolist())


def test_without_test_data_part_of_the_training_data_is_set_apart(tmp_path):
    found = monitor(classes(tmp_path, a=8, b=8), train_images=10, test_images=4)
    assert (len(found.train.labels), len(found.test.labels)) == (10, 4)
    assert not shades(found.train) & shades(found.test)
    assert set(found.train.labels) == {0, 1}
    few = monitor(f"folder:{tmp_path}", train_images=100, test_images=100)
    assert (len(few.train.labels), len(few.test.labels)) == (8, 8)


def test_labels_of_two_folders_are_matched_by_name(tmp_path):
    train, test = classes(tmp_path / "train", a=3, b=3, c=3), classes(tmp_path / "test", b=2, c=2, d=2)
    found = monitor(train, test=test)
    # In the test folder b is number 0, c 1 and d 2; of d nothing is known.
    assert dict(zip(found.test.images[:, 0, 0, 0].tolist(), found.test.labels.tolist(), strict=True)) == {
        0: 1,
        1: 1,
        10: 2,
        11: 2,
    }
    other = classes(tmp_path / "other", x=2, y=2)
    with pytest.raises(SpecError, match=r"--eval\.test: none of its classes \(x, y"):
        monitor(train, test=other)


def test_pictures_without_captions_are_not_for_streams_that_need_them(tmp_path):
    """As ImageNet's are when AB bootstraps captions: moves are among its pictures, annotations from elsewhere."""
    recipe = load("ab_clip").PRESETS["smoke"]
    test = classes(tmp_path, disc=4, star=4)
    recipe = dataclasses.replace(recipe, eval=Evaluation(train=test, test=test, train_images=8))
    sources = open_sources(recipe.data)
    found = Monitor.open(recipe, sources)
    assert found.sources["reward"] is sources["reward"]
    assert len(found.sources["value"]) == 8
    batch = found.batch(0).batch
    assert batch.reward.text.any()
    assert len(np.unique(batch.value.images)) <= 8  # of one shade each


def test_without_labels_there_are_no_probes(tmp_path):
    train = classes(tmp_path / "train", a=3, b=3)
    (tmp_path / "flat").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "flat" / "a.png")
    assert not monitor(f"folder:{tmp_path / 'flat'}").labelled
    found = monitor(train, test=f"folder:{tmp_path / 'flat'}")
    assert not found.labelled
    assert len(found.test.images) == 1


@pytest.mark.parametrize("flag", ["train", "test"])
def test_data_that_cannot_be_read_names_its_flag(tmp_path, flag):
    with pytest.raises(SpecError, match=rf"--eval\.{flag}: "):
        monitor("scenes", **{flag: f"tar:{tmp_path}/no.tar"})
