"""What a run has seen of its data: counters that follow from the step, names told once, and a limit to the bad."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from pictures import Numbered

from abx.data.layouts import ABData, PairData
from abx.data.mixture import Mixture
from abx.data.views import RandomCrops
from abx.experiment.ledger import ENOUGH, Ledger, TooManyRejected

CROPS = RandomCrops(n=2, size=6)


def test_counters_follow_from_the_step(tmp_path: Path):
    data = ABData(reward_batch=4, value_batch=6, reward_views=CROPS, value_views=RandomCrops(n=3, size=6))
    sources = {"reward": Numbered(8), "value": Mixture([Numbered(12), Numbered(3)], [Fraction(3), Fraction(1)])}
    ledger, ds = Ledger(data, sources, tmp_path / "rejected.jsonl"), data.batches(sources, 0)
    for step in range(5):
        ledger(step, ds[step])
    want = {
        "data/read": 50,
        "data/left_out": 0,
        "data/reward/rejected": 0,
        "data/value/rejected": 0,
        "data/rejected": 0,
        "data/reward/images": 20,
        "data/reward/views": 40,
        "data/reward/epochs": 20 / 8,
        "data/value/images": 30,
        "data/value/views": 90,
        "data/value/epochs_0": 30 * 0.75 / 12,
        "data/value/epochs_1": 30 * 0.25 / 3,
    }
    assert ledger.metrics() == pytest.approx(want)
    other = Ledger(data, sources, tmp_path / "rejected.jsonl")
    other.restore(5, ledger.saved())
    assert other.metrics() == ledger.metrics()


def test_the_bad_are_counted_each_time_and_named_once(tmp_path: Path, capsys):
    data, sources = PairData(batch=10, views=CROPS), {"train": Numbered(20, bad=(3, 4))}
    sources["train"].problems = (("x", "left out"),)
    sources["train"].notes = ("mind the gap",)
    ledger, ds = Ledger(data, sources, tmp_path / "rejected.jsonl"), data.batches(sources, 0)
    for step in range(8):
        ledger(step, ds[step])
    count = sum(len(ds[step].rejected["train"]) for step in range(8))
    assert ledger.metrics()["data/rejected"] == count > 2
    named = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {(row["name"], row["reason"]) for row in named} == {
        ("x", "left out"),
        ("numbered/3", "cracked"),
        ("numbered/4", "cracked"),
    }
    assert len(named) == 3
    said = capsys.readouterr().err
    assert said.count("skipped") == 3
    assert "note: mind the gap\n" in said
    again = Ledger(data, sources, tmp_path / "rejected.jsonl")
    again.restore(8, json.loads(json.dumps(ledger.saved())))
    again(8, ds[8])
    assert "skipped" not in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "stops"), [(0.05, True), (0.3, False), (1.0, False)])
def test_too_much_that_is_bad_stops_with_a_report(limit: float, stops: bool, tmp_path: Path):
    """A tenth of the records is bad, and so at last about a tenth of those tried."""
    data = PairData(batch=50, views=CROPS, max_rejected=limit)
    sources = {"train": Numbered(40, bad=(1, 2, 3, 4))}
    ledger, ds = Ledger(data, sources, tmp_path / "rejected.jsonl"), data.batches(sources, 0)
    step = -1
    try:
        for step in range(40):
            ledger(step, ds[step])
    except TooManyRejected as wrong:
        report = str(wrong)
        assert stops
        assert 50 * (step + 1) + ledger.rejected["train"] >= ENOUGH > 50 * step
        assert "pictures that stream train tried could not be used (" in report
        assert "--data.max-rejected 0.05" in report
        assert f"{ledger.rejected['train']} x cracked" in report
        assert str(tmp_path / "rejected.jsonl") in report
    else:
        assert not stops
