#!/usr/bin/env python3
"""Annotation bootstrapping over SimCLR: value learning on unlabelled crops, rewarded by crop consistency.

Ghosh & Levine 2025, rows AB_SimCLR of Tables 1, 2, 3, 5 and 6.

  python recipes/ab_simclr.py                                      built-in pictures, two minutes on a 2-core CPU
  python recipes/ab_simclr.py small --data.reward folder:~/Pictures --data.value folder:~/Pictures
  python recipes/ab_simclr.py small --data.reward 'tar:train-*.tar' --data.value 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
  python recipes/ab_simclr.py paper --data.reward folder:imagenet/train --data.value folder:imagenet/train --dry-run

The same command again goes on where it stopped. In runs/ab_simclr-PRESET: report.txt (is it learning?), views.png,
value_map.png, metrics.jsonl, checkpoints.

  smoke  drawn scenes, 32-pixel views, a ViT of 0.5 M parameters; to see it work.
  small  your own pictures, 48-pixel views, ViT of 128 x 6; one accelerator or a patient CPU.
  paper  ViT-S/16 at 224, 800 M views, batch 8192 views (METHODS reading R1: 2048 reward images x 2 + 1024 value images x 4);
         about 2.9e19 FLOPs: a day on a TPU v4-8 (the paper), 20 hours on an H200 at 40 % MFU (computed, not run).
         The paper's ImageNet top-1 (Table 1): linear 64.5, attentive 70.7, decoder 72.2. Ours: not yet run.
         Our inference where the paper is silent: A-1, A-8, A-9, A-10, A-12, A-17, A-20, A-35 (see each flag).
"""

from dataclasses import dataclass, field

from abx.data.streams import ABData
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
    """Training steps."""


TINY = DecoderConfig(width=96, depth=2, heads=3, mlp=192, bins=128)

PRESETS = {
    "smoke": ABSimCLR(
        method=AB(
            base=SimCLR(ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32), hidden=256, embed=64),
            decoder=TINY,
            value_embed=128,
            value_bias="first-batch",
            gamma_warmup=100,
        ),
        data=ABData(
            reward_batch=64,
            value_batch=32,
            reward_views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)),
            value_views=RandomCrops(n=4, size=32, scale=(0.1, 0.5)),
        ),
        steps=400,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, cosine=False),
        eval=Evaluation(every=200, train_images=1500, test_images=500),
        ckpt=Checkpointing(every=200),
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
        ema=EMA(tau=0.004, cosine=False),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": ABSimCLR(
        optim=AdamW(warmup=3128 / 97_656),
        eval=Evaluation(every=5000, train_images=10_000, test_images=5_000),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("ab_simclr", __doc__, PRESETS)
