"""Jobs in turn, within a time: what is finished is not done again, what was cut short goes on."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple, Protocol

GRACE = 180.0
"""Seconds that a stopped job has to write its checkpoint; then it is killed, and goes on from the one before."""
LEAST = 45.0
"""Seconds of a turn, at least: a start alone takes half of that."""
ROUNDS_WITHOUT = 3
"""Turns in a row after which a job that has not got further is given up."""


class Job(NamedTuple):
    """A row with one seed."""

    name: str
    left: Callable[[], Sequence[Sequence[str]]]
    """Commands that are still to do, by what lies in its folder; none when it is finished."""
    progress: Callable[[], object] = lambda: None
    """Differs when it has got further."""
    log: Path = Path("job.log")


class Runner(Protocol):
    def __call__(self, job: Job, commands: Sequence[Sequence[str]], seconds: float, stop: threading.Event) -> int:
        """Does the commands, or stops them so that they can go on when the seconds are over or `stop` is set.

        Returns: the exit code; below 0 or above 127 where a signal has stopped it.
        """


class Outcome(NamedTuple):
    finished: list[str]
    left: list[str]
    """Not finished when the time was over."""
    failed: dict[str, str]
    """By name, why."""


def work(
    jobs: Sequence[Job],
    seconds: float,
    run: Runner,
    *,
    in_order: bool = False,
    together: int = 1,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """All jobs, each with an equal share of the time that is left: one that needs more goes on in the next round, with
    what others did not need.

    Args:
        in_order: each gets all the time that is left, until it is finished.
        together: how many go on at once, each in a thread that waits for it. All end when one is interrupted.
    """
    end, finished, failed = clock() + seconds, list[str](), dict[str, str]()
    queue, idle = deque[Job](), dict[str, int]()
    lock, stop = threading.Lock(), threading.Event()
    for job in jobs:
        if job.left():
            queue.append(job)
        else:
            finished.append(job.name)

    def turns() -> None:
        while not stop.is_set():
            with lock:
                if not queue or (rest := end - clock()) <= 0:
                    return
                job = queue.popleft()
                others = (len(queue) + together) / together
                turn = rest if in_order else min(rest, max(LEAST, rest / others))
                before, commands = job.progress(), job.left()
                say(f"{job.name}: for up to {turn / 60:.1f} minutes ({len(queue)} more wait)")
            code = run(job, commands, turn, stop)
            with lock:
                settle(job, code, before)

    def settle(job: Job, code: int, before: object) -> None:
        if not job.left():
            finished.append(job.name)
        elif 0 < code < 128:
            failed[job.name] = f"ended with code {code}: {_last(job.log)}"
            say(f"{job.name}: {failed[job.name]}")
        else:
            idle[job.name] = 0 if job.progress() != before else idle.get(job.name, 0) + 1
            if code == 0:
                failed[job.name] = f"ended well and left something undone; see {job.log}"
            elif idle[job.name] >= ROUNDS_WITHOUT:
                failed[job.name] = f"got no further in {ROUNDS_WITHOUT} turns; give it more --minutes or --in-order"
            else:
                queue.append(job)

    with ThreadPoolExecutor(together) as threads:
        started = [threads.submit(turns) for _ in range(together)]
        try:
            for each in wait(started, return_when=FIRST_EXCEPTION).done:
                each.result()
        except BaseException:  # Ctrl-C, a signal: nothing is left behind that goes on writing
            stop.set()
            raise
    order = {job.name: i for i, job in enumerate(jobs)}
    return Outcome(finished, sorted((job.name for job in queue), key=order.__getitem__), failed)


def process(environment: Mapping[str, str], root: Path) -> Runner:
    """In a process of its own, what it says going to the job's log. It is told to stop by SIGTERM."""

    def run(job: Job, commands: Sequence[Sequence[str]], seconds: float, stop: threading.Event) -> int:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "benchmarks.replicate.job", json.dumps([list(each) for each in commands])]
        with job.log.open("ab") as log:
            started = subprocess.Popen(
                line, stdout=log, stderr=subprocess.STDOUT, env=dict(environment), cwd=root, start_new_session=True
            )
            end = time.monotonic() + seconds
            while (rest := end - time.monotonic()) > 0 and not stop.is_set():
                try:
                    return started.wait(min(rest, 0.5))
                except subprocess.TimeoutExpired:
                    continue
            return _stopped(started)

    return run


def _stopped(started: "subprocess.Popen[bytes]") -> int:
    started.send_signal(signal.SIGTERM)
    try:
        code = started.wait(GRACE)
    except subprocess.TimeoutExpired:
        started.kill()
        code = started.wait()
    return code or -signal.SIGTERM


def _last(log: Path) -> str:
    """The last thing that was said."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it said nothing"
    return lines[-1] if lines else "it said nothing"
