"""A run that was stopped, killed or broken off anywhere, and started again, is the run that never was."""

import fcntl
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import tiny

from abx import parallel, train
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data.loader import Loaded
from abx.data.sources import SpecError
from abx.experiment import Checkpointing, Evaluation, Logging
from abx.experiment import run as running
from abx.experiment.folder import load
from abx.experiment.monitor import Rejects
from abx.fit import Pace, fit
from abx.log import MetricsLog, read_lines
from abx.train import TrainState

# --- fit alone, on a state of two numbers -----------------------------------------------------------------------------


@jax.jit
def counting(state, batch):
    """Adds the batch to the model; the loss is the model."""
    model = state.model + batch.mean()
    return state._replace(step=state.step + 1, model=model, target=0.5 * (state.target + model)), {"loss": model}


def fresh() -> TrainState:
    zero = jnp.zeros(())
    return jax.device_put(TrainState(jnp.int32(0), zero, zero, (), ()), parallel.replicated(parallel.mesh()))


@contextmanager
def stream(start: int) -> Iterator[Iterator[Loaded]]:
    """The batch of step s is full of s."""
    yield (Loaded(np.full(8, s, np.float32), {"train": np.arange(8)}, {}) for s in range(start, 1000))


class Looks:
    """An `evaluate` that remembers when it was asked; `at` does something at a step."""

    def __init__(self, at=None):
        self.asked, self.at = [], at or {}

    def __call__(self, state):
        step = int(state.step)
        self.asked.append(step)
        self.at.get(step, lambda: None)()
        return {"eval/knn_top1": 1.0 / (1 + step), "eval/model": float(state.model)}


class Watching:
    """A `watch` that does something when it sees the batch of a step."""

    def __init__(self, at=None):
        self.at = at or {}

    def __call__(self, step, loaded):
        self.at.get(step, lambda: None)()

    def metrics(self):
        return {"data/read": 8.0}


def go(folder, steps=10, *, at=None, looks=None, step_fn=counting, open_stream=stream, **pace):
    """One start of a run of `counting` in a folder."""
    mesh = parallel.mesh()
    with Checkpoints(folder / "checkpoints") as checkpoints:
        found = checkpoints.restore_newest(fresh(), parallel.replicated(mesh))
        state = fresh() if found is None else found[0]
        with MetricsLog(folder / "metrics.jsonl", int(state.step)) as log:
            return fit(
                step_fn,
                state,
                open_stream,
                mesh=mesh,
                pace=Pace(steps, **{"log": 1, "eval": 4, "save": 3} | pace),
                log=log,
                checkpoints=checkpoints,
                evaluate=looks or Looks(),
                watch=Watching(at),
            )


def rows(folder):
    """metrics.jsonl without the speed."""
    found = read_lines(folder / "metrics.jsonl")
    assert len(found) == (folder / "metrics.jsonl").read_text().count("\n")
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in found]


def steps_of(folder):
    return [row["step"] for row in rows(folder)]


def saved(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir())


def send(number):
    return lambda: signal.raise_signal(number)


@pytest.fixture
def straight(tmp_path):
    """Ten steps without a break."""
    folder = tmp_path / "straight"
    folder.mkdir()
    state, cut = go(folder)
    assert cut == 0
    return folder, state


def test_pace(straight):
    folder, state = straight
    assert steps_of(folder) == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10]
    assert saved(folder) == [9, 10]
    assert float(state.model) == sum(range(10))


@pytest.mark.parametrize(
    ("pace", "logged", "asked", "kept"),
    [
        ({"log": 0}, [0, 4, 8, 10, 10], [0, 4, 8, 10], [9, 10]),
        ({"eval": 0}, list(range(1, 11)), [], [9, 10]),
        ({"save": 0}, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10], [0, 4, 8, 10], [10]),
        ({"log": 0, "eval": 0, "save": 0}, [10], [], [10]),
        ({"log": 100, "eval": 100, "save": 100}, [0, 10, 10], [0, 10], [10]),
    ],
)
def test_never_means_only_at_the_end(tmp_path, pace, logged, asked, kept):
    looks = Looks()
    go(tmp_path, looks=looks, **pace)
    assert steps_of(tmp_path) == logged
    assert looks.asked == asked
    assert saved(tmp_path) == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 1, 3, 4, 8, 9])
def test_stopped_anywhere_and_started_again(tmp_path, straight, step, number, capsys):
    """The signal comes while the batch of `step` is on its way; that step is still made, and saved."""
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    _, cut = go(tmp_path, at={step: send(number)})
    if step == 9:  # the last step: only the evaluation is wanting
        assert cut == number
    assert cut == number
    assert saved(tmp_path)[-1] == step + 1
    assert f"stopped at step {step + 1} by {number.name}, saved;" in capsys.readouterr().out
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    state, cut = go(tmp_path)
    assert cut == 0
    assert rows(tmp_path) == rows(straight[0])
    assert state == straight[1]


@pytest.mark.parametrize("step", [0, 4, 8, 10])
def test_an_evaluation_is_broken_off_and_made_up_for(tmp_path, straight, step):
    looks = Looks({step: send(signal.SIGTERM)})
    _, cut = go(tmp_path, looks=looks)
    assert cut == signal.SIGTERM
    assert saved(tmp_path)[-1] == step
    again = Looks()
    state, cut = go(tmp_path, looks=again)
    assert cut == 0
    assert again.asked[0] == step
    assert rows(tmp_path) == rows(straight[0])
    assert state == straight[1]


def test_evaluations_that_are_there_are_not_made_again(tmp_path):
    go(tmp_path, at={4: send(signal.SIGTERM)}, save=4, eval=4)
    assert saved(tmp_path) == [4, 5]
    looks = Looks()
    go(tmp_path, looks=looks)
    assert looks.asked == [8, 10]
    looks = Looks()
    go(tmp_path, looks=looks)
    assert looks.asked == []


def test_a_second_sigint_interrupts_at_once(tmp_path, straight):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, at={5: twice})
    assert saved(tmp_path)[-1] == 3  # as if killed
    state, _ = go(tmp_path)
    assert rows(tmp_path) == rows(straight[0])
    assert state == straight[1]


def test_a_sigint_after_a_sigterm_is_the_first(tmp_path):
    def both():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert go(tmp_path, at={5: both})[1] == signal.SIGTERM
    assert saved(tmp_path)[-1] == 6


def test_workers_that_the_signal_ended_first(tmp_path, straight):
    """A shell and a cluster send it to the whole group."""

    @contextmanager
    def dying(start):
        def batches():
            with stream(start) as real:
                for _, loaded in zip(range(start, 6), real, strict=False):
                    yield loaded
                signal.raise_signal(signal.SIGTERM)
                raise RuntimeError("Worker process was terminated unexpectedly with exit code -15")

        yield batches()

    assert go(tmp_path, open_stream=dying)[1] == signal.SIGTERM
    assert saved(tmp_path)[-1] == 6
    go(tmp_path)
    assert rows(tmp_path) == rows(straight[0])


def test_an_error_comes_out_as_it_is_and_costs_nothing_that_was_saved(tmp_path, straight):
    def broken():
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        go(tmp_path, at={7: broken})
    assert saved(tmp_path) == [3, 6]
    go(tmp_path)
    assert rows(tmp_path) == rows(straight[0])


def test_a_save_that_fails_ends_the_run_with_a_sentence(tmp_path, monkeypatch):
    original = Checkpoints.save

    def failing(self, step, *rest):
        if step == 6:
            self.folder = tmp_path / "elsewhere"
            monkeypatch.setattr(self.manager, "save", lambda *a, **k: (_ for _ in ()).throw(OSError("No space left")))
        return original(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", failing)
    with pytest.raises(CheckpointError, match=r"could not be written to .* \(OSError: No space left\)"):
        go(tmp_path)
    assert saved(tmp_path) == [3]


def test_metrics_beyond_the_checkpoint_and_half_a_line_are_mended(tmp_path, straight):
    go(tmp_path, at={4: send(signal.SIGTERM)})
    with (tmp_path / "metrics.jsonl").open("a") as file:  # as a kill after step 7 would have left it
        file.write('{"step": 6, "loss": 1.0}\n{"step": 7, "loss": 2.0}\n{"step": 8, "lo')
    go(tmp_path)
    assert rows(tmp_path) == rows(straight[0])


def test_the_best_checkpoint_is_the_one_that_was_evaluated(tmp_path):
    """Scores fall, so the one of step 4 is the best that is saved; steps that were not evaluated have none."""
    go(tmp_path, 14, save=2, eval=4)
    assert saved(tmp_path) == [4, 12, 14]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.keep.scores == {4: 1 / 5, 12: 1 / 13, 14: 1 / 15}
    other = tmp_path / "other"
    other.mkdir()
    go(other, 14, save=5, eval=4)  # never both but at the end
    with Checkpoints(other / "checkpoints") as checkpoints:
        assert checkpoints.keep.scores == {14: 1 / 15}


def test_speed_leaves_out_the_compilation(tmp_path):
    import time

    def slow_at_first(state, batch):
        if int(state.step) == 0:
            time.sleep(1.0)
        return counting(state, batch)

    go(tmp_path, step_fn=slow_at_first, log=5, eval=0)
    first = read_lines(tmp_path / "metrics.jsonl")[0]
    assert first["speed/ms_per_step"] < 500
    assert 0 <= first["speed/data_wait_fraction"] <= 1


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Each start of a run compiles its step anew; keep the programs between them. One device, as that is what costs."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    with pytest.MonkeyPatch.context() as patch:
        mesh = parallel.mesh
        patch.setattr(parallel, "mesh", lambda devices=None: mesh(devices or jax.devices()[:1]))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def whole(compiled, tmp_path_factory):
    """(name) -> recipe and last state of a run without a break, made once."""
    made = {}

    def get(name):
        if name not in made:
            # An evaluation costs more than all steps; one method shows what becomes of it.
            looks = {} if name == "simclr" else {"eval": Evaluation(every=0)}
            recipe = tiny(name, tmp_path_factory.mktemp("whole") / name, **looks)
            made[name] = recipe, running.run(recipe)
        return made[name]

    return get


@pytest.fixture
def step_fns(monkeypatch):
    """The step functions that runs make."""
    made, original = [], train.make_step
    monkeypatch.setattr(train, "make_step", lambda *a: made.append(original(*a)) or made[-1])
    return made


def stop_at(monkeypatch, step, number):
    """Sends a signal when the batch of a step comes."""
    original = Rejects.__call__

    def call(self, at, loaded):
        if at == step:
            signal.raise_signal(number)
        original(self, at, loaded)

    monkeypatch.setattr(Rejects, "__call__", call)


def final(out):
    return json.loads((out / "final.json").read_text())


@pytest.mark.parametrize(("name", "number"), [("ab", signal.SIGTERM), ("simclr", signal.SIGINT)])
def test_resumed_equals_never_stopped(whole, tmp_path, name, number, monkeypatch, step_fns, capsys):
    recipe, straight = whole(name)
    pieced = replace(recipe, out=tmp_path / name)
    with monkeypatch.context() as patch:
        stop_at(patch, 4, number)
        with pytest.raises(SystemExit) as stopped:
            running.run(pieced)
    assert stopped.value.code == 128 + number
    assert not {"final.json", "value_map.png"} & {p.name for p in pieced.out.iterdir()}
    assert "step 5 of 8" in (pieced.out / "report.txt").read_text()
    resumed = running.run(pieced)

    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(straight), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    one, two = final(recipe.out), final(pieced.out)
    assert one["step"] == two["step"] == 8
    assert one["params_sha256"] == two["params_sha256"]
    assert one["params_sha256"].keys() == {"online", "target"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in one["params_sha256"].values())
    assert one["params_sha256"]["online"] != one["params_sha256"]["target"]
    assert rows(pieced.out) == rows(recipe.out)
    looked = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert steps_of(recipe.out) == (looked if name == "simclr" else [1, 2, 3, 4, 5, 6, 7, 8])
    # Once before the stop and once after it: a restored state is no other state to the compiler.
    assert [step_fn._cache_size() for step_fn in step_fns[-2:]] == [1, 1]
    again = load(pieced.out)[1]
    assert running.digests(again) == one["params_sha256"]


def test_digests_see_every_array_and_its_place():
    state = fresh()._replace(model={"a": jnp.zeros(2), "b": jnp.ones(2)}, target={"a": jnp.zeros(2)})
    same = running.digests(state)
    assert same == running.digests(state)
    swapped = running.digests(state._replace(model={"a": jnp.ones(2), "b": jnp.zeros(2)}))
    assert swapped["online"] != same["online"]
    assert swapped["target"] == same["target"]


def test_a_finished_run_again_changes_nothing(whole, tmp_path):
    import shutil

    recipe, straight = whole("simclr")
    out = tmp_path / "again"
    shutil.copytree(recipe.out, out)
    for name in ("report.txt", "views.png", "final.json"):
        (out / name).unlink()
    again = running.run(replace(recipe, out=out))
    assert running.digests(again) == running.digests(straight)
    assert (out / "metrics.jsonl").read_bytes() == (recipe.out / "metrics.jsonl").read_bytes()
    assert final(out) == final(recipe.out)
    for name in ("report.txt", "views.png"):
        assert (out / name).stat().st_size > 0
    assert saved(out) == saved(recipe.out)


def test_a_broken_newest_checkpoint_costs_a_few_steps(whole, tmp_path, monkeypatch, capfd):
    recipe, _ = whole("simclr")
    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        with pytest.raises(SystemExit):
            running.run(replace(recipe, out=out))
    (out / "checkpoints" / "6" / "state" / "manifest.ocdbt").unlink()
    with (out / "rejected.jsonl").open("w") as file:  # and a list of rejected records that a kill cut off
        file.write('{"name": "a", "reason": "b"}\n{"name": "c", "rea')
    capfd.readouterr()
    running.run(replace(recipe, out=out))
    said = capfd.readouterr()
    assert said.err.count("going on from step 4") == 1
    assert said.err.count("\n") == 1, said.err
    assert "step 4 of 8" in said.out
    assert final(out)["params_sha256"] == final(recipe.out)["params_sha256"]
    assert rows(out) == rows(recipe.out)
    assert (out / "rejected.jsonl").read_text() == '{"name": "a", "reason": "b"}\n'


# Eight steps, as above, so that the program is the one that was compiled above.
QUICK = {"eval": Evaluation(every=0), "ckpt": Checkpointing(every=0), "log": Logging(every=0)}


def test_nothing_but_the_end(compiled, tmp_path):
    recipe = tiny("simclr", tmp_path / "quick", **QUICK)
    running.run(recipe)
    assert steps_of(recipe.out) == [8]
    assert saved(recipe.out) == [8]
    assert final(recipe.out)["step"] == 8
    assert not list(recipe.out.glob("*.tmp"))


def test_no_resume_starts_anew(compiled, tmp_path, capsys):
    recipe = tiny("simclr", tmp_path / "anew", **QUICK)
    running.run(recipe)
    one = final(recipe.out)
    (recipe.out / "checkpoints" / "mine.txt").write_text("from the first run")
    capsys.readouterr()
    running.run(replace(recipe, resume=False))
    assert "step 0 of 8" in capsys.readouterr().out
    assert not (recipe.out / "checkpoints" / "mine.txt").exists()
    assert final(recipe.out)["params_sha256"] == one["params_sha256"]
    running._prepare_folder(replace(recipe, resume=False, seed=1))  # also with other settings
    assert json.loads((recipe.out / "config.json").read_text())["seed"] == 1
    assert sorted(p.name for p in recipe.out.iterdir()) == [".lock", "config.json", "environment.json"]


def refused(recipe, capsys):
    """The sentences with which a run is refused."""
    with pytest.raises(SystemExit) as stopped:
        running.run(recipe)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_no_resume_deletes_nothing_that_is_not_a_run(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "precious").write_text("x")
    said = refused(tiny("simclr", tmp_path, resume=False, **QUICK), capsys)
    assert f"--no-resume would delete checkpoints in {tmp_path}, which holds no config.json and so no run" in said
    assert (tmp_path / "checkpoints" / "precious").exists()


def test_other_settings_are_refused(tmp_path, capsys):
    recipe = tiny("simclr", tmp_path, **QUICK)
    running._prepare_folder(recipe)
    before = (recipe.out / "config.json").read_bytes()
    said = refused(replace(recipe, seed=1), capsys)
    assert "holds a run with other settings" in said
    assert "seed was 0, now 1" in said
    assert (recipe.out / "config.json").read_bytes() == before
    (recipe.out / "config.json").write_text("{")
    assert "config.json cannot be read" in refused(recipe, capsys)


def test_two_at_once_are_refused(tmp_path):
    recipe = tiny("simclr", tmp_path, **QUICK, resume=False)
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match="is being written by another process; give another --out, or wait"):
            running.run(recipe)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be written: Not a directory"):
        running.run(tiny("simclr", tmp_path / "file" / "run", **QUICK))


def test_a_checkpoint_of_another_program_is_one_sentence(compiled, tmp_path, capsys):
    recipe = tiny("simclr", tmp_path / "other", **QUICK)
    with Checkpoints(recipe.out / "checkpoints") as checkpoints:
        checkpoints.save(1, {"x": jnp.float32(1)}, {})
    with pytest.raises(SystemExit) as stopped:
        running.run(recipe)
    assert stopped.value.code == 1
    assert re.fullmatch(
        r"error: .*checkpoints/1 is of another model: .* and \d+ more differ\n", capsys.readouterr().err
    )
