"""The loop around the step: data in, metrics out, checkpoints now and then, and a clean way to stop."""

import math
import signal
import time
from collections import deque
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
from abx.signals import Stopped, stop_on_signal
from abx.tracing import Tracer
from abx.train import Step, TrainState

Evaluate = Callable[[TrainState], dict[str, float]]

RECENT, ENOUGH = 20, 5
"""Losses that a spike is measured by: at most, and at least."""


class Diverged(Exception):
    """A step was refused (see `train.make_step`). What is needed to look into it comes along."""

    def __init__(self, step: int, state: TrainState, batch: Any, metrics: dict[str, float], limit: float):
        loss = metrics["loss"]
        why = f"above {limit:.4g}" if math.isfinite(loss) else "not finite"
        if math.isfinite(loss) and not math.isfinite(metrics["grad_norm"]):
            why = "finite, its gradient is not"
        super().__init__(f"the loss of step {step}, {loss:.4g}, is {why}")
        self.step, self.state, self.batch, self.metrics, self.limit = step, state, batch, metrics, limit


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

    spike: float = 0.0
    """A loss so many times the mean of the last `RECENT` that were logged stops the run, as one that is not finite
    does; 0 = only that does."""

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
    tracer: Tracer | None = None,
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
        tracer: of some steps.

    SIGINT and SIGTERM finish the step that is running, save and return; an evaluation is broken off, and made up for
    when the run goes on. A second SIGINT interrupts at once. A program should then end with 128 + the signal's number
    (130, 143): to a shell and to a cluster that is "not complete, start it again", which 0 is not.

    What it started to save is on disk when it returns; after an error, that is the caller's to wait for.

    Of several processes all do the same; a signal to one of them stops all after the same step.

    Raises: Diverged.
    """
    start = int(state.step)
    line, clock = ProgressLine(pace.steps, start), Clock(pace.views_per_step)
    scores: dict[int, float] = {}
    unseen = False  # whether the last look at the state was broken off
    agreement = hosts.Agreement(mesh)
    recent: deque[float] = deque(log.losses, maxlen=RECENT)
    limit = math.inf

    def assess(state: TrainState, step: int) -> None:
        nonlocal unseen
        if evaluate is None or not pace.eval:
            return
        try:
            # Of several processes none breaks off: they would not agree on what was seen.
            with clock.stopped(), nullcontext() if hosts.several() else stop.at_once():
                # Without the optimiser, which may be larger than the rest and have room only where it is shared out.
                found = evaluate(hosts.own(state._replace(opt=None), mesh))
        except Stopped:
            unseen = True
            return
        log.write(step, found)
        scores.clear()
        if score in found:
            scores[step] = found[score]
            if checkpoints is not None:
                checkpoints.rate(step, found[score])
        shown = [k for k in ("eval/knn_top1", "eval/attentive_top1", "value/accuracy", "value/explained") if k in found]
        line.say(f"step {step}: " + "  ".join(f"{k} {found[k]:.3f}" for k in shown))

    def check(state: TrainState, step: int) -> None:
        """Waits for the step under way. Raises: Diverged when it was refused."""
        if int(jax.block_until_ready(state.step)) != step:
            raise Diverged(step, state, batch, _numbers(metrics), limit)

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
            step, told, asked = start, 0, agreement.ask(stop.signal)
            # Alone, a signal stops after the step that is running. Several agree on it with the step before, so that
            # they need not wait for each other between the steps.
            while step < pace.steps and not (told := int(asked) if hosts.several() else stop.signal):
                with clock.waiting(state):
                    try:
                        loaded = next(batches)
                    except Exception:
                        if not stop.signal or hosts.several():
                            raise
                        break  # shells and clusters signal the whole group, and the workers were the first to go
                if watch is not None:
                    watch(step, loaded)
                following = parallel.place(loaded.batch, parallel.batched(mesh))
                del loaded
                # The host is one batch ahead of the device and no more: else batches would pile up in its queue, and
                # simulated CPU devices with several steps in flight wait for each other for ever.
                check(state, step)
                batch = following
                if tracer is not None:
                    tracer(step - start, state)
                asked = agreement.ask(stop.signal)
                if pace.spike and len(recent) >= ENOUGH:
                    limit = pace.spike * sum(recent) / len(recent)
                state, metrics = step_fn(state, batch, limit) if pace.spike else step_fn(state, batch)
                step += 1
                last = step == pace.steps
                if pace.due(pace.log, step) or last:
                    row = _numbers(metrics)
                    if step > start + 1 or last:  # speed is that of the steps after the one that was compiled
                        row |= clock.metrics()
                    row |= watch.metrics() if watch else {}
                    log.write(step, row)
                    line.update(step, row)
                    check(state, step)
                    recent.append(row["loss"])
                    clock.restart()
                elif step == start + 1:
                    jax.block_until_ready(state.step)
                    clock.restart()
                if step == start + 1:
                    line.compiled(step)
                if pace.due(pace.eval, step) or pace.due(pace.save, step):
                    check(state, step)
                if hosts.several() and pace.due(pace.save, step):
                    save(state, step)  # an evaluation that is not broken off may outlast the time a signal leaves
                if pace.due(pace.eval, step) or last:
                    assess(state, step)
                if pace.due(pace.save, step):
                    save(state, step)
            check(state, step)
            save(state, step)  # does nothing where the step is there
            if checkpoints is not None:
                checkpoints.wait()
            cut = (told or stop.signal) if step < pace.steps or unseen else 0
            if cut:
                what = "saved; the same command goes on from here" if checkpoints else "not saved"
                line.say(f"stopped at step {step} by {signal.Signals(cut).name}, {what}")
    finally:
        line.close()
        if tracer is not None:
            tracer.close()
    return state, cut


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in jax.device_get(metrics).items()}


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
