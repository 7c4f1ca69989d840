"""A step that must not be taken is not taken, says why, and can be looked at afterwards."""

import json
import math

import jax
import numpy as np
import pytest
from runs import one_device, tiny
from small import program as cached

from abx import fit
from abx.cli import main
from abx.experiment import Evaluation, diverged
from abx.experiment import run as running
from abx.experiment.config import Guard
from abx.experiment.folder import load
from abx.experiment.replay import replay
from abx.optim import AdamW

program = cached.__wrapped__
"""A step of its own: with a limit it is another program, and others count how often theirs is compiled."""


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, quick):
    """A run whose parameters leave all bounds with the first step."""
    out = tmp_path_factory.mktemp("runs") / "wild"
    recipe = tiny("simclr", out, eval=Evaluation(every=0), optim=AdamW(lr=1e36, warmup=0.0))
    with pytest.raises(SystemExit) as ended:
        running.run(recipe)
    return recipe, ended.value.code


@pytest.mark.parametrize(("limit", "taken"), [(math.inf, True), (1e3, True), (1e-3, False)])
def test_a_loss_above_the_limit_changes_nothing(limit, taken):
    p = program("simclr")
    before = jax.device_get(p.state())
    state, metrics = p.step(p.state(), p.batch, limit)
    assert int(state.step) == int(taken)
    assert math.isfinite(metrics["loss"])
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True)]
    assert all(same) == (not taken)


def test_what_is_not_finite_changes_nothing():
    p = program("simclr")
    wild = jax.tree.map(lambda x: x * np.float32(np.nan), p.state().model)
    before = jax.device_get(p.state()._replace(model=wild))
    state, metrics = p.step(p.state()._replace(model=wild), p.batch)
    assert not math.isfinite(metrics["loss"])
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_run_says_so_and_keeps_the_step(stopped, capsys):
    recipe, code = stopped
    assert code == 1
    folder = diverged.newest(recipe.out)
    about = json.loads((folder / "step.json").read_text())
    step = about["step"]
    assert folder.name == f"diverged-{step}"
    assert about["metrics"]["loss"] is None
    assert "not finite" in about["why"]
    batch = diverged.read(folder, recipe.data.blank()).batch
    for kept, made in zip(
        jax.tree.leaves(batch),
        jax.tree.leaves(recipe.data.batches(running.open_sources(recipe.data), 0)[step].batch),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, made)
    # Nothing of it is in a checkpoint of the run.
    if (recipe.out / "checkpoints").exists() and list((recipe.out / "checkpoints").glob("[0-9]*")):
        assert int(load(recipe.out)[1].step) <= step
    # The same again ends the same; --guard and the like are no other settings.
    with pytest.raises(SystemExit):
        running.run(recipe)
    said = capsys.readouterr().err
    assert f"abx replay {recipe.out}" in said
    assert "error: the loss of step" in said


def test_replay_finds_where_it_comes_from(stopped, capsys):
    recipe, _ = stopped
    found = replay(recipe, recipe.out)
    assert found.again
    assert not found.state
    assert found.gradients
    assert "reward/loss" in found.metrics
    assert ".py:" in found.first
    main(["replay", str(recipe.out), "--json"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["again"], last["loss"], last["step"]) == (True, None, found.step)


def test_replay_of_a_run_that_is_well(tmp_path, capsys):
    (tmp_path / "well").mkdir()
    recipe = tiny("simclr", tmp_path / "well")
    (recipe.out / "config.json").write_text(json.dumps(running.to_json(recipe)))
    with pytest.raises(SystemExit) as ended:
        main(["replay", str(recipe.out)])
    assert ended.value.code == 2
    assert "has kept no step" in capsys.readouterr().err


def test_what_a_spike_is():
    assert Guard(0.0).problems() == Guard(3.0).problems() == []
    assert Guard(0.5).problems()
    assert fit.ENOUGH <= fit.RECENT
