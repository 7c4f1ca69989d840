"""The command line of a recipe: a preset, flags, and every mistake at once before a device is touched."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from abx.complaints import parsed
from abx.data.sources import SpecError
from abx.experiment.config import Recipe
from abx.experiment.helping import arranged, parts
from abx.experiment.joining import alone, join, withdraw
from abx.experiment.planning import stand_in
from abx.experiment.saved import flat, to_json
from abx.nearest import hint, unknown
from abx.signals import end_on_interrupt

R = TypeVar("R", bound=Recipe)
INTERRUPTED = "interrupted; the same command goes on from the newest checkpoint, if there is one"


def cli(name: str, doc: str, presets: Mapping[str, R], argv: Sequence[str] | None = None) -> None:
    """`recipes/NAME.py [PRESET] [--flags]`: parse, check, run. The first preset is the default.

    Exits with 2 and one sentence per problem when something cannot be.
    """
    args = [re.sub(r"^--mesh(?==|$)", "--mesh.kind", arg) for arg in (sys.argv[1:] if argv is None else argv)]
    first = next(iter(presets))
    preset = args.pop(0) if args and not args[0].startswith("-") else first
    if preset not in presets:
        fail([f"there is no preset {preset!r}{hint(preset, presets) or '; there are ' + ', '.join(presets)}"])
    default = replace(presets[preset], out=Path("runs") / f"{name}-{preset}")
    before, notes = parts(doc)
    usage = f"{before}\n\nThe defaults below are those of the preset {preset}; flags of daily use come first."
    prog = f"{name}.py {preset}"
    try:
        with arranged(notes):
            recipe, left = parsed(
                type(default), default=default, args=args, prog=prog, description=usage, return_unknown_args=True
            )
    except BrokenPipeError:
        _nobody_reads()
    recipe, problems = _sized(recipe, default), unknown(left, flags(default), presets)
    if problems := problems + recipe.problems():
        try:
            fail(problems)
        finally:
            withdraw(recipe)
    try:
        # Of several processes one that ends tells the others, see `hosts.together`.
        with end_on_interrupt(INTERRUPTED) if alone(recipe) else nullcontext():
            # Only now, so that --help and a wrong flag answer at once.
            from abx.experiment.run import run

            if recipe.dry_run:
                stand_in(recipe.plan.machine())
            else:
                join(recipe)
            run(recipe)
    except SpecError as wrong:
        fail([str(wrong)])
    except KeyboardInterrupt:
        print(f"\n{INTERRUPTED}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        if not recipe.dry_run:
            raise
        _nobody_reads()


def _sized(recipe: R, preset: R) -> R:
    """With the numbers that --size stands for, unless some of them were given as well."""
    if recipe.size and recipe.backbone != preset.backbone:
        given, found = flat(to_json(recipe.backbone)), flat(to_json(preset.backbone))
        for name in ("width", "depth", "heads", "mlp"):
            if given[name] != found[name]:
                fail([f"--size {recipe.size} says what the backbone's {name} is; give one of the two"])
    return recipe.sized()


def fail(problems: Sequence[str]) -> NoReturn:
    """Each problem on a line of its own to stderr, exit code 2. A sentence begins with the flag to change."""
    for problem in problems:
        print(f"error: {as_typed(problem)}", file=sys.stderr)
    raise SystemExit(2)


def as_typed(sentence: str) -> str:
    """A sentence that names flags by their fields, with hyphens in them for underscores."""
    return re.sub(r"(?<!\S)--[a-z][\w.]*", lambda flag: flag[0].replace("_", "-"), sentence)


def _nobody_reads() -> NoReturn:
    """The end of `--help | head`: what Python still wants to flush goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def flags(recipe: Any) -> list[str]:
    """Every flag of a recipe, or of a probe, as it is typed."""
    found = []
    for path, value in flat(to_json(recipe)).items():
        if path.rpartition(".")[2] != "class":
            found.append("--" + path.replace("_", "-"))
        if isinstance(value, bool):
            group, dot, field = path.replace("_", "-").rpartition(".")
            found.append(f"--{group}{dot}no-{field}")
    return found
