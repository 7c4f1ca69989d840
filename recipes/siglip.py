#!/usr/bin/env python3
r"""SigLIP: each image and caption of the batch are judged as a pair, alone.

Zhai et al. 2023. Not in the paper: it shows that a new reward is one method
  file and its recipes. The baseline of AB over SigLIP, at equal views.

Usage: python recipes/siglip.py [smoke|small|paper] [flags]
  python recipes/siglip.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/siglip.py small \
      --data.train 'tar:train-*.tar' --data.text.tokenizer my.model
      your own pictures and captions, as WebDataset shards
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/siglip.py paper --data.train 'tar:cc12m/*.tar' --dry-run
      what a run of the paper's size would take

The same command again goes on where it stopped.

What comes out, in runs/siglip-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  the paper's CLIP with another loss: ViT-S/16, 224-pixel views, 800 M
         views, 8192 images x 1 view a step. 2.9e19 FLOPs: 20 hours on an
         H200 at 40 % of its peak (computed)

The paper has no figures. Ours: not yet run.

Our choice, all of it; what is not CLIP's of the same table is SigLIP's:
  - initial scale 10 and bias -10; in smaller batches minus the logarithm of
    the batch, with which the pairs expected to be true at first sum to one
  - sum over texts, mean over images
"""

from dataclasses import dataclass, field

from abx.data.layouts import CaptionData
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import SigLIP
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class SigLIPRecipe(Recipe):
    method: SigLIP = field(default_factory=SigLIP)
    data: CaptionData = field(default_factory=CaptionData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""


PRESETS = {
    "smoke": SigLIPRecipe(
        method=SigLIP(
            ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
            TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
            embed=64,
            # From the usual 10 or more the loss stays at chance for hundreds of steps.
            scale=5.0,
            bias=-4.16,
        ),
        data=CaptionData(batch=64, views=RandomCrops(n=1, size=32, scale=(0.5, 1.0)), text=Texts(length=24)),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=0.4, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": SigLIPRecipe(
        method=SigLIP(
            ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
            # Room for a vocabulary of one's own; the built-in one has 512.
            TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
            embed=128,
            bias=-6.24,
        ),
        data=CaptionData(batch=512, views=RandomCrops(n=1, size=48, scale=(0.5, 1.0)), text=Texts(length=32)),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, shape="constant"),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": SigLIPRecipe(
        # Without recomputation the backward pass keeps over a terabyte.
        method=SigLIP(ViTConfig(remat="full"), TextConfig(remat="full")),
        data=CaptionData(text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=1062 / 97_656, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        ema=EMA(shape="constant"),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("siglip", __doc__, PRESETS)
