"""The real thing: a recipe in processes of its own, killed at random moments; what comes out is as if it never was."""

import json
import os
import random
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs import command, environment

from abx.log import read_lines


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@dataclass
class Life:
    """One start of the recipe, as a session of its own, so that its workers can be found and killed with it."""

    process: subprocess.Popen
    out: Path
    log: Path
    newest: int
    """Step of the newest checkpoint that was there when it began."""

    def said(self) -> str:
        return self.log.with_suffix(".out").read_text()

    def complained(self) -> str:
        return self.log.with_suffix(".err").read_text()

    def wait_for_steps(self, more: int = 1, timeout: float = 120) -> None:
        """Until it has made so many steps."""
        until = time.monotonic() + timeout
        while len(re.findall(r"^step \d+/", self.said(), re.M)) < more and self.process.poll() is None:
            assert time.monotonic() < until, self.said() + self.complained()
            time.sleep(0.01)

    def signal(self, number: int, group: bool = True) -> int:
        """Sends a signal to it, or to it and its workers; returns how it ended. Nothing of it may be left."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.end()

    def end(self, timeout: float = 120) -> int:
        code = self.process.wait(timeout)
        until = time.monotonic() + 10
        while left := in_session(self.process.pid):
            assert time.monotonic() < until, f"processes left behind: {left}"
            time.sleep(0.05)
        return code

    def check(self) -> None:
        """It began where the newest checkpoint was, and had nothing to complain about."""
        began = re.search(r": step (\d+) of", self.said())
        assert began is None or int(began[1]) == self.newest, self.said()
        assert "Traceback" not in self.complained(), self.complained()
        assert "not whole" not in self.complained()


def in_session(leader: int) -> list[str]:
    """Command lines of the processes of a session that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return found


def newest(out: Path) -> int:
    return max((int(p.name) for p in (out / "checkpoints").glob("*") if p.name.isdigit()), default=0)


class Runs:
    """Starts lives of one run, and makes sure that none is left when the test ends."""

    def __init__(self, recipe: str, folder: Path, cache: Path, steps: int):
        self.recipe, self.folder, self.cache, self.steps, self.lives = recipe, folder, cache, steps, []

    def start(self, name: str, workers: int) -> Life:
        out, log = self.folder / name, self.folder / f"{name}-{len(self.lives)}"
        before = newest(out)
        with log.with_suffix(".out").open("w") as said, log.with_suffix(".err").open("w") as complained:
            process = subprocess.Popen(
                command(self.recipe, out, self.steps, workers),
                stdout=said,
                stderr=complained,
                env=environment(self.cache),
                cwd=self.folder,
                start_new_session=True,
            )
        self.lives.append(Life(process, out, log, before))
        return self.lives[-1]

    def whole(self, name: str, workers: int = 0) -> dict:
        """Start and let it come to its end; returns final.json."""
        life = self.start(name, workers)
        assert life.end(600) == 0, life.complained()
        life.check()
        return json.loads((life.out / "final.json").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for life in self.lives:
            if in_session(life.process.pid):
                os.killpg(life.process.pid, signal.SIGKILL)
            life.process.wait()


def figures(out: Path) -> list[dict]:
    """The rows of metrics.jsonl without the speed; every line must be whole."""
    rows = read_lines(out / "metrics.jsonl")
    assert len(rows) == (out / "metrics.jsonl").read_text().count("\n")
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in rows]


def compare(whole: dict, pieced: dict, folder: Path) -> None:
    assert pieced["params_sha256"] == whole["params_sha256"]
    assert pieced["step"] == whole["step"]
    assert [row["step"] for row in figures(folder / "pieced")] == list(range(1, whole["step"] + 1))
    assert figures(folder / "pieced") == figures(folder / "whole")


def kill_at_random(runs: Runs, kills: int, rng: random.Random) -> None:
    """Every fourth in the first seconds, the others while it trains and saves; 0 and 2 workers in turn."""
    for i in range(kills):
        life = runs.start("pieced", workers=2 * (i % 2))
        if i % 4 == 3:
            time.sleep(rng.uniform(0.0, 4.0))
        else:
            life.wait_for_steps(rng.randint(4, 24))
            time.sleep(rng.uniform(0.0, 0.2))
        assert life.process.poll() is None, f"it came to its end before kill {i + 1}; more steps!"
        assert life.signal(signal.SIGKILL) == -signal.SIGKILL
        life.check()


@pytest.mark.whole
def test_killed_twice_and_told_to_stop(tmp_path, cache):
    """The short form of the test below; then SIGTERM for everyone in the group, as from a cluster."""
    with Runs("simclr", tmp_path, cache, 60) as runs:
        whole = runs.whole("whole")
        kill_at_random(runs, 2, random.Random(0))
        life = runs.start("pieced", 2)
        life.wait_for_steps(3)
        assert life.signal(signal.SIGTERM) == 128 + signal.SIGTERM, life.complained()
        life.check()
        stopped = re.search(r"^stopped at step (\d+) by SIGTERM, saved; the same command goes on", life.said(), re.M)
        assert stopped, life.said()
        assert int(stopped[1]) == newest(life.out)
        assert not (life.out / "final.json").exists()
        assert newest(life.out) > 8
        compare(whole, runs.whole("pieced"), tmp_path)


@pytest.mark.whole
def test_workers_do_not_outlive_the_program(tmp_path, cache):
    """kill -9 of the training process alone, which then can tell its workers nothing: they must see for themselves."""
    with Runs("simclr", tmp_path, cache, 60) as runs:
        life = runs.start("pieced", 2)
        life.wait_for_steps(2)
        life.signal(signal.SIGKILL, group=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_twenty_kills_in_a_row(tmp_path, cache, seed):
    with Runs("ab_simclr", tmp_path, cache, 500) as runs:
        whole = runs.whole("whole", workers=2)
        kill_at_random(runs, 20, random.Random(seed))
        compare(whole, runs.whole("pieced"), tmp_path)
        began = [life.newest for life in runs.lives[1:]]
        print("the newest checkpoint at each start:", began)
        assert len(set(began)) >= 12, "killed so early that there was nothing to resume from"
