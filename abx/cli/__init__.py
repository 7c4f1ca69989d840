"""The console script `abx`: verbs over runs and networks, over data and over tokenizers."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import tyro

import abx
from abx.cli.analyse import Analyse, Targets
from abx.cli.doctor import Doctor
from abx.cli.embed import Embed
from abx.cli.explore import Explore
from abx.cli.export import Export
from abx.cli.listing import Runs
from abx.cli.neighbours import Neighbours
from abx.cli.parsing import parse
from abx.cli.pca import PCA
from abx.cli.plot import Plot
from abx.cli.runs import Replay, Report, ValueMap
from abx.cli.table import Table
from abx.cli.verify import VerifyResume


@dataclass(frozen=True)
class Data:
    """Prepare data sets, look at data, index it, check that two machines see the same: abx data --help."""


@dataclass(frozen=True)
class Tokenizer:
    """Make a vocabulary for texts, look at what a tokenizer does: abx tokenizer --help."""


@dataclass(frozen=True)
class Probe:
    """Measure features of a network: k-NN, linear, attentive, decoder, fine-tuning, ...: abx probe --help."""


Verb = (
    Annotated[Runs, tyro.conf.subcommand("runs")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[ValueMap, tyro.conf.subcommand("value-map")]
    | Annotated[Explore, tyro.conf.subcommand("explore")]
    | Annotated[Analyse, tyro.conf.subcommand("analyse")]
    | Annotated[Targets, tyro.conf.subcommand("targets")]
    | Annotated[Replay, tyro.conf.subcommand("replay")]
    | Annotated[VerifyResume, tyro.conf.subcommand("verify-resume")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Table, tyro.conf.subcommand("table")]
    | Annotated[Embed, tyro.conf.subcommand("embed")]
    | Annotated[PCA, tyro.conf.subcommand("pca")]
    | Annotated[Neighbours, tyro.conf.subcommand("neighbours")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Tokenizer, tyro.conf.subcommand("tokenizer")]
)

ABOUT = """Annotation bootstrapping: look at runs and at data.

Runs are made by recipes, e.g. python recipes/ab_simclr.py; see recipes/*.py.

Examples:
  abx runs
  abx report runs/ab_simclr-smoke
  abx plot runs/simclr-smoke runs/ab_simclr-smoke --smooth 0.9
  abx value-map runs/ab_simclr-smoke picture.jpg --out map.png
  abx explore runs/ab_simclr-smoke --sample 3 --out explorer.html
  abx explore runs/ab_simclr-smoke picture.jpg
  abx analyse runs/ab_simclr-smoke --figure 4right 9 --out figures
  abx targets runs/ab_simclr-smoke --out targets.html
  abx replay runs/ab_simclr-smoke
  abx verify-resume ab_simclr --workers 0 2
  abx probe --run runs/ab_simclr-smoke
  abx table runs/simclr-small runs/ab_simclr-small
  abx embed runs/ab_simclr-smoke --data folder:~/Pictures --out features.npz
  abx embed runs/ab_simclr-smoke --features both --limit 100 --out tokens.npz
  abx pca runs/ab_simclr-smoke --data folder:~/Pictures --out pca.png
  abx neighbours runs/ab_simclr-smoke --data folder:~/Pictures --queries 12
  abx export runs/ab_simclr-smoke --out model.safetensors
  abx export runs/ab_simclr-smoke --format timm --out timm.safetensors
  abx pca none --init model.safetensors --out imported.png
  abx doctor --data folder:~/Pictures
  abx data inspect folder:~/Pictures
  abx data prepare --help
  abx tokenizer train 'tar:shards/*.tar' --out my.model
  abx --version"""


def main(argv: Sequence[str] | None = None) -> None:
    """Exits with 2 and one sentence when something cannot be."""
    try:
        try:
            _main(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has had enough, as in abx ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _main(argv: Sequence[str] | None) -> None:
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--version"]:
        print(f"abx {abx.__version__}")
        return
    if args[:1] == ["probe"]:
        from abx.cli import probe  # as data below

        probe.run(args[1:])
        return
    if args[:1] == ["data"]:
        from abx.cli import data  # it takes a second, which the other verbs need not wait for

        # A verb's flags are its own: --n, not --views.n.
        config = (tyro.conf.OmitArgPrefixes,)
        parse(data.Verb, args[1:], "abx data", data.ABOUT, config)()
        return
    if args[:1] == ["tokenizer"]:
        from abx.cli import tokenizer

        parse(tokenizer.Verb, args[1:], "abx tokenizer", tokenizer.ABOUT)()
        return
    # What follows -- is for the recipe.
    end = args.index("--") if args[:1] == ["verify-resume"] and "--" in args else len(args)
    verb = parse(Verb, args[:end], "abx", ABOUT)
    assert not isinstance(verb, Probe | Data | Tokenizer)
    if isinstance(verb, VerifyResume):
        verb = replace(verb, flags=tuple(args[end + 1 :]))
    verb()
