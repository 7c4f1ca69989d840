"""`python -m benchmarks.replicate`: runs rows within a time; `... report`: puts them beside the paper's."""

import json
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from platform import node
from typing import Any, Literal

import jax
import tyro

from abx.cli.errors import fail
from abx.data.sources import SpecError
from abx.data.tokenizers.base import BadTokenizer
from abx.experiment.config import unwritable
from abx.experiment.saved import write_json
from benchmarks.replicate.budgets import BUDGETS
from benchmarks.replicate.curves import draw
from benchmarks.replicate.jobs import job
from benchmarks.replicate.making import make
from benchmarks.replicate.plan import ROOT
from benchmarks.replicate.report import as_json, collect
from benchmarks.replicate.row import Row
from benchmarks.replicate.rows import BY_NAME, matching
from benchmarks.replicate.running import process, work
from benchmarks.replicate.standins import MADE, StandIns
from benchmarks.replicate.told import markdown, summary

KEPT = "replicate.json"
"""What all runs in a folder have in common."""


@dataclass(frozen=True)
class Replicate:
    """Run rows of a small replication of the paper, one after another, within a time. The same command goes on where it
    stopped: what is finished is not done again.

    First all rows with seed 0, then with seed 1, and so on. Each is a run of a recipe and its probes; what it says goes
    to log.txt in its folder.

    Usage: python -m benchmarks.replicate [--flags]
      python -m benchmarks.replicate --list
      python -m benchmarks.replicate --rows 'imagenet/*simclr' --minutes 20
      python -m benchmarks.replicate report
    """

    budget: Literal["tiny", "laptop", "small", "paper"] = "tiny"
    """tiny: 6,144 views a row, to see that everything works; laptop: 65,536 views a row, a dozen rows in an hour on two
    cores; small: 20 million views a row, an accelerator; paper: ViT-S/16, 224 pixels, 800 million views a row."""
    rows: tuple[str, ...] = ("*",)
    """Which rows, by name or pattern: 'imagenet/*', '*/ab_clip', 'controls/*'. In quotes, as shells read them too. All
    but the variants of AB in 'tried/*', which only their own names run."""
    minutes: float = 60.0
    """How long to work. Every row and seed gets an equal share; what one does not need goes to the others."""
    in_order: bool = False
    """Finish each row before the next one, in place of equal shares."""
    together: int = 1
    """How many rows run at once. On CPUs as many as there are cores; an accelerator is for one."""
    seeds: int = 0
    """How many seeds of each row; 0 = as the budget says: tiny 1, laptop 2, small and paper 3."""
    views: int = 0
    """How many views a row sees, in place of the budget's; 0 = as the budget says."""
    data: Path | None = None
    """Folder of the small sets that stand in for the paper's data, see docs/replication.md. Without, all is drawn
    (`scenes`): everything runs, and rows that differ in their data alone are alike."""
    out: Path = Path("runs/replicate")
    """Folder for runs, made data and the report."""
    list: bool = False
    """Name the rows, and what of them is finished, and stop."""
    json: bool = False
    """Also print one JSON object, on the last line: {"finished": [...], "left": [...], "failed": {...}}."""

    def __call__(self) -> None:
        replicate(self)


@dataclass(frozen=True)
class ReportOf:
    """Put what was run beside the paper's figures: report.md, report.json and curves.png, in the same folder. Needs no
    accelerator; what is missing is marked.

    Usage: python -m benchmarks.replicate report [--out FOLDER]
    """

    out: Path = Path("runs/replicate")
    """Folder that the runs were written to."""
    json: bool = False
    """Also print report.json, on the last line."""

    def __call__(self) -> None:
        report(self)


def main(args: list[str]) -> None:
    verb: Any = ReportOf if args[:1] == ["report"] else Replicate
    prog = "python -m benchmarks.replicate" + (" report" if verb is ReportOf else "")
    tyro.cli(verb, args=args[verb is ReportOf :], prog=prog)()


def replicate(verb: Replicate) -> None:
    rows, unknown = matching(verb.rows)
    if unknown:
        near = get_close_matches(unknown[0], list(BY_NAME), n=1)
        fail(f"--rows: no row is called {unknown[0]}; " + (f"did you mean {near[0]}?" if near else "--list names all"))
    for name, least in (("minutes", 0), ("together", 1), ("seeds", 0), ("views", 0)):
        if not (value := getattr(verb, name)) >= least:
            fail(f"--{name} must be at least {least}, not {value}")
    if verb.data is not None and not verb.data.is_dir():
        fail(f"--data {verb.data} is no folder")
    if sentence := unwritable(verb.out):
        fail(f"--out {verb.out}: {sentence}")
    # This process only counts: the accelerator is for those that it starts.
    environment = dict(os.environ)
    jax.config.update("jax_platforms", "cpu")
    budget = BUDGETS[verb.budget]
    budget = budget._replace(views=verb.views or budget.views)
    data = verb.data.resolve() if verb.data else None
    out = verb.out.resolve()
    standins = StandIns(data, out / MADE)
    seeds = range(verb.seeds or budget.seeds)
    if verb.list:
        print("\n".join(_listed(row, out) for row in rows))
        return
    _settle(verb, out, data)
    try:
        make(standins, budget.vocabulary)
    except (SpecError, BadTokenizer) as wrong:
        fail(f"--data {verb.data}: {wrong}")
    jobs = [job(row, budget, standins, seed, out) for seed in seeds for row in rows]
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    environment.setdefault("ABX_CACHE", str(out / "cache"))
    # Most rows share their probes, and many a step. By machine: what was compiled for one CPU may not run on another.
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "cache" / f"compiled-{node()}"))
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if budget.xla:
        environment.setdefault("XLA_FLAGS", budget.xla)
    say = lambda sentence: print(sentence, flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        run, seconds, began = process(environment, ROOT), 60 * verb.minutes, time.monotonic()
        try:
            done = work(jobs, seconds, run, in_order=verb.in_order, together=verb.together, say=say)
        finally:
            _spent(out, time.monotonic() - began)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    except ValueError as wrong:  # a row that this budget or this data cannot be
        fail(str(wrong))
    print(f"{len(done.finished)} of {len(jobs)} finished")
    if done.left:
        print(f"{len(done.left)} left, with which the same command goes on: {', '.join(done.left)}")
    for name, why in done.failed.items():
        print(f"{name} failed: {why}")
    if verb.json:
        print(json.dumps(done._asdict()))
    if done.failed:
        raise SystemExit(1)


def _listed(row: Row, out: Path) -> str:
    """A line: name, what of the paper it stands for, seeds that are there."""
    stands = ", ".join(f"Table {place.table}" for place in row.places) or row.name.split("/")[0].replace(
        "figure", "Figure "
    )
    trained = len(list((out / row.name).glob("seed-*/final.json")))
    return f"{row.name:<40}{stands:<20}" + (f"{trained} trained" if trained else "")


def _settle(verb: Replicate, out: Path, data: Path | None) -> None:
    """Exits with 2 where the folder holds runs of another budget or other data: they could not be compared."""
    views = verb.views or BUDGETS[verb.budget].views
    mine, path = {"budget": verb.budget, "views": views, "data": str(data) if data else ""}, out / KEPT
    if path.exists():
        there = json.loads(path.read_text())
        for name, value in mine.items():
            if there.get(name) != value:
                fail(f"--out {verb.out} holds runs with --{name} {there.get(name) or 'none'}; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    # Folders are a machine's own, and a report is for everyone.
    own = [("--rows", "" if verb.rows == ("*",) else " ".join(map(shlex.quote, verb.rows))), ("--views", verb.views)]
    own += [("--seeds", verb.seeds), ("--together", verb.together if verb.together > 1 else 0)]
    flags = [f"--budget {verb.budget}", *(f"{flag} {value}" for flag, value in own if value)]
    flags += ["--in-order"] * verb.in_order + ["--data DATA"] * (verb.data is not None)
    command = " ".join(["python -m benchmarks.replicate", *flags])
    before = json.loads(path.read_text()) if path.exists() else {"commands": []}
    write_json(path, {**before, **mine, "commands": list(dict.fromkeys([*before["commands"], command]))})


def _spent(out: Path, seconds: float) -> None:
    """Note how long it worked, in all goes together."""
    kept = json.loads((out / KEPT).read_text())
    write_json(out / KEPT, kept | {"minutes": kept.get("minutes", 0) + seconds / 60})


def report(verb: ReportOf) -> None:
    if not (verb.out / KEPT).exists():
        fail(f"--out {verb.out} holds no replication: python -m benchmarks.replicate --out {verb.out} begins one")
    jax.config.update("jax_platforms", "cpu")
    try:
        runs = collect(verb.out)
    except SpecError as wrong:
        fail(str(wrong))
    about = _about(verb.out)
    write_json(verb.out / "report.json", found := as_json(runs, about))
    (verb.out / "report.md").write_text(markdown(found))
    footer = "; ".join(f"{name} {said}" for name, said in about.items() if said)
    draw(verb.out, runs, footer).save(verb.out / "curves.png")
    print(summary(found))
    print(f"{len(runs)} of {len(runs) + len(found['missing'])} rows have results")
    print("\n".join(f"written: {verb.out / name}" for name in ("report.md", "report.json", "curves.png")))
    if verb.json:
        print(json.dumps(found))


def _about(out: Path) -> dict[str, str]:
    """How it was made: budget, data, command, devices and versions of all runs, days."""
    kept = json.loads((out / KEPT).read_text())
    devices, versions, days = dict[str, None](), dict[str, None](), set[str]()
    for path in sorted(out.glob("*/*/seed-*/environment.json")):
        said = json.loads(path.read_text())
        devices[f"{len(said['devices'])} x {said['devices'][0]}"] = None
        versions[f"Python {said['python']}, jax {said['packages']['jax']}, abx {said['abx']}"] = None
        days.add(f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}")
    return {
        "budget": kept["budget"],
        "views a row": f"{kept['views'] or 800_000_000:,}",
        "data": "stand-ins from a folder" if kept["data"] else "drawn scenes for everything",
        "command": "; ".join(kept["commands"]),
        "time": f"{kept['minutes']:.0f} minutes" if "minutes" in kept else "",
        "devices": "; ".join(devices),
        "versions": "; ".join(versions),
        "begun": " to ".join(sorted({min(days), max(days)})) if days else "",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
