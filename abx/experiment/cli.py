"""The command line of a recipe: a preset, flags, and every mistake at once before a device is touched."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import tyro

from abx.data.sources import SpecError
from abx.experiment.config import Recipe

R = TypeVar("R", bound=Recipe)


def cli(name: str, doc: str, presets: Mapping[str, R], argv: Sequence[str] | None = None) -> None:
    """`recipes/NAME.py [PRESET] [--flags]`: parse, check, run. The first preset is the default.

    Exits with 2 and one sentence per problem when something cannot be.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    first = next(iter(presets))
    preset = args.pop(0) if args and not args[0].startswith("-") else first
    if preset not in presets:
        near = get_close_matches(preset, presets, n=1)
        fail([f"there is no preset {preset!r}" + (f"; did you mean {near[0]}?" if near else "") + f" {tuple(presets)}"])
    default = replace(presets[preset], out=Path("runs") / f"{name}-{preset}")
    usage = f"{doc.strip()}\n\nDefaults below are those of the preset {preset!r}; presets: {', '.join(presets)}."
    recipe = tyro.cli(type(default), default=default, args=args, prog=f"{name}.py {preset}", description=usage)
    if problems := recipe.problems():
        fail(problems)
    # Only now, so that --help and a wrong flag answer at once.
    from abx.experiment.run import run

    try:
        run(recipe)
    except SpecError as wrong:
        fail([str(wrong)])


def fail(problems: Sequence[str]) -> None:
    """Each problem on a line of its own to stderr, exit code 2."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(2)
