#!/usr/bin/env python3
r"""SiLC: CLIP on images with captions and DINO on other images, one backbone.

Naeem et al. 2024. What self-distillation brings to CLIP, beside AB.

Ghosh & Levine 2025 (arXiv 2506.11967), SiLC in Tables 2 and 4, Figure 8.

Usage: python recipes/silc.py [smoke|small|paper] [flags]
  python recipes/silc.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/silc.py small \
      --data.pairs 'tar:train-*.tar' --data.pairs-text.tokenizer my.model
      your own pictures and captions, as WebDataset shards
  python recipes/silc.py small --data.pairs 'tar:train-*.tar' \
      --data.pairs-text.tokenizer my.model --data.images folder:~/Pictures
      the same, with DINO on pictures that have no captions
  python recipes/silc.py small --data.pairs 'arrayrecord:coco/train*' \
      --data.pairs-text.kind boxes
      text from labelled boxes instead (Table 4, lower half)
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/silc.py paper --data.pairs 'tar:cc12m/*.tar' --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/silc-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures (reward/ are CLIP's, ssl/ DINO's); checkpoints/,
                  config.json, final.json beside it

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views and local ones of 96, 800 M views, 9216
         views a step: 4096 pairs x 1 + 512 images x (2 + 8). 1.8e19 FLOPs: 12
         hours on an H200 at 40 % of its peak (computed)

In the paper, decoder probe, pre-training on CC12M (Table 2):
  ImageNet 72.8, mean of four other sets 85.0, CLEVR depth 74.4, count 88.2;

on COCO (Table 4), detection and object classes:
  from captions 25.6 and 73.2, from box descriptions 26.0 and 73.8.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - the images for DINO are drawn independently of the pairs (A-19)
  - 65,536 prototypes; the target's temperature goes from 0.04 to 0.07 over a
    tenth of the run; prototypes rest for 2502 steps, an ImageNet epoch of 512
    images a step, and have length 1; no stochastic depth (A-34, A-49)
  - local crops of 0.05 to 0.4 of the area; 0.05 to 0.04 is printed (A-32)
  - CLIP's loss on its own view of its own images alone, where SiLC has it on
    the global views
  - warm-up of one epoch of CC12M's 8.7 M pairs, 2124 steps; weight decay 0.1;
    beta2 0.98 (A-33)
  - texts of 64 tokens, a vocabulary of 32,000 (A-28); what a box description
    says: the classes, in any order (A-30)
"""

from dataclasses import dataclass, field

from abx.augment import GENTLE
from abx.data.layouts import SiLCData
from abx.data.texts import Texts
from abx.data.views import MultiCrops, RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import SiLC
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class SiLCRecipe(Recipe):
    method: SiLC = field(default_factory=SiLC)
    data: SiLCData = field(default_factory=SiLCData)
    steps: int = 86_806
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""
    ema: EMA = field(default_factory=lambda: EMA(shape="constant"))


# With CLIP's own scale of 14 and a short warm-up all embeddings run together in the first steps, and a batch this small
# then stays at chance for hundreds more.
SCALE, WARMUP = 5.0, 0.4
PRESETS = {
    "smoke": SiLCRecipe(
        method=SiLC(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
            prototypes=512,
            hidden=256,
            bottleneck=64,
            teacher_temperature=0.04,
            global1=GENTLE,
            global2=GENTLE,
            local=GENTLE,
            text=TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
            embed=64,
            scale=SCALE,
        ),
        data=SiLCData(
            pairs_batch=64,
            images_batch=32,
            pairs_views=RandomCrops(n=1, size=32, scale=(0.5, 1.0)),
            pairs_text=Texts(length=24),
            images_views=MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(4, 16, (0.1, 0.4))),
        ),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=WARMUP, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": SiLCRecipe(
        method=SiLC(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
            prototypes=4096,
            hidden=512,
            bottleneck=128,
            teacher_temperature=0.04,
            # Room for a vocabulary of one's own; the built-in one has 512.
            text=TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
            embed=128,
        ),
        data=SiLCData(
            pairs_batch=256,
            images_batch=64,
            pairs_views=RandomCrops(n=1, size=48, scale=(0.5, 1.0)),
            pairs_text=Texts(length=32),
            images_views=MultiCrops(RandomCrops(2, 48, (0.4, 1.0)), RandomCrops(6, 24, (0.1, 0.4))),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": SiLCRecipe(
        # Without recomputation the backward pass keeps over half a terabyte.
        method=SiLC(
            ViTConfig(remat="full"),
            temperature_warmup=8681,
            freeze_prototypes=2502,
            text=TextConfig(remat="full"),
        ),
        data=SiLCData(pairs_text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=2124 / 86_806, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("silc", __doc__, PRESETS)
