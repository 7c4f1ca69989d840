"""What runs are called beside each other."""

from collections.abc import Sequence
from pathlib import Path

from abx.cli.errors import fail


def labels(runs: Sequence[Path]) -> list[str]:
    """The folders' own names; where two have one name, as many of those above as tell all apart."""
    parts = [run.resolve().parts for run in runs]
    if len(set(parts)) < len(parts):
        twice = next(run for run, part in zip(runs, parts, strict=True) if parts.count(part) > 1)
        fail(f"{twice} is given twice")
    depth = next(n for n in range(1, 100) if len({part[-n:] for part in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]
