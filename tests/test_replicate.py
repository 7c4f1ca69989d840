"""The replication: its list, its sharing of time, its report, its collages."""

import io
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abx.analysis.cells import Result, Run
from abx.analysis.paper import BLOCKS
from abx.data.specs import open_source
from abx.data.streams import views_per_step
from benchmarks.replicate import making, report, told
from benchmarks.replicate.__main__ import KEPT, Replicate, _settle, _spent
from benchmarks.replicate.budgets import BUDGETS
from benchmarks.replicate.collages import Cut, collage
from benchmarks.replicate.jobs import to_do
from benchmarks.replicate.plan import Measured, Plan, own_flags, parse, plan
from benchmarks.replicate.row import Place
from benchmarks.replicate.rows import BY_NAME, ROWS, comparisons, matching, sweeps
from benchmarks.replicate.running import Job, work
from benchmarks.replicate.standins import StandIns
from recipes import ROOT

DRAWN = StandIns(None, Path("nowhere"))


@pytest.mark.parametrize("name", BUDGETS)
def test_flags_of_every_row_make_a_recipe_without_problems(name, tmp_path):
    budget = BUDGETS[name]
    for row in ROWS:
        if row.length == "flops" and row.recipe != "simclr":
            continue  # counting takes seconds
        planned = plan(row, budget, DRAWN, 3, tmp_path / row.name)
        assert planned.steps >= 2
        assert planned.probes
        assert planned.train[-4:] == ("--seed", "3", "--out", str(tmp_path / row.name))


def test_rows_are_told_apart_and_lead_somewhere():
    assert len(BY_NAME) == len(ROWS)
    for row in ROWS:
        for place in row.places:
            assert row.system in {each.system for each in place.block.rows}
    for each in comparisons():
        assert each.of != each.over
        assert {each.of, each.over} <= BY_NAME.keys()
    assert {name for s in sweeps() for _, places in s.lines for _, name in places} <= BY_NAME.keys()


def test_every_row_of_tables_1_to_6_has_a_run():
    ours = {(place, row.system) for row in ROWS for place in row.places}
    theirs = {(Place(block.table, block.title), row.system) for block in BLOCKS for row in block.rows}
    assert ours == theirs


def test_ab_and_base_see_as_many_views():
    budget = BUDGETS["small"]
    for row in ROWS:
        if row.length == "views" and row.share == 1:
            flags = own_flags(row, budget, DRAWN)
            recipe = parse(row.recipe, budget.preset, flags)
            assert recipe.steps * views_per_step(recipe.data) == pytest.approx(20_000_000, rel=1e-3)


def test_reward_images_alone_for_as_many_steps():
    budget = BUDGETS["small"]
    read = lambda name: parse(BY_NAME[name].recipe, budget.preset, own_flags(BY_NAME[name], budget, DRAWN))
    ab, half = read("imagenet/ab_simclr"), read("controls/simclr-reward-half")
    assert (half.steps, half.data.batch) == (ab.steps, ab.data.reward_batch)


def test_a_target_network_that_is_measured_follows_in_a_short_row():
    """As much of its start is left at the end as in the whole preset."""
    left = lambda recipe: (1 - recipe.ema.tau) ** recipe.steps
    for name in ("imagenet/dino", "coco/ab_dino"):
        row = BY_NAME[name]
        preset = parse(row.recipe, "smoke", ())
        short = parse(row.recipe, "smoke", own_flags(row, BUDGETS["tiny"], DRAWN))
        assert short.steps < preset.steps / 2
        assert left(short) == pytest.approx(left(preset), rel=0.05)
        assert "--ema.tau" not in own_flags(row, BUDGETS["small"], DRAWN)  # longer than its preset
    online = own_flags(BY_NAME["imagenet/ab_simclr"], BUDGETS["tiny"], DRAWN)
    assert "--ema.tau" not in online


def test_checkpoints_of_ab_stay_for_analyses():
    for name, fewest in (("tiny", 0), ("laptop", 3), ("small", 7), ("paper", 7)):
        recipe = parse(
            "ab_simclr", BUDGETS[name].preset, own_flags(BY_NAME["imagenet/ab_simclr"], BUDGETS[name], DRAWN)
        )
        kept = recipe.ckpt.keep_every
        assert bool(kept) == bool(fewest)
        if kept:
            assert kept % recipe.ckpt.every == 0
            assert fewest <= recipe.steps / kept <= 8


def test_a_flag_that_is_not_there():
    with pytest.raises(ValueError, match=r"simclr has no flag --method\.gamma"):
        parse("simclr", "smoke", ["--method.gamma", "0"])


def test_variants_run_by_name_alone():
    rows, _ = matching(["*"])
    assert rows
    assert not any(row.named for row in rows)
    tried, unknown = matching(["tried/*"])
    assert unknown == []
    assert tried
    assert all(row.named for row in tried)


def test_minutes_of_all_goes_count(tmp_path):
    for rows in ("imagenet/*", "coco/*"):
        _settle(Replicate(rows=(rows,), out=tmp_path), tmp_path, None)
        _spent(tmp_path, 90)
    kept = json.loads((tmp_path / KEPT).read_text())
    assert kept["minutes"] == 3
    assert len(kept["commands"]) == 2


def test_patterns():
    rows, unknown = matching(["imagenet/*simclr", "nothing/*"])
    assert [row.name for row in rows] == ["imagenet/simclr", "imagenet/ab_simclr"]
    assert unknown == ["nothing/*"]


class Fake:
    """Jobs that need so many seconds each, by a clock that only running moves."""

    def __init__(self, **needs: float):
        self.needs, self.time, self.turns = dict(needs), 0.0, list[str]()

    def jobs(self):
        return [
            Job(name, partial(self.left, name), partial(self.needs.__getitem__, name), Path("/nowhere"))
            for name in self.needs
        ]

    def left(self, name):
        return [["command"]] if self.needs[name] > 0 else []

    def __call__(self, job, commands, seconds, stop):
        did = min(seconds, self.needs[job.name])
        self.needs[job.name] -= did
        self.time += did
        self.turns.append(job.name)
        return 0 if self.needs[job.name] <= 0 else 143

    def work(self, seconds, **more):
        return work(self.jobs(), seconds, self, clock=lambda: self.time, say=lambda sentence: None, **more)


def test_time_is_shared_and_what_is_left_over_goes_on():
    fake = Fake(long=500, short=50, middle=150)
    done = fake.work(600)
    assert fake.turns[:3] == ["long", "short", "middle"]
    assert done.finished == ["short", "middle"]
    assert done.left == ["long"]
    assert fake.needs["long"] == pytest.approx(100)
    again = fake.work(600)  # the same command once more
    assert again.finished == ["short", "middle", "long"]
    assert fake.turns.count("short") == 1


def test_in_order_finishes_the_first():
    fake = Fake(first=500, second=500)
    done = fake.work(600, in_order=True)
    assert (done.finished, done.left) == (["first"], ["second"])
    assert fake.needs["second"] == pytest.approx(400)


def test_two_at_once_that_end_together_when_one_is_interrupted():
    """Each waits for the other to be there: one after the other they would wait forever."""
    met, jobs = threading.Barrier(2, timeout=20), Fake(a=1, b=1).jobs()
    left, told = {"a", "b"}, []

    def run(job, commands, seconds, stop):
        met.wait()
        left.discard(job.name)
        return 0

    two = [job._replace(left=lambda name=job.name: [["x"]] if name in left else []) for job in jobs]
    done = work(two, 100, run, together=2, say=told.append)
    assert sorted(done.finished) == ["a", "b"]

    def waits(job, commands, seconds, stop):
        met.wait()
        if job.name == "b":
            raise KeyboardInterrupt
        told.append(stop.wait(20))
        return -15

    left |= {"a", "b"}
    with pytest.raises(KeyboardInterrupt):
        work(two, 100, waits, together=2, say=lambda sentence: None)
    assert told[-1] is True


def test_no_turn_is_too_short_to_start_in():
    fake = Fake(**{f"job{i}": 100.0 for i in range(40)})
    done = fake.work(100)
    assert fake.time == 100
    assert fake.turns == ["job0", "job1", "job2"]
    assert len(done.left) == 40


def test_what_fails_or_gets_nowhere_is_told():
    fake = Fake(broken=10, stuck=10, well=10)
    run = lambda job, commands, seconds, stop: (
        {"broken": 2, "stuck": 143}.get(job.name) or fake(job, commands, seconds, stop)
    )
    done = work(fake.jobs(), 1000, run, clock=lambda: fake.time, say=lambda sentence: None)
    assert done.finished == ["well"]
    assert done.left == []
    assert "code 2" in done.failed["broken"]
    assert "no further" in done.failed["stuck"]


def test_what_is_finished_is_not_done_again(tmp_path):
    probe = Measured(
        "classification", ("linear", "decoder"), ("probe.py", "--probes", "linear", "decoder", "--task", "x")
    )
    planned = Plan(tmp_path, 20, 8, ("recipe.py",), (probe,))
    assert to_do(planned) == [("recipe.py",), probe.command]
    (tmp_path / "final.json").write_text('{"step": 20}')
    assert to_do(planned) == [probe.command]
    row = {"probe": "linear", "task": "x", "network": "online", "date": "2026-01-01T00:00:00", "step": 20}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert to_do(planned) == [("probe.py", "--probes", "decoder", "--task", "x")]
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"probe": "decoder"}) + "\n")
    assert to_do(planned) == []


def made_up(system: str, seed: int, share: float) -> Run:
    result = Result(
        "decoder", "classification", "online", 10, "a", "b", 9, 9, 32, "centre", "s",
        datetime(2026, 1, 1, tzinfo=UTC), {"top1": share},
    )  # fmt: skip
    folder = f"{system}-{seed}"
    return Run(folder, system, "", "x", "x", "", "ViT", "setting", seed, 100, "online", (result,))


def gain_of(runs, of="cc12m/ab_simclr"):
    [found] = [
        g
        for g in report.gains(runs)
        if (g.comparison.of, g.column, g.table) == (of, "ImageNet", 2) and g.comparison.over == "cc12m/simclr"
    ]
    return found


def test_differences_of_seeds_with_their_spread_and_sign():
    runs = {
        "cc12m/simclr": [made_up("SimCLR", seed, share) for seed, share in enumerate((0.30, 0.32, 0.31))],
        "cc12m/ab_simclr": [made_up("AB_SimCLR", seed, share) for seed, share in enumerate((0.34, 0.35, 0.36))],
    }
    gain = gain_of(runs)
    assert (gain.ours, gain.spread, gain.seeds) == (pytest.approx(4.0), pytest.approx(2.0), 3)
    assert (gain.paper, gain.sign) == (0.7, "agrees")
    runs["cc12m/ab_simclr"] = [made_up("AB_SimCLR", seed, share) for seed, share in enumerate((0.29, 0.34, 0.29))]
    gain = gain_of(runs)
    assert (gain.ours, gain.sign) == (pytest.approx(-1 / 3), "disagrees, and seeds differ in it")
    few = {name: [made_up(name, 0, share)] for name, share in (("cc12m/simclr", 0.3), ("cc12m/ab_simclr", 0.4))}
    assert gain_of(few).noise == pytest.approx(200 * (0.3 * 0.7 / 9 + 0.4 * 0.6 / 9) ** 0.5)
    assert gain_of(few).sign == "within the noise of one seed"
    same = {"cc12m/simclr": runs["cc12m/simclr"], "cc12m/ab_simclr": runs["cc12m/simclr"]}
    assert gain_of(same).sign == "no difference"
    runs["cc12m/ab_simclr"] = [made_up("AB_SimCLR", 0, 0.0)]
    gain = gain_of(runs | {"cc12m/simclr": [made_up("SimCLR", 0, 0.9)]})
    assert (gain.seeds, gain.spread, gain.sign) == (1, None, "disagrees, but of one seed")


def test_what_is_missing_is_marked():
    runs = {"cc12m/simclr": [made_up("SimCLR", 0, 0.3)]}
    assert gain_of(runs).sign == "missing"
    found = json.loads(json.dumps(report.as_json(runs, {"budget": "tiny"})))
    assert "cc12m/simclr" not in found["missing"]
    assert len(found["missing"]) == len([row for row in ROWS if not row.named]) - 1
    said = told.markdown(found)
    assert f"{len(found['missing'])} rows: imagenet/mae" in said
    assert "| SimCLR | 67.3 | 30.0 (1 seed) |" in said
    assert "we have 0" in told.summary(found)


def test_variants_stand_beside_the_difference_that_they_are_variants_of():
    metrics = {"imagenet/simclr": 0.3, "tried/weight-3": 0.25}
    runs = {name: [made_up(name, seed, share) for seed in (0, 1)] for name, share in metrics.items()}
    told = [gain for gain in report.gains(runs) if gain.comparison.of.startswith("tried/")]
    assert {gain.comparison.of for gain in told} == {"tried/weight-3"}  # nobody asked for the others
    [gain] = [gain for gain in told if gain.ours is not None]
    assert (gain.column, gain.paper, gain.table) == ("decoder", 0.8, 0)
    assert gain.ours == pytest.approx(-5)
    assert gain.sign == "disagrees"


def test_what_was_not_measured_alike_is_not_compared():
    other = made_up("AB_SimCLR", 0, 0.4)
    other = other._replace(results=(other.results[0]._replace(settings="others"),))
    gain = gain_of({"cc12m/simclr": [made_up("SimCLR", 0, 0.3)], "cc12m/ab_simclr": [other]})
    assert (gain.ours, gain.sign) == (None, "missing: no seed of both, or not measured alike")


def test_differences_between_blocks_of_a_table_are_of_its_figures():
    [gain] = [
        g
        for g in report.gains({})
        if g.comparison.of == "coco-rewards-imagenet/ab_simclr" and g.column == "COCO detect AP50"
    ]
    assert gain.paper == pytest.approx(31.0 - 26.4)


def test_boxes_of_collages_lie_on_their_objects():
    """Objects are plain squares of the colour of their class, in the middle of black pictures."""
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    pictures = []
    for label, rgb in enumerate(colours):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[16:48, 16:48] = rgb
        pictures.append(Cut(picture, label, (0.25, 0.25, 0.75, 0.75)))
    names = ["red", "green", "blue"]
    for seed in range(20):
        made = collage(pictures, names, np.random.default_rng(seed))
        canvas = np.asarray(made.picture)
        assert 1 <= len(made.boxes) == len(made.labels) <= 4
        for (y0, x0, y1, x1), label in zip(made.boxes, made.labels, strict=True):
            assert 0 <= y0 < y1 <= 1
            assert 0 <= x0 < x1 <= 1
            rows, columns = (slice(round(a * 128), round(b * 128)) for a, b in ((y0, y1), (x0, x1)))
            assert np.all(canvas[rows, columns] == colours[label])
        assert all(names[label] in made.captions[0] for label in made.labels)
        assert all(names[label] in made.captions[1] for label in made.labels)


def test_collages_come_back_as_records(tmp_path):
    small, made = tmp_path / "tinyimagenet", tmp_path / "made"
    small.mkdir()
    made.mkdir()
    (small / "classes.txt").write_text("0\tn0\tcat, felis\n1\tn1\tdog\n")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        members = []
        for i in range(4):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
            members += [(f"p{i}.jpg", file.getvalue()), (f"p{i}.cls", b"%d" % (i % 2))]
        making.write_shard(small / f"tinyimagenet-{split}-00000.tar", members)
    making.write_collages(small, made, 6, 3)
    source = open_source(f"tar:{made}/collages-train.tar")
    assert len(source) == 6
    assert not source.problems
    assert [name.partition(",")[0] for name in source.vocabulary.objects][-1].endswith("dog")
    sample = source[0]
    assert sample.image.shape == (128, 128, 3)
    assert len(sample.captions) == 3
    assert set(sample.objects.labels) <= {0, 1}
    assert StandIns(None, made).asked("detection").train == f"tar:{made}/collages-train.tar"


@pytest.mark.slow
def test_two_rows_end_to_end(tmp_path):
    """Twice the same command, and the report."""
    command = [sys.executable, "-m", "benchmarks.replicate"]
    flags = ["--rows", "figure4-middle/*dino+0", "--views", "1200", "--minutes", "30", "--out", str(tmp_path), "--json"]
    first = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(json.loads(first.stdout.splitlines()[-1])["finished"]) == 2
    results = {path: path.read_text() for path in tmp_path.glob("*/*/seed-0/results.jsonl")}
    assert len(results) == 2
    again = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout.splitlines()[-1])["left"] == []
    assert results == {path: path.read_text() for path in results}
    subprocess.run([*command, "report", "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    found = json.loads((tmp_path / "report.json").read_text())
    assert not {"figure4-middle/dino+0", "figure4-middle/ab_dino+0"} & set(found["missing"])
    with Image.open(tmp_path / "curves.png") as drawn:
        assert min(drawn.size) > 300
