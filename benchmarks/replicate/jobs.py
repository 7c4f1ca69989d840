"""What of a row and a seed is still to do, told by what lies in its folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from abx.data.sources import SpecError
from abx.experiment.results import read_results
from abx.experiment.rows import FILE
from benchmarks.replicate.budgets import Budget
from benchmarks.replicate.plan import Plan, plan
from benchmarks.replicate.row import Row
from benchmarks.replicate.running import Job
from benchmarks.replicate.standins import StandIns


def job(row: Row, budget: Budget, data: StandIns, seed: int, out: Path) -> Job:
    folder = out / row.name / f"seed-{seed}"
    found: list[Plan] = []

    def left() -> Sequence[Sequence[str]]:
        if not found:  # not before its turn: counting the FLOPs of a control takes seconds
            found.append(plan(row, budget, data, seed, folder))
        return to_do(found[0])

    return Job(f"{row.name} seed {seed}", left, lambda: _progress(folder), folder / "log.txt")


def to_do(planned: Plan) -> list[tuple[str, ...]]:
    """The recipe's command unless it has ended, and those of probes that lack a result of the last step."""
    commands = [] if ended(planned) else [planned.train]
    have = _measured(planned.out, planned.steps) if not commands else set()
    for each in planned.probes:
        task = each.command[each.command.index("--task") + 1].partition(":")[0]
        if lacking := [probe for probe in each.probes if (probe, task) not in have]:
            at = each.command.index("--probes") + 1
            commands.append((*each.command[:at], *lacking, *each.command[at + len(each.probes) :]))
    return commands


def ended(planned: Plan) -> bool:
    try:
        return int(json.loads((planned.out / "final.json").read_text())["step"]) == planned.steps
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _measured(folder: Path, step: int) -> set[tuple[str, str]]:
    """Probes and tasks with a result of that step."""
    try:
        rows = read_results(folder / FILE)
    except SpecError:
        return set()
    return {(row["probe"], row["task"].partition(":")[0]) for row in rows if row.get("step") == step}


def _progress(folder: Path) -> object:
    """The newest checkpoint of the run, the results, and the newest checkpoints of probes."""
    saved = sorted(str(path) for path in folder.glob("checkpoints/*")) + sorted(map(str, folder.glob("probes/*/*/*")))
    results = folder / FILE
    return saved, results.stat().st_size if results.exists() else 0, (folder / "final.json").exists()
