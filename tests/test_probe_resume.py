"""A probe that was cut short ends as one that never was; the batches that make it so."""

import json
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from asked import CLASSES, Some, figures, pictures, recipe_on, two_steps
from runs import one_device

from abx import parallel
from abx.data.loader import Loaded
from abx.data.sources import BadRecord
from abx.experiment import finetuning, fitting, measuring, portions, probe
from abx.experiment.feeding import AskedBatches, LabelledBatches, Shuffled, ahead
from abx.experiment.probing import Saving
from abx.probes.tasks import Classification, Detection


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick):
    return two_steps(tmp_path_factory)


@pytest.fixture
def data(monkeypatch, tmp_path):
    return pictures(monkeypatch, tmp_path)


# --- cut short ---


@pytest.mark.parametrize(
    ("kind", "how"), [("linear", "killed"), ("map", "told"), ("decoder", "killed"), ("finetune", "told")]
)
def test_cut_short_and_started_again_is_the_same_to_the_bit(run, data, tmp_path, monkeypatch, kind, how):
    states, original = [], fitting.fit
    for module in (measuring, finetuning):
        monkeypatch.setattr(module, "trained", lambda *a, **k: states.append(fitting.trained(*a, **k)) or states[-1])
    straight = probe.probe(recipe_on(data, run[0], tmp_path / "straight", probes=(kind,), ckpt=Saving(2)))
    pieced = recipe_on(data, run[0], tmp_path / "pieced", probes=(kind,), ckpt=Saving(2))

    def interrupted(step_fn, state, open_stream, **more):
        def step(state, batch):
            if int(state.step) == 3:
                if how == "killed":
                    raise MemoryError
                signal.raise_signal(signal.SIGTERM)
            return step_fn(state, batch)

        return original(step, state, open_stream, **more)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", interrupted)
        with pytest.raises(SystemExit if how == "told" else MemoryError) as cut:
            probe.probe(pieced)
    if how == "told":
        assert cut.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "pieced" / "results.jsonl").exists()
    (folder,) = (tmp_path / "pieced" / "probes").iterdir()
    assert sorted(p.name for p in (folder / "checkpoints").iterdir() if p.name.isdecimal()) == [
        "4" if how == "told" else "2"
    ]
    again = probe.probe(pieced)
    assert figures(again) == figures(straight)
    a, b = (jax.tree.leaves(state) for state in states)
    assert all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True)
    )
    (other,) = (tmp_path / "straight" / "probes").iterdir()
    assert folder.name == other.name
    losses = [[row["loss"] for row in rows_of(f)] for f in (folder, other)]
    assert losses[0] == losses[1]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_another_probe_is_another_folder_and_no_resume_begins_anew(run, data, tmp_path, capsys):
    asked = recipe_on(data, run[0], tmp_path, probes=("linear",))
    others = [
        asked,
        replace(asked, network="target"),
        replace(asked, seed=1),
        replace(asked, linear=replace(asked.linear, rates=(1.0,))),
    ]
    for other in others:
        probe.probe(other)
    assert len(list((tmp_path / "probes").iterdir())) == len(others)
    said = capsys.readouterr().out
    assert said.count(": step 0 of ") == len(others)
    probe.probe(asked)
    assert ": step 0 of " not in capsys.readouterr().out
    probe.probe(replace(asked, resume=False))
    assert ": step 0 of " in capsys.readouterr().out


# --- batches ---


def test_batches_do_not_depend_on_the_devices(monkeypatch, quick):
    sizes = [(1024, 300), (100, 300), (8, 300), (64, 5)]
    one = [portions.batch_size(*size) for size in sizes]
    monkeypatch.setattr(parallel, "mesh", quick)
    assert [portions.batch_size(*size) for size in sizes] == one == [288, 96, 16, 16]
    assert portions.steps_for(2, 300, 96) == 7


def test_every_epoch_has_each_number_once():
    shuffled = Shuffled(10, 4, seed=3)
    drawn = np.concatenate([numbers for step in range(10) for _, numbers in shuffled(step)]).reshape(4, 10)
    assert (np.sort(drawn, 1) == np.arange(10)).all()
    assert not (drawn[0] == drawn[1]).all()
    assert [len(numbers) for _, numbers in shuffled(2)] == [2, 2]
    assert [epoch for epoch, _ in shuffled(2)] == [0, 1]
    large = Shuffled(3, 8, seed=0)(0)
    assert [len(numbers) for _, numbers in large] == [3, 3, 2]
    assert not (Shuffled(10, 10, seed=4)(0)[0][1] == drawn[0]).all()


def test_batches_hold_what_they_say(rng):
    tokens, rows_, labels = rng.random((20, 2, 3)), np.arange(0, 20, 2), np.arange(10)
    batch = LabelledBatches(tokens, rows_, labels, Shuffled(10, 4, 0))(7)
    np.testing.assert_array_equal(batch.features, tokens[2 * batch.labels])
    facts = probe_facts(20)
    for task in (Classification(CLASSES), Detection(("ball", "cube"), max_objects=4)):
        make = AskedBatches(tokens, task, facts, Shuffled(20, 8, 0))
        there = {row.tobytes() for row in tokens}
        batches = [make(step) for step in (2, 2, 5)]
        for a, b in zip(batches[0], batches[1], strict=True):
            np.testing.assert_array_equal(a, b)
        assert all(row.tobytes() in there for row in batches[0].tokens)
        assert batches[0].questions.shape[0] == 8
    # In another epoch objects stand in another order.
    one = AskedBatches(tokens, task, facts, Shuffled(20, 20, 0))
    order = [np.argsort(one.shuffled(step)[0][1]) for step in (0, 1)]
    first, second = (one(step).questions[order[step]] for step in (0, 1))
    assert (first != second).any()


def probe_facts(count):
    from abx.probes.questions import facts_of

    source = Some(count, 0)
    return [facts_of(source.stored(i)) for i in range(count)]


def test_batches_are_made_ahead_and_in_order():
    with ahead(lambda step: step * step, 3) as batches:
        assert [next(batches) for _ in range(4)] == [Loaded(n, {}, {}, {}) for n in (9, 16, 25, 36)]

    def broken(step):
        if step == 5:
            raise BadRecord("gone")
        return step

    with ahead(broken, 4) as batches:
        assert next(batches).batch == 4
        with pytest.raises(BadRecord, match="gone"):
            next(batches)
