"""Tables: the paper's figures as printed, ours in the right place beside them, holes marked, nonsense refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro
from runs import ROOT
from small import METHODS

from abx.analysis import typeset
from abx.analysis.paper import BLOCKS, figures
from abx.analysis.tables import Table, assemble
from abx.cli.table import Table as Verb
from abx.data.layouts import ABCaptionData, ABData, CaptionData, MultiCropData, PairData
from abx.data.sources import SpecError
from abx.data.texts import Texts
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Recipe
from abx.experiment.results import read_runs
from abx.experiment.saved import to_json
from abx.experiment.systems import dataset_of, described
from abx.optim import EMA

TWO = RandomCrops(n=2, size=16, scale=(0.2, 1.0))
IMAGENET, CC12M, HOME = "folder:/data/imagenet/train", "tar:/data/cc12m/{00000..00100}.tar", "folder:/home/me/Pictures"
FULL = {"n_train": 1_281_167, "n_test": 50_000, "train": "a", "test": "b"}


def simclr(spec: str = IMAGENET, **changes: Any) -> Recipe:
    return Recipe(**{"method": METHODS["simclr"].method, "data": PairData(spec, 8, TWO), "steps": 100} | changes)


def ab_simclr(reward: str = IMAGENET, value: str = "", **changes: Any) -> Recipe:
    data = ABData(reward, value or reward, reward_batch=4, value_batch=2, reward_views=TWO)
    return Recipe(**{"method": METHODS["ab_simclr"].method, "data": data, "steps": 100} | changes)


def dino(spec: str = IMAGENET) -> Recipe:
    return Recipe(MultiCropData(spec, 8, MultiCrops()), METHODS["dino"].method, 100)


def clip(spec: str = CC12M, kind: str = "captions") -> Recipe:
    return Recipe(CaptionData(spec, 16, text=Texts(kind, length=6)), METHODS["clip"].method, 100)


def row(probe: str, task: str = "imagenet:/data/imagenet", **more: Any) -> dict[str, Any]:
    common = {"network": "online", "step": 100, "date": "2026-11-24T10:00:00+00:00", "seconds": 1.0, "versions": {}}
    return {"probe": probe, "task": task, **common, **FULL, **more}


@pytest.fixture
def run(tmp_path):
    """Makes the folder of a run from its recipe and the lines of its results."""

    def make(name: str, recipe: Recipe | None, *rows: dict[str, Any] | str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if recipe is not None:
            (folder / "config.json").write_text(json.dumps(to_json(recipe)))
        lines = [line if isinstance(line, str) else json.dumps({"run": f"runs/{name}"} | line) for line in rows]
        (folder / "results.jsonl").write_text("".join(line + "\n" for line in lines))
        return folder

    return make


def line(table: Table, system: str):
    (found,) = (each for each in table.lines if each.system == system)
    return found


def ours(table: Table, system: str) -> list[float | None]:
    return [cell and round(cell.percent, 3) for cell in line(table, system).ours]


# The paper


def test_printed_gains_are_those_of_the_printed_figures_but_for_rounding():
    off, counted = 0, 0
    for block in BLOCKS:
        by_system = {row.system: row for row in block.rows}
        for row in block.rows:
            assert len(row.figures) == len(block.columns)
            for i, gain in enumerate(row.differences):
                mine, base = row.figures[i], by_system[row.base].figures[i]
                if gain is None:
                    continue
                assert mine is not None
                assert base is not None
                assert mine - base == pytest.approx(gain, abs=0.101)
                off += abs(mine - base - gain) > 0.05
                counted += 1
    assert (off, counted) == (10, 46)  # METHODS A-39 counts ten


def test_every_table_is_there():
    assert [(b.table, len(b.rows)) for b in BLOCKS] == [
        *((1, 6), (2, 6), (2, 5), (3, 6), (3, 2), (3, 6), (3, 2)),
        *((4, 4), (4, 4), (5, 6), (6, 6)),
    ]
    # Of the same networks by the same probe, two tables are as near as one can expect.
    decoder = {row.system: row.figures[2] for row in BLOCKS[0].rows}
    for row in BLOCKS[-1].rows:
        assert row.figures[0] == pytest.approx(decoder[row.system], abs=0.21)


def test_figures_beside_a_result():
    found = figures("AB_SimCLR", "decoder", "imagenet", "top1")
    assert [(f.block.table, f.percent) for f in found] == [
        *((1, 72.2), (2, 68.0), (3, 60.7), (3, 68.3), (3, 46.7), (3, 68.4)),
        *((5, 62.9), (6, 72.3)),
    ]
    assert figures("AB_SimCLR", "decoder", "classification", "top1") == found
    assert [f.percent for f in figures("CLIP", "decoder", "detection", "ap50")] == [26.1, 25.7]
    assert figures("CLIP", "decoder", "detection", "ap") == []
    assert figures("DINO", "decoder", "food101", "top1") == []  # part of a mean
    assert figures("SigLIP", "knn", "imagenet", "top1") == []


# Which row a run is


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (IMAGENET, "imagenet"),
        ("arrayrecord:/data/coco-256/train-*.arrayrecord", "coco"),
        ("arrayrecord:epic_kitchens/train*", "epic_kitchens"),
        ("tar:/data/CC12M/*.tar", "cc12m"),
        ("folder:/data/tiny-imagenet/train", "folder:/data/tiny-imagenet/train"),
        ("folder:/data/imagenet-100", "folder:/data/imagenet-100"),
        ("tar:coco_sample/*.tar", "tar:coco_sample/*.tar"),
        ("scenes", "scenes"),
        ("0.5*folder:/data/imagenet + 0.5*folder:/data/coco", "0.5*folder:/data/imagenet + 0.5*folder:/data/coco"),
    ],
)
def test_data_is_known_by_its_folder(spec, name):
    assert dataset_of(spec) == name
    assert dataset_of(spec, {spec: "cc12m"}) == "cc12m"


def test_a_recipe_is_a_row():
    run = described("x", simclr())
    assert (run.system, run.base, run.reward, run.texts, run.views, run.network) == (
        *("SimCLR", "", "imagenet", "", 16, "online"),
    )
    run = described("x", ab_simclr(IMAGENET, HOME))
    assert (run.system, run.base, run.reward, run.value, run.views) == ("AB_SimCLR", "SimCLR", "imagenet", HOME, 16)
    assert described("x", dino()).network == "target"
    assert described("x", clip(kind="boxes")).texts == "boxes"
    tables = ABCaptionData(CC12M, CC12M, reward_batch=4, value_batch=2, reward_text=Texts(length=6))
    assert described("x", Recipe(tables, METHODS["ab_siglip"].method, 10)).system == "AB_SigLIP"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"augment_value": True}, "adding augmentations"),
        ({"actions": False}, "removing action tokens"),
        ({"value_weight": 0.0}, "no propagation loss"),
        ({"reward_weight": 0.0}, "no annotation loss"),
        ({}, "no target network"),
    ],
)
def test_an_ablation_is_a_row_of_table_5(run, changes, name):
    method = replace(METHODS["ab_simclr"].method, **changes)
    recipe = ab_simclr(CC12M, method=method, ema=EMA() if changes else EMA(tau=1.0))
    full = run("full", ab_simclr(CC12M), row("decoder", top1=0.6))
    without = run("without", recipe, row("decoder", top1=0.55))
    tables = assemble(read_runs([full, without]))
    assert [t.block.table for t in tables] == [2, 5]
    assert "no" not in "".join(each.system for each in tables[0].lines)
    row5 = line(tables[1], f"AB_SimCLR, {name}")
    assert row5.our_gains == pytest.approx((-5.0,))
    assert row5.paper_gains[0] < 0
    assert len(tables[1].missing) == 4


# Cells


def test_ours_the_papers_and_both_gains(run):
    base = run("a", simclr(), row("linear", top1=0.60), row("map", top1=0.65), row("decoder", top1=0.70))
    ab = run("b", ab_simclr(), row("linear", top1=0.58), row("map", top1=0.68), row("decoder", top1=0.5))
    (table,) = assemble(read_runs([base, ab]))
    assert (table.block.table, table.data, table.stands_in) == (1, "imagenet", False)
    assert ours(table, "SimCLR") == [60.0, 65.0, 70.0, None]
    found = line(table, "AB_SimCLR")
    assert found.paper == (64.5, 70.7, 72.2, None)
    assert found.paper_gains == (-1.7, 1.1, 0.8, None)
    assert found.our_gains[:3] == pytest.approx((-2.0, 3.0, -20.0))
    assert found.our_gains[3] is None
    assert line(table, "SimCLR").our_gains == (None,) * 4
    assert table.missing == ("MAE", "I-JEPA", "SimCLR (fine-tuned)", "AB_SimCLR (fine-tuned)", "DINO", "AB_DINO")
    assert any("imagenet; 1,281,167 pictures to train the probe, 50,000 to test it" in note for note in table.notes)


def test_avg_cls_is_the_mean_of_all_four_or_missing(run):
    four = zip(("food101", "pets", "resisc45", "sun397"), (0.5, 0.6, 0.7, 0.9), strict=True)
    rows = [row("decoder", f"{task}:/data/{task}", top1=share, n_test=9) for task, share in four]
    whole = run("whole", simclr(), *rows)
    lacking = run("lacking", ab_simclr(), *rows[:3], row("decoder", top1=0.1))
    (table,) = assemble(read_runs([whole, lacking]), [6])
    assert ours(table, "SimCLR") == [None, 67.5, None, None]
    assert ours(table, "AB_SimCLR") == [10.0, None, None, None]
    # Other data does not stand in for one of the four.
    other = run("other", simclr(), *rows[:3], row("decoder", "classification", top1=0.9, test="folder:sun"))
    (table,) = assemble(read_runs([other]), [6])
    assert ours(table, "SimCLR") == [90.0, None, None, None]


def test_of_several_results_the_newest_of_the_last_step(run):
    late = {"date": "2026-11-25T10:00:00+00:00"}
    a = run(
        "a",
        simclr(),
        row("decoder", top1=0.1, date="2026-11-24T10:00:00+00:00"),
        row("decoder", top1=0.2, date="2026-11-24T12:00:00+02:30"),  # half an hour before the first
        row("decoder", top1=0.3, step=50, **late),
    )
    (table,) = assemble(read_runs([a]))
    assert ours(table, "SimCLR")[2] == 10.0
    assert [note for note in table.notes if "3 results" in note]
    b = run("b", simclr(), row("decoder", top1=0.1), row("decoder", top1=0.2))
    assert ours(assemble(read_runs([b]))[0], "SimCLR")[2] == 20.0  # of one date the later line
    c = run("c", simclr(), row("decoder", top1=0.1), row("decoder", top1=0.3, **late))
    assert ours(assemble(read_runs([c]))[0], "SimCLR")[2] == 30.0


def test_seeds_are_averaged_and_their_spread_is_the_largest_difference(run):
    folders = [
        run(f"s{seed}", simclr(seed=seed, out=Path(f"runs/s{seed}")), row("decoder", top1=share))
        for seed, share in enumerate((0.70, 0.72, 0.80))
    ]
    (table,) = assemble(read_runs(folders))
    cell = line(table, "SimCLR").ours[2]
    assert (round(cell.percent, 6), round(cell.spread, 6), cell.seeds) == (74.0, 10.0, 3)
    assert "74.0 (10.0)" in typeset.text(table)
    assert len(table.runs) == 3
    # Not of other settings: one that was measured later counts alone, and that is said.
    other = run("other", simclr(steps=200), row("decoder", top1=0.5, date="2026-12-01", step=200))
    (table,) = assemble(read_runs([*folders, other]))
    assert ours(table, "SimCLR")[2] == 50.0
    (note,) = (note for note in table.notes if "measured last" in note)
    assert all(name in note for name in ("other", "s0", "s1", "s2"))
    # One seed trained twice is not two seeds.
    again = run("again", simclr(seed=2), row("decoder", top1=0.9, date="2026-12-01"))
    (table,) = assemble(read_runs([*folders, again]))
    assert line(table, "SimCLR").ours[2].seeds == 3
    assert ours(table, "SimCLR")[2] == pytest.approx(100 * (0.70 + 0.72 + 0.9) / 3, abs=1e-3)


def test_the_network_is_the_one_that_a_method_is_known_by(run):
    both = row("decoder", top1=0.1), row("decoder", top1=0.2, network="target")
    runs = read_runs([run("d", dino(), *both), run("s", simclr(), *both)])
    (table,) = assemble(runs)
    assert (ours(table, "DINO")[2], ours(table, "SimCLR")[2]) == (20.0, 10.0)
    (table,) = assemble(runs, network="target")
    assert ours(table, "SimCLR")[2] == 20.0
    (table,) = assemble(read_runs([run("e", dino(), both[0])]))
    assert ours(table, "DINO")[2] == 10.0
    assert any("of the online network, as there is none of the target one" in note for note in table.notes)


def test_another_probe_stands_in_for_the_linear_one_alone(run, tmp_path):
    a = run("a", simclr(), row("logistic", top1=0.3), row("knn", top1=0.2), row("decoder", top1=0.4))
    (table,) = assemble(read_runs([a]))
    assert ours(table, "SimCLR") == [30.0, None, 40.0, None]
    assert any("of the probe logistic" in note for note in table.notes)
    b = run("b", simclr(), row("logistic", top1=0.3), row("linear", top1=0.2))
    (table,) = assemble(read_runs([b]))
    assert ours(table, "SimCLR")[0] == 20.0
    assert not any("other way" in note for note in table.notes)
    # The one is not compared with the other.
    (table,) = assemble(read_runs([b, run("c", ab_simclr(), row("logistic", top1=0.4))]))
    assert (ours(table, "SimCLR")[0], ours(table, "AB_SimCLR")[0]) == (30.0, 40.0)
    (table,) = assemble(read_runs([run("d", simclr(), row("linear", top1=0.2)), tmp_path / "c"]))
    assert line(table, "AB_SimCLR").our_gains[0] is None
    assert any("one other way" in note for note in table.notes)


def test_a_part_of_the_test_pictures_is_not_compared_with_all(run):
    base = run("a", simclr(), row("decoder", top1=0.7), row("decoder", top1=0.9, n_test=100))
    ab = run("b", ab_simclr(), row("decoder", top1=0.8))
    (table,) = assemble(read_runs([base, ab]))
    assert ours(table, "SimCLR")[2] == 70.0
    assert any("also measured in one other way" in note for note in table.notes)
    # Only half of each: no figure of the base, and so no gain.
    apart = run("c", simclr(), row("decoder", top1=0.9, n_test=100))
    (table,) = assemble(read_runs([apart, ab]))
    assert sum(each is not None for system in ("SimCLR", "AB_SimCLR") for each in ours(table, system)) == 1
    assert line(table, "AB_SimCLR").our_gains[2] is None


def test_unequal_views_are_said(run):
    a = run("a", simclr(), row("decoder", top1=0.7))
    b = run("b", ab_simclr(), row("decoder", top1=0.7, step=50))
    (table,) = assemble(read_runs([a, b]))
    assert any("AB_SimCLR and SimCLR: have not seen equally many views: 800 and 1,600" in note for note in table.notes)


# Data that stands in


def test_drawn_scenes_stand_in_for_all_and_are_said_to(run):
    def rows(shift: float) -> list[dict[str, Any]]:
        drawn = {"train": "scenes", "test": "scenes:test", "n_train": 2000, "n_test": 1000}
        return [
            row("linear", "scenes-classification", top1=0.2 + shift, **drawn),
            row("decoder", "scenes-classification", top1=0.3 + shift, **drawn),
            row("decoder", "scenes-count", top1=0.4 + shift, **drawn),
            row("decoder", "scenes-detection", ap=0.1, ap50=0.2 + shift, **drawn),
        ]

    a, b = run("a", simclr("scenes"), *rows(0)), run("b", ab_simclr("scenes"), *rows(0.1))
    tables = assemble(read_runs([a, b]))
    # What Table 6 and Epic-Kitchens would show has been shown by then.
    assert [(t.block.table, t.block.title) for t in tables] == [
        (1, "ImageNet, no labels"),
        (2, "CC12M, no captions"),
        (3, "COCO"),
    ]
    assert all(table.stands_in for table in tables)
    assert ours(tables[0], "SimCLR") == [20.0, None, 30.0, None]
    assert ours(tables[1], "AB_SimCLR") == [40.0, None, None, 50.0]
    assert ours(tables[2], "SimCLR") == [30.0, 20.0, 10.0, None]
    assert line(tables[2], "AB_SimCLR").our_gains[1] == pytest.approx(10.0)
    assert "pre-trained on scenes, which stands in for COCO" in typeset.text(tables[2])
    said = "NOT the paper's data; probe trained on 2,000 pictures of scenes, tested on 1,000 of scenes:test"
    assert tables[0].notes == (f"linear, decoder: {said}",)
    assert [t.block.table for t in assemble(read_runs([a]), [6])] == [6]


def test_known_data_stands_in_for_nothing_else(run):
    a = run("a", simclr("tar:/data/coco/*.tar"), row("decoder", top1=0.5))
    assert [t.block.title for t in assemble(read_runs([a]))] == ["COCO"]
    b = run("b", ab_simclr(IMAGENET, "tar:/data/coco/*.tar"), row("decoder", top1=0.6))
    (table,) = assemble(read_runs([b]))
    assert table.block.title == "COCO, rewards from ImageNet"
    c = run("c", ab_simclr(IMAGENET, HOME), row("decoder", "action:x", action_top1=0.1), row("decoder", top1=0.2))
    titles = {t.block.title for t in assemble(read_runs([c]))}
    assert titles == {"COCO, rewards from ImageNet", "Epic-Kitchens, rewards from ImageNet"}
    d = run("d", clip(kind="boxes"), row("decoder", "coco-objects:/x", top1=0.5))
    assert assemble(read_runs([d])) == []  # box descriptions of CC12M: no such row


def test_systems_that_the_paper_has_not_go_with_their_likes(run):
    texts = ABCaptionData(CC12M, CC12M, reward_batch=8, value_batch=2, reward_text=Texts(length=6))
    sig = Recipe(CaptionData(CC12M, 16, text=Texts(length=6)), METHODS["siglip"].method, 100)
    a, b = run("a", sig, row("decoder", top1=0.4)), run("b", Recipe(texts, METHODS["ab_siglip"].method, 100))
    (b / "results.jsonl").write_text(json.dumps(row("decoder", top1=0.5)))
    (table,) = assemble(read_runs([a, b]))
    assert table.block.title == "CC12M with captions"
    found = line(table, "AB_SigLIP")
    assert found.paper == (None,) * 4
    assert found.our_gains[0] == pytest.approx(10)
    assert not any("SigLIP" in each for each in table.missing)


def test_an_untrained_network_is_a_row_of_its_own(run):
    none = {"run": "none", "init": "ViT-S/16", "step": 0}
    floor = run("none", None, row("decoder", top1=0.05, **none), row("linear", top1=0.04, **none))
    (table,) = assemble(read_runs([floor]))
    assert ours(table, "untrained") == [4.0, None, 5.0, None]
    assert table.missing[0] == "MAE"
    assert "ours: untrained; ViT 384 x 12, patches of 16, 224 px" in typeset.text(table)


def test_an_untrained_network_stands_beside_runs_of_its_backbone_alone(run, capsys):
    a = run("a", simclr(), row("decoder", top1=0.5))
    none = {"run": "none", "step": 0}
    mine = run("mine", None, row("decoder", top1=0.05, init=str(a), **none))
    other = run("other", None, row("decoder", top1=0.06, init="ViT-S/16", size=32, **none))
    lost = run("lost", None, row("decoder", top1=0.07, init="runs/gone", **none))
    (table,) = assemble(read_runs([a, other, lost, mine]))
    assert (ours(table, "SimCLR")[2], ours(table, "untrained")[2]) == (50.0, 5.0)
    call(a, other, lost)
    out = capsys.readouterr().out
    assert "untrained  " not in out
    assert "untrained network, ViT 384 x 12, patches of 16, 32 px, beside which no run stands, has a place" in out
    assert "that of runs/gone, which cannot be read" in out
    # Alone each has its own table.
    tables = assemble(read_runs([other, mine]), [1])
    assert [ours(each, "untrained")[2] for each in tables] == [6.0, 5.0]


def test_features_from_elsewhere_are_a_row_that_the_file_names(run, capsys):
    def file(folder: str, top1: float, labels: str = "ab12") -> dict[str, Any]:
        given = {"features_sha256": "0" * 64, "labels_sha256": labels, "run": f"/x/{folder}/train.npz", "step": 0}
        where = {"train": f"/x/{folder}/train.npz", "test": f"/x/{folder}/test.npz"}
        return row("linear", "classification", top1=top1, **given | where)

    theirs = run("features", None, file("clip", 0.8), file("dino", 0.7), file("other", 0.9, labels="cd34"))
    (table,) = assemble(read_runs([theirs]))
    # Two networks' features of the same pictures can be compared, and those of other pictures cannot.
    rows = [ours(table, f"features of {name}/train.npz")[0] for name in ("clip", "dino", "other")]
    assert rows == [80.0, 70.0, None]
    assert any("of features with labels ab12" in note for note in table.notes)
    a = run("a", simclr(), row("decoder", top1=0.5))
    (table,) = assemble(read_runs([a, theirs]))
    assert ours(table, "features of clip/train.npz") == [80.0, None, None, None]


@pytest.mark.parametrize(
    "other", [{"settings": "cd34"}, {"size": 32}, {"view": "whole"}], ids=["settings", "size", "view"]
)
def test_figures_of_different_measurements_are_not_compared(run, other):
    one = {"settings": "ab12", "size": 16, "view": "centre"}
    a = run("a", simclr(), row("linear", top1=0.5, **one))
    b = run("b", ab_simclr(), row("linear", top1=0.9, **one | other))
    (table,) = assemble(read_runs([a, b]))
    assert sorted(ours(table, system)[0] or 0 for system in ("SimCLR", "AB_SimCLR")) != [50.0, 90.0]
    assert line(table, "AB_SimCLR").our_gains[0] is None
    (note,) = (note for note in table.notes if "also measured in one other way, which is not shown" in note)
    both = run("both", ab_simclr(), row("linear", top1=0.9, **one | other), row("linear", top1=0.6, **one))
    (table,) = assemble(read_runs([a, both]))
    assert line(table, "AB_SimCLR").our_gains[0] == pytest.approx(10)
    (note,) = (note for note in table.notes if "one other way" in note)
    assert note.endswith("shown is views of 16 px, centre, settings of the probe ab12")


def test_folders_without_results_are_said_and_passed_over(run, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    a = run("a", simclr(), row("linear", top1=0.5))
    call(a, tmp_path / "empty", tmp_path / "notes.txt", run("blank", simclr()))
    said = capsys.readouterr()
    assert "SimCLR" in said.out
    lines = said.err.splitlines()
    assert [each.split(":")[0] for each in lines] == ["left out"] * 3
    assert "empty has no results yet" in lines[0]
    assert "notes.txt is a file, not a folder" in lines[1]


def test_results_kept_elsewhere_are_of_the_run_that_they_name(run, tmp_path):
    a, b = run("a", simclr(), row("knn", top1=0.5)), run("b", ab_simclr(), row("knn", top1=0.5))
    rows = [row("decoder", top1=0.1 * i, run=str(folder)) for i, folder in ((2, a), (3, b))]
    shared = run("shared", None, *rows)
    (table,) = assemble(read_runs([shared]))
    assert (ours(table, "SimCLR")[2], ours(table, "AB_SimCLR")[2]) == (20.0, 30.0)


# The verb


def call(*argv: object) -> None:
    tyro.cli(Verb, args=[str(a) for a in argv])()


def test_text(run, capsys):
    a = run("a", simclr(), row("linear", top1=0.612), row("decoder", top1=0.7))
    b = run("b", ab_simclr(), row("linear", top1=0.61), row("decoder", top1=0.75))
    call(a, b)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "Table 1: ImageNet, no labels"
    assert [each.split() for each in lines if each.startswith(("SimCLR", "AB_SimCLR", "  vs SimCLR"))] == [
        ["SimCLR", "66.2", "61.2", "69.7", "-", "71.4", "70.0", "76.8", "-"],
        ["AB_SimCLR", "64.5", "61.0", "70.7", "-", "72.2", "75.0", "-"],
        ["vs", "SimCLR", "-1.7", "-0.2", "+1.1", "-", "+0.8", "+5.0", "-"],
    ]
    # Figures of a column end where its heading ends.
    heads = next(each for each in lines if each.split()[:2] == ["paper", "ours"])
    base = next(each for each in lines if each.startswith("SimCLR"))
    assert {i for i in range(len(heads)) if heads[i : i + 2] in ("r ", "s ", "s")} == {
        i for i in range(len(base)) if base[i] != " " and base[i + 1 : i + 2] in (" ", "")
    } - {5}
    assert "missing: MAE; I-JEPA; SimCLR (attentive, fine-tuned)" in out
    assert max(map(len, lines[:14])) < 100


def test_the_console_needs_no_device(run):
    a = run("a", simclr(), row("linear", top1=0.612))
    env = os.environ | {"JAX_PLATFORMS": "no_such_platform", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "abx", "table", str(a)]
    out = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
    assert "SimCLR         66.2 61.2" in out


def test_markdown(run, capsys):
    a = run("a", simclr("folder:a|b"), row("linear", "classification", top1=0.6, test="folder:c|d"))
    call(a, "--markdown")
    lines = capsys.readouterr().out.splitlines()
    grid = [each for each in lines if each.startswith("|")]
    assert lines[0] == "## Table 1: ImageNet, no labels"
    assert {each.replace("\\|", "").count("|") for each in grid} == {10}
    assert "| SimCLR | 66.2 | 60.0 | 69.7 | - | 71.4 | - | 76.8 | - |" in grid


def test_json(run, capsys):
    a, b = run("a", simclr(), row("linear", top1=0.6)), run("b", ab_simclr(), row("linear", top1=0.5))
    c = run("c", clip(), row("retrieval", "retrieval", i2t_r1=0.5))
    call(a, b, c, "--json")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    (table,) = said["tables"]
    assert (table["table"], table["data"], table["stands_in"]) == (1, "imagenet", False)
    cells = {(each["system"], each["column"]): each for each in table["rows"]}
    assert len(cells) == 6 * 4
    found = cells["AB_SimCLR", "linear"]
    assert found["our_gain"] == pytest.approx(-10)
    assert (found["paper_gain"], found["base"], found["seeds"], found["spread"]) == (-1.7, "SimCLR", 1, None)
    assert cells["MAE", "linear"]["ours"] is None
    assert said["unplaced"] == [str(c)]


def test_a_run_without_a_place_is_said(run, capsys):
    call(run("c", clip(), row("retrieval", "retrieval", i2t_r1=0.5)))
    out = capsys.readouterr().out
    assert "no result of this run of CLIP has a place in the paper's tables" in out
    call(run("d", clip(), row("knn", top1=0.5)), "--tables", 4)
    out = capsys.readouterr().out
    assert out.startswith("Table 4: COCO with captions")
    assert "has a place in table 4" in out
    assert "missing: CLIP; SLIP; SiLC; AB_CLIP" in out


def test_data_by_another_name(run, capsys):
    a = run("a", clip("tar:/mnt/x/*.tar"), row("decoder", top1=0.5))
    call(a, "--called", "tar:/mnt/x/*.tar=cc12m")
    out = capsys.readouterr().out
    assert "ours: pre-trained on cc12m;" in out
    assert "stands in" not in out


@pytest.fixture
def refused(capsys):
    """The one sentence with which the verb stops."""

    def refused(*argv: object) -> str:
        with pytest.raises(SystemExit) as stop:
            call(*argv)
        out, err = capsys.readouterr()
        assert (stop.value.code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err.removeprefix("error: ").strip()

    return refused


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("nonsense", "line 2 is no result of a probe: it is no JSON"),
        ("[1, 2]", "line 2 is no result of a probe: it is no object"),
        ('{"step": 3}', "it has no probe"),
        (json.dumps(row("knn", top1=71.3)), "its top1 is 71.3, not a share from 0 to 1"),
        (json.dumps(row("knn", top1="high")), "its top1 is high, not a share"),
        (json.dumps(row("knn", step=-1)), "its step is -1"),
        (json.dumps(row("knn", date="yesterday")), "its date is 'yesterday'"),
        ("\ufffd\x00" * 100, "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
    ],
)
def test_nonsense_is_refused_by_its_line(run, refused, bad, why):
    a = run("a", simclr(), row("linear", top1=0.6), bad, row("linear", top1=0.6))
    assert why in refused(a)
    assert f"{a / 'results.jsonl'}, line 2" in refused(a)


def test_a_line_that_a_kill_cut_off_is_left_out(run):
    a = run("a", simclr(), row("linear", top1=0.6))
    with (a / "results.jsonl").open("a") as file:
        file.write(json.dumps(row("linear", top1=0.7))[:-20])
    assert ours(assemble(read_runs([a]))[0], "SimCLR")[0] == 60.0


def test_figures_that_are_null_are_none(run):
    a = run("a", simclr(), row("linear", top1=None), row("decoder", top1=float("nan")), row("map", top1=0.5))
    assert ours(assemble(read_runs([a]))[0], "SimCLR") == [None, 50.0, None, None]


def test_what_is_no_run_is_refused(run, refused, tmp_path):
    assert refused() == "RUN is missing: give one folder of a run or more"
    assert refused(tmp_path / "nowhere").endswith("nowhere is not there")
    (tmp_path / "empty").mkdir()
    assert "has no results yet" in refused(tmp_path / "empty")
    assert "holds no results" in refused(run("blank", simclr()))
    assert "has no config.json" in refused(run("bare", None, row("linear", top1=0.5, run="nowhere")))
    broken = run("broken", simclr(), row("linear", top1=0.5))
    (broken / "config.json").write_text('{"class": "os.system"}')
    assert "config.json is not a configuration that this version of abx reads" in refused(broken)
    good = run("good", simclr(), row("linear", top1=0.5))
    assert "--tables must be from 1 to 6, not 7" in refused(good, "--tables", 7)
    assert "--called must be SPEC=NAME" in refused(good, "--called", "folder:x=laion")


def test_one_folder_given_twice_counts_once(run):
    a = run("a", simclr(), row("linear", top1=0.5))
    assert len(read_runs([a, a / ".." / "a"])) == 1
    with pytest.raises(SpecError, match="not there"):
        read_runs([a, a / "b"])
