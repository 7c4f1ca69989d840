"""The console script `abx`: verbs over runs and over data."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

import abx
from abx.cli.data import Data
from abx.cli.runs import Report, ValueMap

Verb = (
    Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[ValueMap, tyro.conf.subcommand("value-map")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)

ABOUT = """Annotation bootstrapping: look at runs and at data.

Runs are made by recipes, e.g. python recipes/ab_simclr.py; see recipes/*.py.

Examples:
  abx report runs/ab_simclr-smoke
  abx value-map runs/ab_simclr-smoke picture.jpg --out map.png
  abx data inspect folder:~/Pictures
  abx data prepare --help
  abx --version"""


def main(argv: Sequence[str] | None = None) -> None:
    """Exits with 2 and one sentence when something cannot be."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--version"]:
        print(f"abx {abx.__version__}")
        return
    if not args or args == ["data"]:
        args.append("--help")
    # A verb's flags are its own: --out, not --verb.out.
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    verb: Report | ValueMap | Data = tyro.cli(Verb, args=args, prog="abx", description=ABOUT, config=config)
    verb()
