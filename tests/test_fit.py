"""The loop alone, on a state of two numbers: stopped anywhere and started again, it is the loop that never was."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import rows, saved, steps_of

from abx import parallel
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data.loader import Loaded
from abx.fit import Diverged, Pace, fit
from abx.log import MetricsLog, read_lines
from abx.train import TrainState


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
    yield (Loaded(np.full(8, s, np.float32), {"train": np.arange(8)}, {}, {}) for s in range(start, 1000))


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


def test_the_next_batch_is_on_its_way_to_the_device_before_a_step_is_waited_for(tmp_path, monkeypatch):
    """Two buffers: one in use, one being filled."""
    events, place, wait = [], parallel.place, jax.block_until_ready
    monkeypatch.setattr(parallel, "place", lambda batch, s: events.append(f"place {int(batch[0])}") or place(batch, s))
    monkeypatch.setattr(jax, "block_until_ready", lambda x: events.append("wait") or wait(x))

    def step_fn(state, batch):
        events.append(f"step {int(batch[0])}")
        return counting(state, batch)

    go(tmp_path, steps=4, step_fn=step_fn, log=100)
    want = ["place 0", "wait", "step 0", "wait", "place 1", "wait", "step 1", "place 2", "wait", "step 2"]
    assert events[: len(want)] == want


def test_a_spike_stops_the_run_before_it_is_saved(tmp_path):
    """Losses are 1, 1, ... and 9 at step 8: nine times the mean. What came before is logged, the step is not taken."""

    def step_fn(state, batch, limit):
        loss = jnp.float32(9 if int(batch[0]) == 8 else 1)
        new, _ = counting(state, batch)
        return (new if loss <= limit else state), {"loss": loss, "grad_norm": loss}

    with pytest.raises(Diverged, match="the loss of step 9, 9, is above 3") as stopped:
        go(tmp_path, 20, step_fn=step_fn, spike=3.0)
    assert int(stopped.value.state.step) == 8
    np.testing.assert_array_equal(stopped.value.batch, np.full(8, 8, np.float32))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 6
    assert (
        go(tmp_path / "calm", 10, step_fn=lambda state, batch, limit: step_fn(state, 0 * batch, limit), spike=3.0)[1]
        == 0
    )
