#!/usr/bin/env python3
r"""DINO: from small views of an image, say what a lagging copy says of large.

Caron et al. 2021. The baseline of AB over DINO, at equal views.

Ghosh & Levine 2025 (arXiv 2506.11967), DINO in Tables 1, 2, 3 and 6, and in
  Figures 3 and 4 (middle).

Usage: python recipes/dino.py [smoke|small|paper] [flags]
  python recipes/dino.py
      built-in pictures; two to three minutes on a 2-core CPU
  python recipes/dino.py small --data.train folder:~/Pictures
      your own pictures, with or without labels
  python recipes/dino.py small \
      --data.train 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
      WebDataset shards, and labelled ones to test on
  python recipes/dino.py paper --data.train folder:imagenet/train --dry-run
      what the paper's run would take
  python recipes/dino.py paper \
      --data.train '0.25*folder:imagenet/train + 0.75*folder:coco/train'
      a mixture of which a fraction is ImageNet (Figure 3)
  python recipes/dino.py paper --data.train folder:imagenet/train \
      --data.views.overlap 6
      views that lie near each other, each alone as likely as ever; below 0,
      far from each other (Figure 4 middle)

The same command again goes on where it stopped.

What comes out, in runs/dino-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Words:
  prototype   one of the directions that views are sorted by
  target      the distribution over prototypes that the lagging copy gives a
              large view

Presets:
  smoke  drawn scenes, 2 views of 32 and 4 of 16 pixels, 512 prototypes, a
         backbone of 0.5 M parameters: to see that it works
  small  your own pictures, 2 views of 48 and 6 of 24 pixels, 4096 prototypes,
         a backbone of 1.2 M parameters; one accelerator or a patient CPU
  paper  ViT-S/16, 2 views of 224 and 8 of 96 pixels, 65,536 prototypes, 800 M
         views, 1024 images x 10 views a step. 9.0e18 FLOPs: 6 hours on an
         H200 at 40 % of its peak (computed)

ImageNet top-1 in the paper (Table 1):
  linear 68.9, attentive 70.9, decoder 72.7, fine-tuned 79.7;

decoder probe, pre-training on CC12M (Table 2):
  ImageNet 68.9, mean of four other sets 80.9, CLEVR depth 79.3, count 87.6;

on COCO (Table 3):
  ImageNet 51.0, COCO detection 21.0, object classes 66.9.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - 65,536 prototypes, not trained in the first epoch of ImageNet (1251 steps);
    a target temperature from 0.04 to 0.07 over a tenth of the run (A-34)
  - prototypes of a learned length, as DINO advises for a ViT-S; by default 1
  - warm-up of 12,511 steps: ten epochs, counted in images (A-21)
  - local views of 0.05 to 0.4 of the area, where Table 7 has 0.05 to 0.04
    (A-32)
  - no stochastic depth, as Table 7 has none; DINO itself leaves out branches
    of its online network: --method.backbone.drop-path 0.1 (A-49)
  - the features are the mean of the tokens; DINO itself has a token for them:
    --method.backbone.pool token (A-27)
  - the gradient is clipped to a norm of 1 as a whole, not by parameter (A-22)
  - looked at while training is the online network, not its copy (A-26)
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import MultiCropData
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import DINO
from abx.nn import ViTConfig
from abx.optim import EMA, AdamW

EPOCH = 1251
"""Steps in which 1024 images at a time make one epoch of ImageNet."""


@dataclass(frozen=True)
class DINORecipe(Recipe):
    method: DINO = field(default_factory=DINO)
    data: MultiCropData = field(default_factory=MultiCropData)
    steps: int = 78_125
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


PRESETS = {
    "smoke": DINORecipe(
        method=DINO(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
            prototypes=512,
            hidden=256,
            bottleneck=64,
            teacher_temperature=0.04,
            global1=GENTLE,
            global2=GENTLE,
            local=GENTLE,
        ),
        data=MultiCropData(
            batch=64,
            views=MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(4, 16, (0.1, 0.4))),
        ),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05, clip=1.0),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": DINORecipe(
        method=DINO(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
            prototypes=4096,
            hidden=512,
            bottleneck=128,
            teacher_temperature=0.04,
        ),
        data=MultiCropData(
            batch=128,
            views=MultiCrops(RandomCrops(2, 48, (0.4, 1.0)), RandomCrops(6, 24, (0.1, 0.4))),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05, clip=1.0),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": DINORecipe(
        # Without recomputation the backward pass of 10,240 views keeps hundreds of gigabytes.
        method=DINO(
            ViTConfig(remat="full"),
            norm_last_layer=False,
            temperature_warmup=78_125 // 10,
            freeze_prototypes=EPOCH,
        ),
        optim=AdamW(lr_end=1e-6, warmup=12_511 / 78_125, clip=1.0),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("dino", __doc__, PRESETS)
