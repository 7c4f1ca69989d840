#!/usr/bin/env python3
r"""Annotation bootstrapping over CLIP: which captions would fit another crop?

Ghosh & Levine 2025 (arXiv 2506.11967), AB_CLIP in Tables 2 and 4, Figures 4,
5, 7 and 8.

Usage: python recipes/ab_clip.py [smoke|small|paper] [flags]
  python recipes/ab_clip.py
      built-in pictures with captions; two to three minutes on a 2-core CPU
  abx tokenizer train 'tar:train-*.tar' --vocab 8000 --out my.model
      a vocabulary from your own captions, once
  python recipes/ab_clip.py small --data.reward 'tar:train-*.tar' \
      --data.value 'tar:train-*.tar' --data.reward-text.tokenizer my.model
      your own pictures and captions, as WebDataset shards
  python recipes/ab_clip.py small --data.reward 'tar:train-*.tar' \
      --data.value folder:~/Pictures --data.reward-text.tokenizer my.model
      captions of one set, bootstrapped on another that has none (decoupled)
  python recipes/ab_clip.py small --data.reward 'arrayrecord:coco/train*' \
      --data.value 'arrayrecord:coco/train*' --data.reward-text.kind boxes
      text from labelled boxes instead (Table 4, lower half)
  abx tokenizer train 'tar:cc12m/*.tar' --vocab 32000 --out captions.model
  python recipes/ab_clip.py paper --data.reward 'tar:cc12m/*.tar' \
      --data.value 'tar:cc12m/*.tar' --dry-run
      what the paper's run would take

The same command again goes on where it stopped.

What comes out, in runs/ab_clip-PRESET or --out:
  report.txt      is it learning? in plain words
  views.png       the views of the first batch and where they were cut
  value_map.png   what moving about a picture is worth
  metrics.jsonl   all figures; checkpoints/, config.json, final.json beside it

Words:
  view        what the network sees of an image: a crop
  annotation  what a view is scored against; here the text of a reward image
  reward      how well a view fits each annotation, says CLIP's softmax
  value       the reward to expect in another crop, given only its box

Presets:
  smoke  drawn scenes and what is said of them, 32-pixel views, a backbone of
         0.5 M parameters: to see that it works
  small  your own data, 48-pixel views, a backbone of 1.2 M parameters; one
         accelerator or a patient CPU
  paper  ViT-S/16, 224-pixel views, 800 M views, 8192 views a step: 4096 reward
         images x 1 + 1024 value images x 4. 3.1e19 FLOPs: about a day on a
         TPU v4-8 (paper), 22 hours on an H200 at 40 % of its peak (computed)

Other runs of the paper, as flags:
  Figure 4 middle  (there over DINO) how near crops lie to each other:
                   --data.value-views.n 2 --data.value-views.overlap 6
                   --data.value-batch 2048
  Figure 5         --method.gamma 0, 0.25, 0.75, 0.9 (A-29)
  more views       --data.value-views.n 8 --data.value-batch 512
  Figure 4 left    --size Ti, S, B, L or H; text tower and decoder stay S

In the paper, decoder probe, pre-training on CC12M (Table 2):
  ImageNet 74.1, mean of four other sets 85.6, CLEVR depth 78.1, count 91.9;

on COCO (Table 4), detection and object classes:
  from captions 27.8 and 74.7, from box descriptions 28.8 and 76.8.

Ours: not yet run.

Our inference, where the paper is silent or contradicts itself:
  - the value loss is summed over annotations, averaged over images and pairs
    (A-1); a view is also among those that it leads to (A-2)
  - CLIP's loss counts twice, as the sum of both directions (A-12)
  - how 8192 views are shared out (A-20); value views have 224 pixels, too
    (A-17), and are drawn independently of the reward images (A-19)
  - 512 tokens for box coordinates from -4 to 5 (A-10); the mean of an action's
    four tokens is its feature (A-9)
  - a value head of 512 dimensions (A-48); its initial scale and bias (A-35)
  - warm-up of 1062 steps, as CLIP's; weight decay 0.1; beta2 0.98 (A-21, A-33)
  - texts of 64 tokens, a vocabulary of 32,000 (A-28); what a box description
    says: the classes, in any order (A-30)
"""

from dataclasses import dataclass, field

from abx.data.layouts import ABCaptionData
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import AB, CLIP
from abx.nn import DecoderConfig, TextConfig, ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class ABCLIP(Recipe):
    method: AB[CLIP] = field(default_factory=lambda: AB(CLIP(), value_embed=512))
    data: ABCaptionData = field(default_factory=ABCaptionData)
    steps: int = 97_656
    """Length of the run, in training steps. The learning rate's schedule is stretched to it."""
    ema: EMA = field(default_factory=lambda: EMA(shape="constant"))


# With CLIP's own scale of 14 and a short warm-up all embeddings run together in the first steps, and a batch this small
# then stays at chance for hundreds more.
SCALE, WARMUP = 5.0, 0.4
PRESETS = {
    "smoke": ABCLIP(
        method=AB(
            base=CLIP(
                ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32),
                TextConfig(vocab=512, length=24, width=96, depth=2, heads=3, mlp=192),
                embed=64,
                scale=SCALE,
            ),
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
        optim=AdamW(lr=1e-3, warmup=WARMUP, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, shape="constant"),
        eval=Evaluation(every=200, train_images=1500, test_images=1000),
        ckpt=Checkpointing(every=50),
        log=Logging(every=20),
    ),
    "small": ABCLIP(
        method=AB(
            base=CLIP(
                ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48),
                # Room for a vocabulary of one's own; the built-in one has 512.
                TextConfig(vocab=8000, length=32, width=128, depth=6, heads=4, mlp=512),
                embed=128,
            ),
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
    "paper": ABCLIP(
        # Without recomputation the backward pass of 8192 views keeps over a terabyte.
        method=AB(
            CLIP(ViTConfig(remat="full"), TextConfig(remat="full")),
            decoder=DecoderConfig(remat="full"),
            value_embed=512,
        ),
        data=ABCaptionData(reward_text=Texts(tokenizer="captions.model")),
        optim=AdamW(warmup=1062 / 97_656, beta2=0.98, weight_decay=0.1, weight_decay_end=0.1),
        eval=Evaluation(every=5000, train_images=5_000, test_images=2_500),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("ab_clip", __doc__, PRESETS)
