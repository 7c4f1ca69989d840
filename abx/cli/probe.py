"""`abx probe`: the same as recipes/probe.py, where only the package is installed."""

from collections.abc import Sequence

from abx.experiment.probe import main

ABOUT = """Probes: how good are the features of a network? Every column of the paper's tables.

Examples:
  abx probe --run runs/ab_simclr-smoke
  abx probe --run none --init ViT-S/16 --task scenes-count --probes decoder
  abx probe small --run RUN --task classification --train folder:pets/train --test folder:pets/test --json
  abx probe paper --run RUN --network target --task imagenet:DIR --probes linear map decoder

Results are added to results.jsonl in the run's folder, or in --out; the same command again goes on where it stopped."""


def run(argv: Sequence[str]) -> None:
    main("abx probe", ABOUT, argv)
