#!/usr/bin/env python3
r"""SimCLR: two augmented views of an image find each other in the batch.

Chen et al. 2020. The baseline of AB over SimCLR, at equal views.

Ghosh & Levine 2025 (arXiv 2506.11967), SimCLR in Tables 1, 2, 3 and 6.

Usage: python recipes/simclr.py [smoke|small|paper] [flags]
  python recipes/simclr.py
      built-in pictures; two to three minutes on a 2-core CPU
  python recipes/simclr.py small --data.train folder:~/Pictures
      your own pictures, with or without labels
  python recipes/simclr.py small \
      --data.train 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
      WebDataset shards, and labelled ones to test on
  python recipes/simclr.py paper --data.train folder:imagenet/train --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/simclr-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Presets:
  smoke  drawn scenes, 32-pixel views, a backbone of 0.5 M parameters: to see
         that it works
  small  your own pictures, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 4096 images x 2 views a step.
         2.2e19 FLOPs: 15 hours on an H200 at 40 % of its peak (computed)

ImageNet top-1 in the paper (Table 1):
  linear 66.2, attentive 69.7, decoder 71.4, fine-tuned 76.8;

decoder probe, pre-training on CC12M (Table 2):
  ImageNet 67.3, mean of four other sets 79.0, CLEVR depth 76.5, count 89.4;

on COCO (Table 3):
  ImageNet 55.0, COCO detection 20.5, object classes 69.7.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - LayerNorm in the projection head, where SimCLR has BatchNorm
  - weight decay from 0.04 to 0.4 (A-33); warm-up of 3128 steps: ten epochs of
    ImageNet, counted in images (A-21)
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import PairData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import SimCLR
from abx.nn import ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class SimCLRRecipe(Recipe):
    method: SimCLR = field(default_factory=SimCLR)
    data: PairData = field(default_factory=PairData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


PRESETS = {
    "smoke": SimCLRRecipe(
        method=SimCLR(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32), hidden=256, embed=64, photometric=GENTLE
        ),
        data=PairData(batch=128, views=RandomCrops(n=2, size=32, scale=(0.2, 1.0))),
        steps=300,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=150, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": SimCLRRecipe(
        method=SimCLR(ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48), hidden=512, embed=128),
        data=PairData(batch=256, views=RandomCrops(n=2, size=48, scale=(0.2, 1.0))),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": SimCLRRecipe(
        method=SimCLR(ViTConfig(remat="full")),  # without recomputation the backward pass keeps over a terabyte
        optim=AdamW(warmup=3128 / 97_656),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("simclr", __doc__, PRESETS)
