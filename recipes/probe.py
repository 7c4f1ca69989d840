#!/usr/bin/env python3
r"""Probes: how good are the features of a network? Every column of the tables.

Ghosh & Levine 2025 (arXiv 2506.11967), Tables 1 to 6.

Usage: python recipes/probe.py [smoke|small|paper] [flags]
  python recipes/probe.py --run runs/ab_simclr-smoke
      k-NN, linear, attentive and decoder probe on drawn scenes
  python recipes/probe.py --run none --init ViT-S/16 --task scenes-count \
      --probes decoder
      an untrained network, for comparison
  python recipes/probe.py small --run RUN --task classification \
      --train folder:pets/train --test folder:pets/test --json
      your own pictures, a sub-folder for each class
  python recipes/probe.py paper --run RUN --network target \
      --task imagenet:DATA/imagenet --probes linear map decoder finetune
      a row of Table 1

The backbone is frozen (but for finetune). Its features are computed once for
all probes and kept under $ABX_CACHE, so that another probe costs seconds.
A training that was cut short goes on with the same command.

What comes out, in the folder of the run or --out:
  results.jsonl   a line for each probe: figures, and how they were measured
  probes/         checkpoints of trained probes

Presets say how long probes are trained:
  smoke  minutes on a CPU, and a small decoder
  small  tens of thousands of pictures
  paper  the sizes of the paper where it says any, else of MAE and pix2seq

Our inference, where the paper is silent or contradicts itself:
  - all but finetune train on features of one view of each picture, without
    augmentation: central crops, or for objects the whole picture squeezed
  - the decoder's width, its training and its vocabulary (METHODS 5.2)
"""

from abx.experiment.probe import main
from abx.experiment.probing import PRESETS

__all__ = ["PRESETS"]

if __name__ == "__main__":
    main("probe.py", __doc__)
