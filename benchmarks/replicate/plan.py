"""From a row, a budget and data to commands: the recipe's, and its probes'."""

import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax

from abx.analysis.cost import step_flops
from abx.analysis.paper import Column
from abx.data.streams import views_per_step
from abx.experiment import Recipe
from abx.experiment.saved import flat, from_json, to_json
from abx.probes.named import shards
from benchmarks.replicate.budgets import Budget
from benchmarks.replicate.row import Row
from benchmarks.replicate.rows import BY_NAME
from benchmarks.replicate.standins import StandIns

ROOT = Path(__file__).parents[2]
STREAMS = {"slip": "pairs", "silc": "pairs", "ab_clip": "reward"}
"""Streams whose pictures have texts, where it is not the only one."""


class Measured(NamedTuple):
    """A call of the probe."""

    kind: str
    probes: tuple[str, ...]
    command: tuple[str, ...]


class Plan(NamedTuple):
    """What a row is for one seed."""

    out: Path
    steps: int
    views: int
    """In a step."""
    train: tuple[str, ...]
    """The recipe's command line, without the interpreter."""
    probes: tuple[Measured, ...]


def plan(row: Row, budget: Budget, data: StandIns, seed: int, out: Path) -> Plan:
    """Raises: ValueError, with what is wrong with the row's flags."""
    words = [*own_flags(row, budget, data), "--seed", str(seed), "--out", str(out)]
    recipe = parse(row.recipe, budget.preset, words)
    if problems := recipe.problems():
        raise ValueError(f"{row.name}: {'; '.join(problems)}")
    script = str(ROOT / "recipes" / f"{row.recipe}.py")
    probes = tuple(_measured(kind, names, row, budget, data, seed, out) for kind, names in wanted(row, budget).items())
    return Plan(out, recipe.steps, views_per_step(recipe.data), (script, budget.preset, *words), probes)


def wanted(row: Row, budget: Budget) -> dict[str, tuple[str, ...]]:
    """Tasks, and the probes for each, that the columns of its tables ask for."""
    found: dict[str, dict[str, None]] = {kind: {"decoder": None} for kind in row.kinds}
    for place in row.places:
        for column in place.block.columns:
            for kind, probe in asked(column):
                if probe != "finetune" or budget.finetune:
                    found.setdefault(kind, {})[probe] = None
    if not row.places and "classification" in found:  # beside the decoder what is cheap and has less noise
        found["classification"] |= dict.fromkeys(row.beside)
    return {kind: tuple(probes) for kind, probes in found.items()}


def asked(column: Column) -> list[tuple[str, str]]:
    """Kinds of tasks, and probes, of a column that other data can stand in for."""
    known = {"classification", "objects", "detection", "count", "distance", "action"}
    return [(each.kind, each.probes[0]) for each in column.measures if each.kind in known and _measurable(each.task)]


def _measurable(task: str) -> bool:
    """Nothing stands in for VISOR's boxes."""
    return not task.startswith("visor")


def network(row: Row) -> str:
    """Which of the two is measured."""
    return "target" if row.recipe in ("dino", "ab_dino") else "online"


@cache
def own_flags(row: Row, budget: Budget, data: StandIns) -> tuple[str, ...]:
    """All flags of a row's recipe but --seed and --out."""
    numbers = flat(to_json(_presets(row.recipe)[budget.preset]))
    words = [*_data_flags(row, data), *row.flags]
    for flag, factor in row.scaled:
        number = numbers[flag.replace("-", "_")]
        words += [f"--{flag}", str(type(number)(factor * number))]
    if row.length == "reward":
        whole = flat(to_json(_presets(BY_NAME[row.like].recipe)[budget.preset]))
        words += ["--data.batch", str(whole["data.reward_batch"])]
    steps = _steps(row, budget, data, words)
    classes = data.asked("classification")
    words += ["--steps", str(steps), "--eval.every", str(-(-steps // budget.evals))]
    if network(row) == "target" and "--ema.tau" not in words and 2 * steps < numbers["steps"]:
        # It is the target network that is measured, and it would still be the untrained one.
        words += ["--ema.tau", f"{1 - (1 - numbers['ema.tau']) ** (numbers['steps'] / steps):.3g}"]
    words += [word for name in ("train", "test") for word in (f"--eval.{name}-images", str(budget.images))]
    if classes.train:
        words += ["--eval.train", classes.train, "--eval.test", classes.test]
    elif not classes.task.startswith("scenes"):
        folder = classes.task.partition(":")[2]
        words += ["--eval.train", shards(folder, "train"), "--eval.test", shards(folder, "val")]
    else:
        words += ["--eval.train", "scenes", "--eval.test", "scenes:test"]
    every = max(1, min(1000, -(-steps // 4)))
    words += ["--ckpt.keep", "1", "--ckpt.no-keep-best", "--ckpt.every", str(every)]
    if row.value and budget.kept:  # of those that are written
        words += ["--ckpt.keep-every", str(every * -(-steps // (budget.kept * every)))]
    words += ["--log.every", str(max(1, min(50, steps // 20)))]
    return tuple(words)


def _steps(row: Row, budget: Budget, data: StandIns, words: Sequence[str]) -> int:
    recipe = parse(row.recipe, budget.preset, words)
    if row.length == "views":
        views = budget.views or recipe.steps * views_per_step(recipe.data)
        return max(2, round(row.share * views / views_per_step(recipe.data)))
    like = BY_NAME[row.like]
    flags = own_flags(like, budget, data)
    steps = int(flags[flags.index("--steps") + 1])
    if row.length == "reward":
        return steps
    return max(2, round(steps * _flops(parse(like.recipe, budget.preset, flags)) / _flops(recipe)))


def _flops(recipe: Recipe) -> int:
    return step_flops(recipe.method, jax.eval_shape(recipe.data.blank))


def _data_flags(row: Row, data: StandIns) -> list[str]:
    if row.value:
        words = ["--data.reward", data.spec(row.reward), "--data.value", data.spec(row.value)]
    else:
        flag = "--data.pairs" if row.recipe in ("slip", "silc") else "--data.train"
        words = [flag, data.spec(row.reward)]
    if not row.texts:
        return words
    stream = STREAMS.get(row.recipe)
    text = f"--data.{stream}-text" if stream else "--data.text"
    words += [f"{text}.kind", row.texts]
    tokenizer = data.tokenizer() or "scenes"
    tower = "--method.base.text" if row.recipe.startswith("ab_") else "--method.text"
    return [*words, f"{text}.tokenizer", tokenizer, f"{tower}.vocab", str(_size(tokenizer))]


@cache
def _size(tokenizer: str) -> int:
    from abx.data.texts import Texts

    return Texts(tokenizer=tokenizer).vocabulary_size


def _measured(
    kind: str, names: tuple[str, ...], row: Row, budget: Budget, data: StandIns, seed: int, out: Path
) -> Measured:
    probe = str(ROOT / "recipes" / "probe.py")
    words = [probe, budget.preset, "--run", str(out), "--network", network(row), "--seed", str(seed)]
    own = budget.detection if kind == "detection" else budget.probe
    return Measured(kind, names, (*words, "--probes", *names, *data.asked(kind).flags(), *own))


def parse(name: str, preset: str, words: Sequence[str]) -> Recipe:
    """As the recipe's command line reads them, but in a millisecond; what a row needs no more than values and pairs.

    Raises: ValueError for a flag that is not there.
    """
    tree = to_json(_presets(name)[preset])
    words = list(words)
    while words:
        flag = words.pop(0)
        *groups, field = flag.removeprefix("--").replace("-", "_").split(".")
        node = tree
        for group in groups:
            node = node[group] if isinstance(node.get(group), dict) else {}
        if field.removeprefix("no_") != field and isinstance(node.get(field.removeprefix("no_")), bool):
            node[field.removeprefix("no_")] = False
        elif isinstance(node.get(field), bool):
            node[field] = True
        elif isinstance(node.get(field), list):
            node[field] = [type(old)(words.pop(0)) for old in node[field]]
        elif flag.startswith("--") and isinstance(node.get(field), int | float | str):
            node[field] = type(node[field])(words.pop(0))
        else:
            raise ValueError(f"{name} has no flag {flag}")
    recipe = from_json(tree)
    assert isinstance(recipe, Recipe)
    return recipe


def _presets(name: str) -> dict[str, Recipe]:
    return _module(name).PRESETS


@cache
def _module(name: str) -> ModuleType:
    """recipes/NAME.py, without running it."""
    spec = spec_from_file_location(f"replicated_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
