#!/usr/bin/env python3
"""Does a run of several processes survive whatever befalls it, and lose nothing?

Tiny steps in processes over loopback, first undisturbed, then with one fault after the other, each followed by the same
command again. At the end every array of the state must be what it is without, bit for bit, and so must every figure.

  python benchmarks/faults.py                          100 faults: most of an hour on two busy cores
  python benchmarks/faults.py --kills 6 --seed 1       one of each kind

Faults, in random order and at random steps; a third of the kills come in the seconds before the first step:
  kill all    SIGKILL for every process at once, as when the power goes
  kill one    SIGKILL for one; the others must see it and end
  stop        SIGTERM for one; all must save the same step and end with 143
  full disk   no file can grow beyond a random size (RLIMIT_FSIZE, set while the run is going on): for a writer the same
              as a disk that fills up or a quota that is used up, without needing a disk of one's own
  truncate    kill all; then the newest checkpoint has a file cut off at a random place
  flip        kill all; then the newest checkpoint has a bit of a file turned over

After each: has every process ended, and said why in one line? Is the newest complete checkpoint no older than before?
At each start: does it go on from that one, or, where that was damaged, say so and go on from the one before?

Columns: kind, faults, exit codes with how often each, longest seconds from the fault until all have ended.
The last line is JSON. Exits with 1 when anything was not as it must be.
"""

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import tyro

import abx
from abx.experiment.cli import fail
from abx.experiment.folder import load
from abx.log import read_metrics

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("kill all", "kill one", "stop", "full disk", "truncate", "flip")
PATIENCE = 60.0
"""Seconds within which all must have ended after a fault."""
AHEAD = 6
"""Steps after a start at which a fault comes, at most."""
# A state of some megabytes, for its files to be longer than metrics.jsonl: then it is they that a full disk hits.
SETTINGS = [
    "--method.backbone.width=64",
    "--method.backbone.depth=1",
    "--method.backbone.heads=2",
    "--method.backbone.mlp=128",
    "--method.backbone.size=16",
    "--method.hidden=256",
    "--method.embed=32",
    "--data.batch=8",
    "--data.views.size=16",
    "--data.workers=0",
    "--eval.every=0",
    "--log.every=1",
    "--ckpt.every=2",
    "--ckpt.keep=3",
    "--mesh.heartbeat=5",
    "--mesh.joining=30",
]


@dataclass(frozen=True)
class Bench:
    kills: int = 100
    """Number of faults."""
    seed: int = 0
    """Which faults, when and where."""
    processes: int = 2
    """Processes that train together."""
    json: bool = False
    """Print nothing but the line of JSON."""


@dataclass
class Life:
    """One start of all processes."""

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def said(self, i: int = 0) -> str:
        return self.logs[i].with_suffix(".out").read_text()

    def complained(self, i: int) -> str:
        return self.logs[i].with_suffix(".err").read_text()

    def began(self) -> int | None:
        """The step that it went on from; None when it did not come so far."""
        found = re.search(r": step (\d+) of", self.said())
        return int(found[1]) if found else None

    def over(self) -> bool:
        return any(each.poll() is not None for each in self.processes)

    def wait_for_steps(self, count: int) -> bool:
        """Until so many were made; whether they were."""
        until = time.monotonic() + 2 * PATIENCE
        while len(re.findall(r"^step \d+/", self.said(), re.M)) < count:
            if self.over() or time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def end(self) -> list[int | None]:
        """Exit codes; None for a process that had to be killed, because it was still there."""
        until, codes = time.monotonic() + PATIENCE, list[int | None]()
        for each in self.processes:
            try:
                codes.append(each.wait(max(until - time.monotonic(), 0.01)))
            except subprocess.TimeoutExpired:
                codes.append(None)
        self.kill()
        return codes

    def kill(self) -> None:
        for each in self.processes:
            each.kill()  # SIGTERM would only be noted
        for each in self.processes:
            each.wait()


@dataclass
class Story:
    """What has happened."""

    faults: Counter[str] = field(default_factory=Counter)
    codes: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    fallbacks: int = 0
    """Starts that went on from the checkpoint before the newest, which was damaged."""
    harmless: int = 0
    """Damages that did not touch what is read."""
    lost: int = 0
    """Steps from before the newest complete checkpoint that had to be made again, although it was not damaged."""
    wrong: list[str] = field(default_factory=list)


class Trial:
    """The disturbed run."""

    def __init__(self, bench: Bench, folder: Path, steps: int):
        self.bench, self.folder, self.steps = bench, folder, steps
        self.rng, self.story, self.starts = random.Random(bench.seed), Story(), 0
        self.damaged: int | None = None
        self.there: list[int] = []
        """Complete checkpoints before the last start."""

    def start(self, name: str) -> Life:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"), "JAX_PLATFORMS": "cpu"}
        cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        cache |= {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
        words = [*SETTINGS, f"--steps={self.steps}", f"--out={self.folder / name}"]
        words += [f"--mesh.coordinator=127.0.0.1:{port}", f"--mesh.processes={self.bench.processes}"]
        life, self.starts = Life([], []), self.starts + 1
        for i in range(self.bench.processes):
            log = self.folder / f"{name}-{self.starts}-{i}"
            with log.with_suffix(".out").open("w") as out, log.with_suffix(".err").open("w") as err:
                command = [sys.executable, str(ROOT / "recipes" / "simclr.py"), "smoke", *words, f"--mesh.process={i}"]
                life.processes.append(
                    subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **cache}, cwd=ROOT)
                )
            life.logs.append(log)
        return life

    def fault(self, kind: str) -> None:
        """One life, from a start to what ends it."""
        self.there = complete(self.folder / "faults")
        before, life = newest(self.folder / "faults"), self.start("faults")
        try:
            # After a damage the start has to be seen to the end, as it is what the damage is for.
            early = kind.startswith("kill") and self.damaged is None and self.rng.random() < 1 / 3
            if early:
                time.sleep(self.rng.uniform(0, 5))
            elif not life.wait_for_steps(self.rng.randint(1, AHEAD)):
                self.blame(kind, life, "did not train")
                return
            self.strike(kind, life)
            began = time.monotonic()
            codes = life.end()
            self.story.seconds[kind] = max(self.story.seconds[kind], time.monotonic() - began)
        finally:
            life.kill()
        self.story.faults[kind] += 1
        self.story.codes[kind].update(map(str, codes))
        self.check_start(kind, life, before, early)
        self.check_end(kind, life, codes, early)
        if (newest(self.folder / "faults") or 0) < (life.began() or 0):
            self.blame(kind, life, "the newest checkpoint is gone")
        if kind in ("truncate", "flip"):
            self.damage(kind)

    def strike(self, kind: str, life: Life) -> None:
        some = self.rng.choice(life.processes)
        if kind == "full disk":
            length = int(self.rng.uniform(0.05, 0.95) * max(map(size, files(self.folder / "faults")), default=10**5))
            for each in life.processes:
                if each.poll() is None:
                    resource.prlimit(each.pid, resource.RLIMIT_FSIZE, (length, resource.RLIM_INFINITY))
            return
        for each in [some] if kind in ("kill one", "stop") else life.processes:
            each.send_signal(signal.SIGTERM if kind == "stop" else signal.SIGKILL)

    def damage(self, kind: str) -> None:
        """Of the newest checkpoint, if there is another to go back to."""
        out = self.folder / "faults"
        if len(complete(out)) < 2:
            return
        path = self.rng.choice([file for file in files(out) if size(file)])
        data = bytearray(path.read_bytes())
        if kind == "truncate":
            del data[self.rng.randrange(len(data)) :]
        else:
            bit = self.rng.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        self.damaged = newest(out)

    def check_start(self, kind: str, life: Life, before: int | None, early: bool) -> None:
        """Where it went on from."""
        began, out = life.began(), self.folder / "faults"
        if began is None:
            if not early:
                self.blame(kind, life, "did not start")
            return
        said = all(f"going on from step {began}" in life.complained(i) for i in range(len(life.processes)))
        if self.damaged is not None and began != before:
            self.story.fallbacks += 1
            aside = list((out / "checkpoints").glob(f"broken-{before}*"))
            # By now so many may have been saved after it that it is gone.
            there = kind == "the end" or began in (0, *self.there)
            if not (said and aside and there) or began < self.damaged - 4:
                self.blame(kind, life, f"went on from {began} and not from {before}")
        elif began != (before or 0) or said:
            self.story.lost += max((before or 0) - began, 0)
            self.blame(kind, life, f"went on from {began} and not from {before}")
        else:
            self.story.harmless += self.damaged is not None
        self.damaged = None

    def check_end(self, kind: str, life: Life, codes: list[int | None], early: bool) -> None:
        """How each has ended, and whether it said why."""
        for i, code in enumerate(codes):
            text = life.complained(i)
            if code is None:
                self.blame(kind, life, f"process {i} was still there after {PATIENCE:.0f} s")
            elif kind == "stop" and code != 128 + signal.SIGTERM:
                self.blame(kind, life, f"process {i} ended with {code}")
            elif code != -signal.SIGKILL and kind in ("kill one", "full disk"):
                lines = [line for line in text.splitlines() if line.startswith("error: ")]
                if code == 0 or (len(lines) != 1 and not early):
                    self.blame(kind, life, f"process {i} ended with {code} and {len(lines)} lines of error")
            if "Traceback" in text:
                self.blame(kind, life, f"process {i} left a traceback")
        stopped = re.search(r"^stopped at step (\d+) by SIGTERM, saved", life.said(), re.M)
        if kind == "stop" and (stopped is None or int(stopped[1]) != newest(self.folder / "faults")):
            self.blame(kind, life, "did not save where it stopped")

    def blame(self, kind: str, life: Life, what: str) -> None:
        self.story.wrong.append(f"{kind}, start {self.starts}: {what}")
        for i in range(len(life.processes)):
            print(f"--- {self.story.wrong[-1]}; process {i}\n{life.complained(i)[-3000:]}", file=sys.stderr, flush=True)


def complete(out: Path) -> list[int]:
    """Steps of the checkpoints that were finished."""
    return sorted(int(path.name) for path in (out / "checkpoints").glob("*") if path.name.isdigit())


def newest(out: Path) -> int | None:
    return max(complete(out), default=None)


def files(out: Path) -> list[Path]:
    """Of the newest checkpoint."""
    return sorted(path for path in (out / "checkpoints" / str(newest(out))).rglob("*") if path.is_file())


def size(path: Path) -> int:
    return path.stat().st_size


def figures(out: Path) -> list[str]:
    """metrics.jsonl without the speed."""
    rows = read_metrics(out / "metrics.jsonl")
    return [json.dumps({k: v for k, v in row.items() if not k.startswith("speed/")}) for row in rows]


def different(out: Path, other: Path) -> list[str]:
    """The arrays of two final states that are not the same, bit for bit."""
    states = [jax.tree_util.tree_leaves_with_path(load(run)[1]) for run in (out, other)]
    same = lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype) and np.asarray(x).tobytes() == np.asarray(y).tobytes()
    return [jax.tree_util.keystr(path) for (path, x), (_, y) in zip(*states, strict=True) if not same(x, y)]


def whole(trial: Trial, name: str, damaged: int | None = None) -> None:
    """Start and come to the end; what was damaged last has to be noticed here, too."""
    before, life = newest(trial.folder / name), trial.start(name)
    try:
        codes = [each.wait(3600) for each in life.processes]
    finally:
        life.kill()
    if any(codes):
        trial.blame("the end", life, f"ended with {codes}")
    if damaged is not None:
        trial.check_start("the end", life, before, early=False)


def measure(bench: Bench, folder: Path) -> dict[str, object]:
    trial = Trial(bench, folder, steps=40 + bench.kills * (AHEAD + 2))
    whole(trial, "undisturbed")
    kinds: list[str] = []
    while len(kinds) < bench.kills:
        kinds += trial.rng.sample(KINDS, len(KINDS))
    began = time.monotonic()
    for i, kind in enumerate(kinds[: bench.kills]):
        trial.fault(kind)
        if not bench.json:
            print(
                f"{i + 1:4d}  {time.monotonic() - began:6.0f} s  {kind:9}  step {newest(folder / 'faults')}", flush=True
            )
    whole(trial, "faults", damaged=trial.damaged)
    story, runs = trial.story, (folder / "undisturbed", folder / "faults")
    arrays = different(*runs) if not any("the end" in line for line in story.wrong) else ["not known"]
    return {
        "faults": sum(story.faults.values()),
        "processes": bench.processes,
        "steps": trial.steps,
        "by_kind": {k: {"count": story.faults[k], "codes": story.codes[k], "seconds": story.seconds[k]} for k in KINDS},
        "fallbacks": story.fallbacks,
        "harmless_damages": story.harmless,
        "steps_lost": story.lost,
        "arrays_that_differ": arrays,
        "figures_equal": figures(runs[0]) == figures(runs[1]),
        "wrong": story.wrong,
        "seconds": time.monotonic() - began,
        "device": jax.devices()[0].device_kind,
        "abx": abx.__version__,
        "jax": jax.__version__,
    }


def main(bench: Bench) -> None:
    problems = [f"--kills must be at least 1, not {bench.kills}"] if bench.kills < 1 else []
    if bench.processes < 2:
        problems.append(f"--processes must be at least 2, not {bench.processes}")
    if problems:
        fail(problems)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(bench, Path(folder))
    if not bench.json:
        print(f"\n{'':9}  {'faults':>6}  {'seconds':>7}  exit codes")
        for kind, found in row["by_kind"].items():  # type: ignore[attr-defined]
            codes = "  ".join(f"{code} x {n}" for code, n in sorted(found["codes"].items()))
            print(f"{kind:9}  {found['count']:6}  {found['seconds']:7.1f}  {codes}")
    print(json.dumps(row))
    if row["wrong"] or row["arrays_that_differ"] or not row["figures_equal"] or row["steps_lost"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
