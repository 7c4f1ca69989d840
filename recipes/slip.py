#!/usr/bin/env python3
r"""SLIP: CLIP on images with captions and SimCLR on other images, one backbone.

Mu et al. 2022. What a contrastive loss of views brings to CLIP, beside AB.

Ghosh & Levine 2025 (arXiv 2506.11967), SLIP in Tables 2 and 4, Figure 8.

Usage: python recipes/slip.py [smoke|small|paper] [flags]
  python recipes/slip.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/slip.py small \
      --data.pairs 'tar:train-*.tar' --data.pairs-text.tokenizer my.model
      your own pictures and captions, as WebDataset shards
  python recipes/slip.py small --data.pairs 'tar:train-*.tar' \
      --data.pairs-text.tokenizer my.model --data.images folder:~/Pictures
      the same, with SimCLR on pictures that have no captions
  python recipes/slip.py small --data.pairs 'arrayrecord:coco/train*' \
      --data.pairs-text.kind boxes
      text from labelled boxes instead (Table 4, lower half)
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/slip.py paper --data.pairs 'tar:cc12m/*.tar' --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/slip-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures (reward/: CLIP's, ssl/: SimCLR's); checkpoints/,
                  config.json, final.json beside it

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 8192 views a step: 4096 pairs
         x 1 + 2048 images x 2. 2.5e19 FLOPs: 18 hours on an H200 at 40 % of
         its peak (computed)

In the paper, decoder probe, pre-training on CC12M (Table 2):
  ImageNet 72.0, mean of four other sets 84.3, CLEVR depth 72.4, count 87.2;

on COCO (Table 4), detection and object classes:
  from captions 25.6 and 72.9, from box descriptions 25.2 and 72.3.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - 2048 images for SimCLR, as Table 7 has it; the 9216 views a step that it
    also prints would take 2560 (A-31)
  - the images for SimCLR are drawn independently of the pairs (A-19)
  - warm-up of one epoch of CC12M's 8.7 M pairs, 2124 steps; weight decay 0.1;
    beta2 0.98 (A-33)
  - LayerNorm in SimCLR's projection head, where SLIP has BatchNorm
  - texts of 64 tokens, a vocabulary of 32,000 (A-28); what a box description
    says: the classes, in any order (A-30)
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import SLIPData
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import SLIP
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class SLIPRecipe(Recipe):
    method: SLIP = field(default_factory=SLIP)
    data: SLIPData = field(default_factory=SLIPData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


# With CLIP's own scale of 14 and a short warm-up all embeddings run together in the first steps, and a batch this small
# then stays at chance for hundreds more.
SCALE, WARMUP = 5.0, 0.4
PRESETS = {
    "smoke": SLIPRecipe(
        method=SLIP(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
            TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
            embed=64,
            scale=SCALE,
            ssl_hidden=256,
            ssl_embed=64,
            photometric=GENTLE,
        ),
        data=SLIPData(
            pairs_batch=64,
            images_batch=32,
            pairs_views=RandomCrops(n=1, size=32, scale=(0.5, 1.0)),
            pairs_text=Texts(length=24),
            images_views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)),
        ),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=WARMUP, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": SLIPRecipe(
        method=SLIP(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
            # Room for a vocabulary of one's own; the built-in one has 512.
            TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
            embed=128,
            ssl_hidden=512,
            ssl_embed=128,
        ),
        data=SLIPData(
            pairs_batch=256,
            images_batch=128,
            pairs_views=RandomCrops(n=1, size=48, scale=(0.5, 1.0)),
            pairs_text=Texts(length=32),
            images_views=RandomCrops(n=2, size=48, scale=(0.2, 1.0)),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": SLIPRecipe(
        # Without recomputation the backward pass keeps over a terabyte.
        method=SLIP(ViTConfig(remat="full"), TextConfig(remat="full")),
        data=SLIPData(pairs_text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=2124 / 97_656, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        ema=EMA(shape="constant"),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("slip", __doc__, PRESETS)
