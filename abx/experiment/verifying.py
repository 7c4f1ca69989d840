"""Is a run that was killed and started again the run that never stopped? Tried out with a recipe, in processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import abx
from abx.data.sources import SpecError
from abx.experiment.certificate import Certificate, Restart
from abx.experiment.comparing import compare, sha256
from abx.experiment.folder import load
from abx.experiment.planning import Machine, stand_in
from abx.train import TrainState

SET = ("steps", "out", "resume", "no-resume", "force", "dry-run", "ckpt.every", "data.workers")
"""Flags of a recipe that are not for whoever asks."""
POLL = 0.003
"""Seconds between two looks for a checkpoint: a small model makes many steps in a tenth of a second."""
GRACE = 10.0
"""Seconds in which what a killed run had started ends by itself. Its resource tracker must be let: it is what removes
the batches of the workers from shared memory."""


@dataclass(frozen=True)
class Trial:
    """What is tried."""

    script: Path
    """Of the recipe."""
    preset: str
    steps: int
    """At which the run is interrupted; it has twice as many."""
    workers: tuple[int, ...]
    """Numbers of workers. The run that never stops has the first; with each a run is killed, to go on with the next."""
    flags: tuple[str, ...]
    """More flags of the recipe."""
    folder: Path
    """For the runs."""

    def problems(self) -> list[str]:
        """What cannot be, each with the flag to change."""
        found = []
        if self.steps < 2:
            found.append(f"--steps must be at least 2, not {self.steps}")
        if not self.workers or min(self.workers) < 0:
            found.append(f"--workers must be one number or more, none below 0, not {' '.join(map(str, self.workers))}")
        given = {word.partition("=")[0].replace("_", "-") for word in self.flags if word.startswith("--")}
        return found + [
            f"--{name} is not for you to give: it is part of the trial" for name in SET if f"--{name}" in given
        ]

    def command(self, out: Path, workers: int, every: int) -> list[str]:
        """Of a run that saves whenever it has made so many more steps; 0 = at its end."""
        # The schedules are stretched to --steps, so that must be the same for all.
        ours = {"steps": 2 * self.steps, "out": out, "ckpt.every": every, "data.workers": workers}
        words = [str(word) for name, value in ours.items() for word in (f"--{name}", value)]
        return [sys.executable, str(self.script), self.preset, "--eval.every", "0", *self.flags, *words]


def find_script(name: str) -> Path:
    """A path as it is, or the script of a recipe's name, below the current folder or beside the package.

    Raises: SpecError, with the nearest name there is.
    """
    if Path(name).is_file():
        return Path(name)
    folders = [Path("recipes"), Path(abx.__file__).parent.parent / "recipes"]
    # probe.py trains no run.
    there = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.py") if path.stem != "probe"}
    if name in there:
        return there[name]
    near = get_close_matches(Path(name).stem, there, n=1)
    known = f"there are {', '.join(sorted(there))}" if there else "give the path of a recipe's script"
    raise SpecError(f"there is no recipe {name!r}; {f'did you mean {near[0]}?' if near else known}")


def verify(trial: Trial, say: Callable[[str], None]) -> Certificate:
    """Train once without a stop, and for each number of workers once with; compare the last states.

    Args:
        say: told what is going on.

    Raises: SpecError where a run cannot be started, ends early, or is over too soon to be killed.
    """
    trial.folder.mkdir(parents=True, exist_ok=True)
    straight, first = trial.folder / "straight", trial.workers[0]
    say(f"{2 * trial.steps} steps straight, {first} workers")
    # It does not even save on the way: that must change nothing either.
    _to_the_end(trial.command(straight, first, 0), straight)
    broken = []
    # Once each, if a number is given twice.
    for before, after in dict.fromkeys(zip(trial.workers, [*trial.workers[1:], first], strict=True)):
        out = trial.folder / f"restarted-{before}-{after}"
        say(f"{2 * trial.steps} steps, killed on the way, {before} workers before and {after} after")
        at, every = _interrupted(trial, out, before)
        began = _to_the_end(trial.command(out, after, every), out)
        broken.append((out, (before, after), at, began))
    # The runs are over, but their device may be busy with others, and to read needs none.
    stand_in(Machine(1, False, 0.0))
    wanted, digests = _last(trial, straight), _digests(straight)
    restarts = tuple(
        Restart(workers, at, began, compare(wanted, _last(trial, out)), _digests(out) == digests)
        for out, workers, at, began in broken
    )
    surroundings = json.loads((straight / "environment.json").read_text())
    command = trial.command(Path("OUT"), first, trial.steps)[1:]
    return Certificate(command, trial.steps, sha256(wanted), restarts, surroundings)


def _interrupted(trial: Trial, out: Path, workers: int) -> tuple[int, int]:
    """Start a run and kill it when the checkpoint in the middle is whole.

    Returns: the step of the newest whole checkpoint, and the steps between two.
    """
    # A run whose second half is shorter than a look for the checkpoint is over before it is killed. Then once more,
    # killed at its first checkpoint: to save after each step, which waits for the save before, takes long enough.
    for every in (trial.steps, 1):
        shutil.rmtree(out, ignore_errors=True)
        with _started(trial.command(out, workers, every), out) as process:
            while process.poll() is None and _newest(out) < every:
                time.sleep(POLL)
            ended = process.poll()
        if ended:
            raise SpecError(_why(ended, out))
        if 0 < (at := _newest(out)) < 2 * trial.steps:
            return at, every
    raise SpecError("the run was over before it could be killed: give more --steps")


def _to_the_end(command: Sequence[str], out: Path) -> int:
    """Run it; the step that it began with."""
    with _started(command, out) as process:
        process.wait()
    if process.returncode:
        raise SpecError(_why(process.returncode, out))
    began = re.findall(r": step (\d+) of \d+", _log(out).read_text())
    return int(began[-1]) if began else -1


@contextmanager
def _started(command: Sequence[str], out: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is gone at the end of the block, with all that it had started; killed, if it still runs."""
    with _log(out).open("ab") as log:
        # A group of its own, by which its workers are found; Ctrl-C does not reach it, and is heeded here.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        until = time.monotonic() + GRACE
        with suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)


def _newest(out: Path) -> int:
    """Step of the newest checkpoint that is whole, 0 = none: a folder has its name only then."""
    return max((int(path.name) for path in (out / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def _last(trial: Trial, out: Path) -> TrainState:
    _, state = load(out)
    if int(state.step) != 2 * trial.steps:
        raise SpecError(f"the newest checkpoint of {out} that can be read is that of step {int(state.step)}")
    return state


def _digests(out: Path) -> object:
    return json.loads((out / "final.json").read_text())["params_sha256"]


def _log(out: Path) -> Path:
    return out.with_suffix(".log")


def _why(code: int, out: Path) -> str:
    """Why a run ended early, in its own words."""
    lines = [line for line in _log(out).read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[-1:]
    return f"the recipe ended with code {code}: {'; '.join(said) or 'it said nothing'}"
