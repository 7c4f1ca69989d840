#!/usr/bin/env python3
r"""MAE: from a quarter of an image's patches, the pixels of the others.

He et al. 2022. A baseline, at equal views.

Ghosh & Levine 2025 (arXiv 2506.11967), MAE in Tables 1, 2, 3 and 6.

Usage: python recipes/mae.py [smoke|small|paper] [flags]
  python recipes/mae.py
      built-in pictures; two to three minutes on a 2-core CPU
  python recipes/mae.py small --data.train folder:~/Pictures
      your own pictures, with or without labels
  python recipes/mae.py small \
      --data.train 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
      WebDataset shards, and labelled ones to test on
  python recipes/mae.py paper --data.train folder:imagenet/train --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/mae-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Presets:
  smoke  drawn scenes, 32-pixel views of 8 x 8 patches, a backbone of 0.5 M
         parameters: to see that it works
  small  your own pictures, 48-pixel views of 12 x 12 patches, a backbone of
         1.2 M parameters; one accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 8192 a step. 3.1e19
         FLOPs: 21 hours on an H200 at 40 % of its peak (computed)

ImageNet top-1 in the paper (Table 1):
  linear 47.8, attentive 63.4, decoder 66.5, fine-tuned 79.0;

decoder probe, pre-training on CC12M (Table 2):
  ImageNet 61.3, mean of four other sets 75.4, CLEVR depth 82.8, count 90.4;

on COCO (Table 3):
  ImageNet 58.1, COCO detection 29.8, object classes 73.8.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - a decoder of 8 blocks, 512 wide, whatever the backbone, as in MAE's code
  - the features are the mean of the tokens; MAE itself has a token for them:
    --method.backbone.pool token (A-27)
  - pixels in [-1, 1], where MAE's code has ImageNet's mean and deviation; what
    is predicted is normalised patch by patch either way
  - no gradient clipping, as in Table 7 (A-22)
"""

from dataclasses import dataclass, field

from abx.data.layouts import ImageData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods.mae import MAE
from abx.nn import PixelDecoderConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class MAERecipe(Recipe):
    method: MAE = field(default_factory=MAE)
    data: ImageData = field(default_factory=ImageData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


PRESETS = {
    "smoke": MAERecipe(
        method=MAE(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=4, size=32),
            PixelDecoderConfig(width=64, depth=2, heads=2, mlp=256),
        ),
        data=ImageData(batch=128, views=RandomCrops(n=1, size=32, scale=(0.2, 1.0))),
        steps=300,
        optim=AdamW(lr=2e-3, warmup=0.1, beta2=0.95, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=150, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": MAERecipe(
        method=MAE(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=4, size=48),
            PixelDecoderConfig(width=128, depth=4, heads=4, mlp=512),
        ),
        data=ImageData(batch=256, views=RandomCrops(n=1, size=48, scale=(0.2, 1.0))),
        steps=20_000,
        optim=AdamW(lr=1.5e-3, beta2=0.95, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": MAERecipe(
        # Without recomputation the decoder's backward pass over 8192 x 196 tokens keeps hundreds of gigabytes.
        method=MAE(ViTConfig(remat="full"), PixelDecoderConfig(remat="full")),
        optim=AdamW(lr=2.4e-3, warmup=10_000 / 97_656, beta2=0.95, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("mae", __doc__, PRESETS)
