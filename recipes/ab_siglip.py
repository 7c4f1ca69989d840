#!/usr/bin/env python3
r"""Annotation bootstrapping over SigLIP: which captions are true elsewhere?

Not in the paper (Ghosh & Levine 2025, arXiv 2506.11967): it shows that its
  claim, one value loss over any reward, needs one method file and a recipe.

Usage: python recipes/ab_siglip.py [smoke|small|paper] [flags]
  python recipes/ab_siglip.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/ab_siglip.py small --data.reward 'tar:train-*.tar' \
      --data.value folder:~/Pictures --data.reward-text.tokenizer my.model
      captions of one set, bootstrapped on another that has none
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/ab_siglip.py paper --data.reward 'tar:cc12m/*.tar' \
      --data.value 'tar:cc12m/*.tar' --dry-run
      what a run of the paper's size would take

The same command again goes on where it stopped.

What comes out, in runs/ab_siglip-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  value_map.png   what moving about a picture is worth
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Words:
  view        what the network sees of an image: a crop
  annotation  what a view is scored against; here the text of a reward image
  reward      how well a view fits each annotation, says SigLIP's sigmoid
  value       the reward to expect in another crop, given only its box

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  AB_CLIP's row with another reward: ViT-S/16, 224-pixel views, 800 M
         views, 8192 a step: 4096 reward images x 1 + 1024 value images x 4.
         3.1e19 FLOPs: 22 hours on an H200 at 40 % of its peak (computed)

The paper has no figures. Ours: not yet run.

Our choice, all of it; what is not AB_CLIP's of the same table is SigLIP's:
  - rewards are probabilities of one pair each, which do not sum to one
  - SigLIP's loss counts once: it has no two directions to add up (A-12)
  - in small batches its bias begins at minus the logarithm of the batch
"""

from dataclasses import dataclass, field

from abx.data.layouts import ABCaptionData
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import AB, SigLIP
from abx.nn import DecoderConfig, TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class ABSigLIP(Recipe):
    method: AB[SigLIP] = field(default_factory=lambda: AB(SigLIP(), value_embed=512, reward_weight=1.0))
    data: ABCaptionData = field(default_factory=ABCaptionData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""
    ema: EMA = field(default_factory=lambda: EMA(shape="constant"))


PRESETS = {
    "smoke": ABSigLIP(
        method=AB(
            base=SigLIP(
                ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
                TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
                embed=64,
                # From the usual 10 or more the loss stays at chance for hundreds of steps.
                scale=5.0,
                bias=-4.16,
            ),
            reward_weight=1.0,
            decoder=DecoderConfig(width=96, depth=2, heads=3, mlp=192, bins=128),
            value_embed=128,
            value_bias="first-batch",
            gamma_warmup=150,
        ),
        data=ABCaptionData(
            reward_batch=64,
            value_batch=24,
            reward_views=RandomCrops(n=1, size=32, scale=(0.5, 1.0)),
            value_views=RandomCrops(n=4, size=32, scale=(0.1, 0.5)),
            reward_text=Texts(length=24),
        ),
        steps=400,
        optim=AdamW(lr=1e-3, warmup=0.4, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": ABSigLIP(
        method=AB(
            base=SigLIP(
                ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
                # Room for a vocabulary of one's own; the built-in one has 512.
                TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
                embed=128,
                bias=-5.55,
            ),
            reward_weight=1.0,
            decoder=DecoderConfig(width=128, depth=2, heads=4, mlp=512, bins=256),
            value_embed=128,
            gamma_warmup=500,
        ),
        data=ABCaptionData(
            reward_batch=256,
            value_batch=64,
            reward_views=RandomCrops(n=1, size=48, scale=(0.5, 1.0)),
            value_views=RandomCrops(n=4, size=48, scale=(0.1, 0.5)),
            reward_text=Texts(length=32),
        ),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": ABSigLIP(
        # Without recomputation the backward pass of 8192 views keeps over a terabyte.
        method=AB(
            SigLIP(ViTConfig(remat="full"), TextConfig(remat="full")),
            decoder=DecoderConfig(remat="full"),
            value_embed=512,
            reward_weight=1.0,
        ),
        data=ABCaptionData(reward_text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=1062 / 97_656, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("ab_siglip", __doc__, PRESETS)
