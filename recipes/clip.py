#!/usr/bin/env python3
r"""CLIP: an image and its caption find each other in the batch.

Radford et al. 2021. The baseline of AB over CLIP, at equal views.

Ghosh & Levine 2025 (arXiv 2506.11967), CLIP in Tables 2, 4, Figures 4, 7.

Usage: python recipes/clip.py [smoke|small|paper] [flags]
  python recipes/clip.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/clip.py small \
      --data.train 'tar:train-*.tar' --data.text.tokenizer my.model
      your own pictures and captions, as WebDataset shards
  python recipes/clip.py small --data.train 'arrayrecord:coco/train*' \
      --data.text.kind boxes
      text from labelled boxes instead (Table 4, lower half)
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/clip.py paper --data.train 'tar:cc12m/*.tar' --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/clip-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 8192 images x 1 view a step.
         2.9e19 FLOPs: 20 hours on an H200 at 40 % of its peak (computed)

Figure 4 left is paper with --size Ti, S, B, L or H; the text tower stays S.

In the paper, decoder probe, pre-training on CC12M (Table 2):
  ImageNet 69.5, mean of four other sets 82.8, CLEVR depth 70.0, count 84.4;

on COCO (Table 4), detection and object classes:
  from captions 26.1 and 71.2, from box descriptions 25.7 and 70.0.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - warm-up of one epoch of CC12M, 1062 steps; weight decay 0.1; beta2 0.98:
    Table 7 as printed has them in its neighbours' columns (A-33)
  - texts of 64 tokens, a vocabulary of 32,000 (A-28)
  - embeddings 512 wide, their projections without biases (A-48)
  - what a box description says: the classes, in any order (A-30)
"""

from dataclasses import dataclass, field

from abx.data.layouts import CaptionData
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import CLIP
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class CLIPRecipe(Recipe):
    method: CLIP = field(default_factory=CLIP)
    data: CaptionData = field(default_factory=CaptionData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


# With CLIP's own scale of 14 and a short warm-up all embeddings run together in the first steps, and a batch this small
# then stays at chance for hundreds more.
SCALE, WARMUP = 5.0, 0.4
PRESETS = {
    "smoke": CLIPRecipe(
        method=CLIP(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
            TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
            embed=64,
            scale=SCALE,
        ),
        data=CaptionData(batch=64, views=RandomCrops(n=1, size=32, scale=(0.5, 1.0)), text=Texts(length=24)),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=WARMUP, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": CLIPRecipe(
        method=CLIP(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
            # Room for a vocabulary of one's own; the built-in one has 512.
            TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
            embed=128,
        ),
        data=CaptionData(batch=512, views=RandomCrops(n=1, size=48, scale=(0.5, 1.0)), text=Texts(length=32)),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": CLIPRecipe(
        # Without recomputation the backward pass keeps over a terabyte.
        method=CLIP(ViTConfig(remat="full"), TextConfig(remat="full")),
        data=CaptionData(text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=1062 / 97_656, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        ema=EMA(shape="constant"),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("clip", __doc__, PRESETS)
