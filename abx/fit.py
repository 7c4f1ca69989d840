"""The loop around the step: data in, metrics out, checkpoints now and then, and a clean way to stop."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from abx import parallel
from abx.checkpoint import Checkpoints
from abx.data.loader import Loaded
from abx.log import MetricsLog, ProgressLine
from abx.train import Step, TrainState

Evaluate = Callable[[TrainState], dict[str, float]]


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
    open_stream: Callable[[int], Any],
    *,
    mesh: Mesh,
    pace: Pace,
    log: MetricsLog,
    checkpoints: Checkpoints | None = None,
    evaluate: Evaluate | None = None,
    watch: Watch | None = None,
    meta: Callable[[], Mapping[str, Any]] = dict,
    score: str = "eval/knn_top1",
) -> tuple[TrainState, bool]:
    """Train from `state.step` to `pace.steps`; returns the last state and whether the run is complete.

    Args:
        step_fn: as `train.make_step` makes it; donates its state.
        open_stream: step -> context manager of an iterator of `Loaded`, beginning with the batch of that step.
        evaluate: figures of a state, asked before the first step, every `pace.eval` and after the last.
        watch: sees each batch on the host, e.g. to count rejected records.
        meta: asked at each save for what is kept beside the state.
        score: the metric by which the best checkpoint is kept; higher is better.

    SIGINT and SIGTERM finish the step that is running, save and return; a second SIGINT interrupts at once.
    """
    start = int(state.step)
    line, clock = ProgressLine(pace.steps, start), Clock(pace.views_per_step)
    scores: dict[str, float] = {}

    def assess(state: TrainState, step: int) -> None:
        if evaluate is None or not pace.eval:
            return
        scores.clear()
        scores.update(evaluate(state))
        log.write(step, scores)
        shown = [k for k in ("eval/knn_top1", "eval/attentive_top1", "value/accuracy", "value/explained") if k in scores]
        line.say(f"step {step}: " + "  ".join(f"{k} {scores[k]:.3f}" for k in shown))

    def save(state: TrainState, step: int) -> None:
        if checkpoints is not None:
            checkpoints.save(step, state, meta(), scores.get(score))

    try:
        with stop_on_signal() as stopped, open_stream(start) as batches:
            if start == 0:
                assess(state, 0)
            clock.restart()
            step = start
            while step < pace.steps and not stopped():
                with clock.waiting():
                    loaded = next(batches)
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
                    row |= clock.metrics() | (watch.metrics() if watch else {})
                    log.write(step, row)
                    line.update(step, row)
                    clock.restart()
                if pace.due(pace.eval, step) or last:
                    with clock.stopped():
                        assess(state, step)
                if pace.due(pace.save, step) or last:
                    with clock.stopped():
                        save(state, step)
                        scores.clear()
            if step < pace.steps:
                save(state, step)
                line.say(f"stopped at step {step} and saved; the same command goes on from here")
    finally:
        line.close()
        if checkpoints is not None:
            checkpoints.wait()
    return state, step == pace.steps


class Clock:
    """Time since the last log, without evaluations and saves, and the share of it spent waiting for data."""

    def __init__(self, views_per_step: int):
        self.views_per_step = views_per_step
        self.restart()

    def restart(self) -> None:
        self.began, self.away, self.waited, self.steps = time.monotonic(), 0.0, 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
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


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """While inside, SIGINT and SIGTERM set a flag instead of raising; a second SIGINT raises."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and signal.SIGINT in seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, as in some notebooks: then signals are the caller's
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
