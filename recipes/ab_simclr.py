#!/usr/bin/env python3
r"""Annotation bootstrapping over SimCLR: value learning on unlabelled crops.

Ghosh & Levine 2025 (arXiv 2506.11967), AB_SimCLR in Tables 1, 2, 3, 5 and 6.

Usage: python recipes/ab_simclr.py [smoke|small|paper] [flags]
  python recipes/ab_simclr.py
      built-in pictures; two to three minutes on a 2-core CPU
  python recipes/ab_simclr.py small \
      --data.reward folder:~/Pictures --data.value folder:~/Pictures
      your own pictures, with or without labels
  python recipes/ab_simclr.py small --data.reward 'tar:train-*.tar' \
      --data.value 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
      WebDataset shards, and labelled ones to test on
  python recipes/ab_simclr.py paper --data.reward folder:imagenet/train \
      --data.value folder:imagenet/train --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/ab_simclr-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  value_map.png   what moving about a picture is worth
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Words:
  view        what the network sees of an image: a crop
  annotation  what a view is scored against; here a view of a reward image
  reward      how well a view fits each annotation, says SimCLR's softmax
  value       the reward to expect in another crop, given only its box

Presets:
  smoke  drawn scenes, 32-pixel views, a backbone of 0.5 M parameters: to see
         that it works
  small  your own pictures, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 8192 views a step: 2048 reward
         images x 2 + 1024 value images x 4. 2.9e19 FLOPs: about a day on a
         TPU v4-8 (paper), 20 hours on an H200 at 40 % of its peak (computed)

ImageNet top-1 in the paper (Table 1):
  linear 64.5, attentive 70.7, decoder 72.2;

decoder probe, pre-training on CC12M (Table 2):
  ImageNet 68.0, mean of four other sets 79.5, CLEVR depth 79.5, count 89.6;

on COCO (Table 3), and below the line with rewards from ImageNet:
  ImageNet 60.7 (68.3), COCO detection 26.4 (31.0), object classes 74.0 (79.4);

ablations on CC12M at 400 M views, --steps 48828 (Table 5), ImageNet:
  all of it 62.9, --method.augment-value 62.5, --method.no-actions 60.5,
  --method.value-weight 0 59.4, --ema.tau 1 59.4,
  --method.reward-weight 0 39.0.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - the value loss is summed over annotations, averaged over images and pairs
    (A-1)
  - one annotation per reward image: its second view (A-8)
  - how 8192 views are shared out (A-20); value views have 224 pixels, too
    (A-17)
  - 512 tokens for box coordinates from -4 to 5 (A-10); the mean of an action's
    four tokens is its feature (A-9)
  - initial scale and bias of the value head (A-35); LayerNorm in projection
    heads, where SimCLR has BatchNorm
  - weight decay from 0.04 to 0.4 (A-33); warm-up of 3128 steps: ten epochs of
    ImageNet, counted in images (A-21)
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import ABData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import AB, SimCLR
from abx.nn import DecoderConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class ABSimCLR(Recipe):
    method: AB[SimCLR] = field(default_factory=lambda: AB(SimCLR()))
    data: ABData = field(default_factory=ABData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


TINY = DecoderConfig(width=96, depth=2, heads=3, mlp=192, bins=128)

PRESETS = {
    "smoke": ABSimCLR(
        method=AB(
            base=SimCLR(
                ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
                hidden=256,
                embed=64,
                photometric=GENTLE,
            ),
            decoder=TINY,
            value_embed=128,
            value_bias="first-batch",
            gamma_warmup=100,
        ),
        data=ABData(
            reward_batch=64,
            value_batch=24,
            reward_views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)),
            value_views=RandomCrops(n=4, size=32, scale=(0.1, 0.5)),
        ),
        steps=300,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=150, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": ABSimCLR(
        method=AB(
            base=SimCLR(ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48), hidden=512, embed=128),
            decoder=DecoderConfig(width=128, depth=2, heads=4, mlp=512, bins=256),
            value_embed=128,
            gamma_warmup=500,
        ),
        data=ABData(
            reward_batch=128,
            value_batch=64,
            reward_views=RandomCrops(n=2, size=48, scale=(0.2, 1.0)),
            value_views=RandomCrops(n=4, size=48, scale=(0.1, 0.5)),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": ABSimCLR(
        # Without recomputation the backward pass of 8192 views keeps over a terabyte.
        method=AB(SimCLR(ViTConfig(remat="full")), decoder=DecoderConfig(remat="full")),
        optim=AdamW(warmup=3128 / 97_656),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("ab_simclr", __doc__, PRESETS)
