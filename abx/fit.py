"""The loop around the step: data in, metrics out, checkpoints now and then, and a clean way to stop."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from abx import hosts, parallel
from abx.checkpoint import Checkpoints
from abx.data.loader import Loaded
from abx.log import MetricsLog, ProgressLine
from abx.train import Step, TrainState

Evaluate = Callable[[TrainState], dict[str, float]]


@runtime_checkable
class Watch(Protocol):
    """Looks at every batch on the host before it is used; what it returns is logged with the metrics."""

    def __call__(self, step: int, loaded: Loaded) -> None: ...

    def metrics(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Pace:
    """How often things happen, in steps; 0 = never (but the last step is logged and saved all the same)."""

    steps: int
    log: int = 10
    eval: int = 0
    save: int = 0
    views_per_step: int = 1

    def due(self, every: int, step: int) -> bool:
        return bool(every) and step % every == 0


def fit(
    step_fn: Step,
    state: TrainState,
    open_stream: Callable[[int], AbstractContextManager[Iterator[Loaded]]],
    *,
    mesh: Mesh,
    pace: Pace,
    log: MetricsLog,
    checkpoints: Checkpoints | None = None,
    evaluate: Evaluate | None = None,
    watch: Watch | None = None,
    meta: Callable[[], Mapping[str, Any]] = dict,
    score: str = "eval/knn_top1",
) -> tuple[TrainState, int]:
    """Train from `state.step` to `pace.steps`; returns the last state, and the signal that cut the run short or 0.

    Args:
        step_fn: as `train.make_step` makes it; donates its state.
        open_stream: step -> context manager of an iterator of `Loaded`, beginning with the batch of that step.
        log: opened at the state's step.
        evaluate: figures of a state, asked before the first step, every `pace.eval` and after the last. Some of their
            names begin with eval/, by which a run that goes on knows that they are there.
        watch: sees each batch on the host, e.g. to count rejected records.
        meta: asked at each save for what is kept beside the state.
        score: the metric by which the best checkpoint is kept; higher is better.

    SIGINT and SIGTERM finish the step that is running, save and return; an evaluation is broken off, and made up for
    when the run goes on. A second SIGINT interrupts at once. A program should then end with 128 + the signal's number
    (130, 143): to a shell and to a cluster that is "not complete, start it again", which 0 is not.

    What it started to save is on disk when it returns; after an error, that is the caller's to wait for.

    Of several processes all do the same; a signal to one of them stops all after the same step.
    """
    start = int(state.step)
    line, clock = ProgressLine(pace.steps, start), Clock(pace.views_per_step)
    scores: dict[int, float] = {}
    unseen = False  # whether the last look at the state was broken off
    agree = hosts.Agreement(mesh)

    def assess(state: TrainState, step: int) -> None:
        nonlocal unseen
        if evaluate is None or not pace.eval:
            return
        try:
            # Of several processes none breaks off: they would not agree on what was seen.
            with clock.stopped(), nullcontext() if hosts.several() else stop.at_once():
                found = evaluate(hosts.own(state, mesh))
        except Stopped:
            unseen = True
            return
        log.write(step, found)
        scores.clear()
        if score in found:
            scores[step] = found[score]
        shown = [k for k in ("eval/knn_top1", "eval/attentive_top1", "value/accuracy", "value/explained") if k in found]
        line.say(f"step {step}: " + "  ".join(f"{k} {found[k]:.3f}" for k in shown))

    def save(state: TrainState, step: int) -> None:
        if checkpoints is not None:
            with clock.stopped():
                log.sync()
                checkpoints.save(step, state, meta(), scores.get(step))

    try:
        with stop_on_signal() as stop, open_stream(start) as batches:
            seen = any(name.startswith("eval/") for name in log.last)
            if (pace.due(pace.eval, start) or start == pace.steps) and not seen:
                assess(state, start)
            clock.restart()
            step, told = start, 0
            while step < pace.steps and not (told := agree(stop.signal)):
                with clock.waiting(state):
                    try:
                        loaded = next(batches)
                    except Exception:
                        if not stop.signal or hosts.several():
                            raise
                        break  # shells and clusters signal the whole group, and the workers were the first to go
                if watch is not None:
                    watch(step, loaded)
                batch = parallel.place(loaded.batch, parallel.batched(mesh))
                del loaded
                # The host is one batch ahead of the device and no more: else batches would pile up in its queue, and
                # simulated CPU devices with several steps in flight wait for each other for ever.
                jax.block_until_ready(state.step)
                state, metrics = step_fn(state, batch)
                step += 1
                last = step == pace.steps
                if pace.due(pace.log, step) or last:
                    row = {k: float(v) for k, v in jax.device_get(metrics).items()}
                    if step > start + 1 or last:  # speed is that of the steps after the one that was compiled
                        row |= clock.metrics()
                    row |= watch.metrics() if watch else {}
                    log.write(step, row)
                    line.update(step, row)
                    clock.restart()
                elif step == start + 1:
                    jax.block_until_ready(state.step)
                    clock.restart()
                if step == start + 1:
                    line.compiled(step)
                if pace.due(pace.eval, step) or last:
                    assess(state, step)
                if pace.due(pace.save, step):
                    save(state, step)
            save(state, step)  # does nothing where the step is there
            if checkpoints is not None:
                checkpoints.wait()
            cut = (told or stop.signal) if step < pace.steps or unseen else 0
            if cut:
                what = "saved; the same command goes on from here" if checkpoints else "not saved"
                line.say(f"stopped at step {step} by {signal.Signals(cut).name}, {what}")
    finally:
        line.close()
    return state, cut


class Clock:
    """Time since the last log, without evaluations and saves, and the share of it spent waiting for data."""

    def __init__(self, views_per_step: int):
        self.views_per_step = views_per_step
        self.restart()

    def restart(self) -> None:
        self.began, self.away, self.waited, self.steps = time.monotonic(), 0.0, 0.0, 0

    @contextmanager
    def waiting(self, state: TrainState) -> Iterator[None]:
        """Around the host's wait for a batch. What `state`, the step under way, took as long as costs nothing."""
        began = time.monotonic()
        yield
        if state.step.is_ready():  # type: ignore[attr-defined]  # in jax.Array, not in its stub
            self.waited += time.monotonic() - began
        self.steps += 1

    @contextmanager
    def stopped(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.away += time.monotonic() - began

    def metrics(self) -> dict[str, float]:
        elapsed = max(time.monotonic() - self.began - self.away, 1e-9)
        return {
            "speed/views_per_second": self.steps * self.views_per_step / elapsed,
            "speed/ms_per_step": 1e3 * elapsed / max(self.steps, 1),
            "speed/data_wait_fraction": min(self.waited / elapsed, 1.0),
        }


class Stopped(BaseException):
    """A signal came where it need not wait. Not an Exception: what is looked at may catch those."""


@dataclass
class Stop:
    """What signals have asked for."""

    signal: int = 0
    """The first that came."""
    interrupts: int = 0
    breaking: bool = False

    def note(self, number: int, frame: Any) -> None:
        self.signal = self.signal or number
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.breaking:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, and if one came before, a signal raises `Stopped`."""
        if self.signal:
            raise Stopped
        self.breaking = True
        try:
            yield
        finally:
            self.breaking = False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """While inside, SIGINT and SIGTERM are noted instead of ending the program; a second SIGINT interrupts."""
    stop = Stop()
    try:
        before = {s: signal.signal(s, stop.note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, as in some notebooks: then signals are the caller's
        before = {}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
