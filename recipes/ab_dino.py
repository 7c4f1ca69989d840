#!/usr/bin/env python3
r"""Annotation bootstrapping over DINO: value learning on unlabelled crops.

Ghosh & Levine 2025 (arXiv 2506.11967), AB_DINO in Tables 1, 2, 3 and 6, and in
  Figures 3 and 4 (middle).

Usage: python recipes/ab_dino.py [smoke|small|paper] [flags]
  python recipes/ab_dino.py
      built-in pictures; two to three minutes on a 2-core CPU
  python recipes/ab_dino.py small \
      --data.reward folder:~/Pictures --data.value folder:~/Pictures
      your own pictures, with or without labels
  python recipes/ab_dino.py small --data.reward 'tar:train-*.tar' \
      --data.value 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
      WebDataset shards, and labelled ones to test on
  python recipes/ab_dino.py paper --data.reward folder:imagenet/train \
      --data.value folder:imagenet/train --dry-run
      what the paper's run would take
  python recipes/ab_dino.py paper --data.reward folder:imagenet/train \
      --data.value folder:coco/train
      decoupled: prototypes from one set, moves in another (Table 3 below the
      line, Figure 3)
  python recipes/ab_dino.py paper --data.reward folder:imagenet/train \
      --data.value folder:imagenet/train --data.value-batch 2560 \
      --data.value-views.n 2 --data.value-views.overlap 6
      value views that lie near each other, each alone as likely as ever;
      below 0, far from each other (Figure 4 middle)

The same command again goes on where it stopped.

What comes out, in runs/ab_dino-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  value_map.png   what moving about a picture is worth
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Words:
  view        what the network sees of an image: a crop
  annotation  what a view is scored against; here one of DINO's prototypes
  reward      how well a view fits each prototype, says DINO's lagging copy
  value       the reward to expect in another crop, given only its box

Presets:
  smoke  drawn scenes, reward views of 32 and 16 pixels, value views of 32, 512
         prototypes, a backbone of 0.5 M parameters: to see that it works
  small  your own pictures, views of 48 and 24 pixels, 4096 prototypes, a
         backbone of 1.2 M parameters; one accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views and local ones of 96, 65,536 prototypes,
         800 M views, 10,240 views a step: 512 reward images x 10 + 1280 value
         images x 4. 2.1e19 FLOPs: 14 hours on an H200 at 40 % of its peak
         (computed)

ImageNet top-1 in the paper (Table 1):
  linear 67.2, attentive 73.1, decoder 74.8, fine-tuned 80.3;

decoder probe, pre-training on CC12M (Table 2):
  ImageNet 70.6, mean of four other sets 82.2, CLEVR depth 80.4, count 89.9;

on COCO (Table 3), and below the line with prototypes from ImageNet:
  ImageNet 58.6 and 65.2, COCO detection 26.1 and 31.0, object classes 72.8
  and 78.8.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - the reward is the distribution that DINO trains against: centered, at the
    target temperature (A-6)
  - the value head has vectors of its own for the prototypes, 256 wide (A-7)
  - the value loss is summed over prototypes, averaged over images and pairs
    (A-1)
  - how the views are shared out: as in DINO, 10,240 a step, half to each side.
    Table 7 says 8192, which --data.value-batch 768 --steps 97656
    --method.base.temperature-warmup 9766 makes (A-20)
  - value views have 224 pixels, too (A-17)
  - 512 tokens for box coordinates from -4 to 5 (A-10); the mean of an action's
    four tokens is its feature (A-9)
  - the value head's scale begins at 10, its bias at -ln 65,536 (A-35)
  - DINO's loss has no two directions and so weighs 1, not 2 (A-12)
  - prototypes, temperatures, warm-up, local views, no stochastic depth, and
    that the online network is looked at while training: as in dino.py
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import ABMultiCropData
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import AB, DINO
from abx.nn import DecoderConfig, ViTConfig
from abx.optim import EMA, AdamW

EPOCH = 1251
"""Steps for which DINO does not train its prototypes: an epoch of ImageNet, of 1024 images a step."""


@dataclass(frozen=True)
class ABDINO(Recipe):
    method: AB[DINO] = field(default_factory=lambda: AB(DINO(), reward_weight=1.0))
    data: ABMultiCropData = field(default_factory=ABMultiCropData)
    steps: int = 78_125
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


TINY = DecoderConfig(width=96, depth=2, heads=3, mlp=192, bins=128)

PRESETS = {
    "smoke": ABDINO(
        method=AB(
            base=DINO(
                ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
                prototypes=512,
                hidden=256,
                bottleneck=64,
                teacher_temperature=0.04,
                global1=GENTLE,
                global2=GENTLE,
                local=GENTLE,
            ),
            reward_weight=1.0,
            decoder=TINY,
            value_embed=128,
            value_bias="first-batch",
            gamma_warmup=100,
        ),
        data=ABMultiCropData(
            reward_batch=32,
            value_batch=24,
            reward_views=MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(4, 16, (0.1, 0.4))),
            value_views=RandomCrops(n=4, size=32, scale=(0.1, 0.5)),
        ),
        steps=300,
        optim=AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05, clip=1.0),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=150, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": ABDINO(
        method=AB(
            base=DINO(
                ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
                prototypes=4096,
                hidden=512,
                bottleneck=128,
                teacher_temperature=0.04,
            ),
            reward_weight=1.0,
            decoder=DecoderConfig(width=128, depth=2, heads=4, mlp=512, bins=256),
            value_embed=128,
            gamma_warmup=500,
        ),
        data=ABMultiCropData(
            reward_batch=64,
            value_batch=64,
            reward_views=MultiCrops(RandomCrops(2, 48, (0.4, 1.0)), RandomCrops(6, 24, (0.1, 0.4))),
            value_views=RandomCrops(n=4, size=48, scale=(0.1, 0.5)),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05, clip=1.0),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": ABDINO(
        # Without recomputation the backward pass of 10,240 views keeps hundreds of gigabytes.
        method=AB(
            DINO(
                ViTConfig(remat="full"),
                norm_last_layer=False,
                temperature_warmup=78_125 // 10,
                freeze_prototypes=EPOCH,
            ),
            reward_weight=1.0,
            decoder=DecoderConfig(remat="full"),
        ),
        optim=AdamW(lr_end=1e-6, warmup=12_511 / 78_125, clip=1.0),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("ab_dino", __doc__, PRESETS)
