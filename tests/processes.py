"""One run in several processes over loopback, each with one CPU device and in a session of its own."""

import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runs import command, environment

HEARTBEAT = 5


@dataclass
class Process:
    popen: subprocess.Popen
    log: Path
    """What it says is in .out, what it complains of in .err."""

    def said(self) -> str:
        return self.log.with_suffix(".out").read_text()

    def complained(self) -> str:
        return self.log.with_suffix(".err").read_text()

    def errors(self) -> list[str]:
        return [line for line in self.complained().splitlines() if line.startswith("error:")]


@dataclass
class Group:
    """The processes of one start."""

    processes: list[Process]
    out: Path

    def __getitem__(self, i: int) -> Process:
        return self.processes[i]

    def wait_for_steps(self, more: int = 3, timeout: float = 300) -> None:
        """Until so many steps were made."""
        until = time.monotonic() + timeout
        while len(re.findall(r"^step \d+/", self[0].said(), re.M)) < more:
            assert all(each.popen.poll() is None for each in self.processes), self.story()
            assert time.monotonic() < until, self.story()
            time.sleep(0.01)

    def end(self, timeout: float = 300) -> list[int]:
        """The exit codes. Which end later than that are killed: SIGTERM would only be noted."""
        until = time.monotonic() + timeout
        try:
            return [each.popen.wait(max(until - time.monotonic(), 0.01)) for each in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {timeout} s:\n{self.story()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        for each in self.processes:
            try:
                os.killpg(each.popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            each.popen.wait()

    def story(self) -> str:
        """For a test that has failed: everything that was said."""
        parts = [f"{p.log.name}: {p.popen.poll()}\n{p.said()}{p.complained()}" for p in self.processes]
        return "\n".join(parts)


class Groups:
    """Starts one after the other, and leaves none behind."""

    def __init__(self, folder: Path, cache: Path, recipe: str = "simclr", steps: int = 60):
        self.folder, self.cache, self.recipe, self.steps = folder, cache, recipe, steps
        self.started: list[Group] = []

    def start(self, name: str, *more: str, count: int = 2, each: dict[int, tuple[str, ...]] | None = None) -> Group:
        """`each`: flags of single processes. One of `count` 1 is no group and finds nobody."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes, out = [], self.folder / name
        for i in range(count):
            words = list(more) + list((each or {}).get(i, ()))
            if count > 1:
                words += ["--mesh.coordinator", f"127.0.0.1:{port}", "--mesh.processes", str(count)]
                words += ["--mesh.process", str(i), "--mesh.heartbeat", str(HEARTBEAT)]
            log = self.folder / f"{name}-{len(self.started)}-{i}"
            here = self.folder / f"machine-{i}"
            here.mkdir(exist_ok=True)
            with log.with_suffix(".out").open("w") as said, log.with_suffix(".err").open("w") as complained:
                popen = subprocess.Popen(
                    command(self.recipe, out, self.steps, 0, "--ckpt.every", "6", "--ckpt.keep", "100", *words),
                    stdout=said,
                    stderr=complained,
                    env=environment(self.cache),
                    cwd=here,
                    start_new_session=True,
                )
            processes.append(Process(popen, log))
        self.started.append(Group(processes, out))
        return self.started[-1]

    def whole(self, name: str, *more: str, count: int = 2) -> Group:
        """Start and come to the end."""
        group = self.start(name, *more, count=count)
        assert group.end() == [0] * count, group.story()
        return group

    def __enter__(self) -> "Groups":
        return self

    def __exit__(self, *error: object) -> None:
        for group in self.started:
            group.kill()
