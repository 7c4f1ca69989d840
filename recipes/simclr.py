#!/usr/bin/env python3
"""SimCLR: two augmented views of an image find each other. The baseline of AB over SimCLR, at equal views.

Chen et al. 2020; rows SimCLR of Tables 1, 2, 3 and 6 of Ghosh & Levine 2025.

  python recipes/simclr.py                                         built-in pictures, two minutes on a 2-core CPU
  python recipes/simclr.py small --data.train folder:~/Pictures
  python recipes/simclr.py small --data.train 'tar:train-*.tar' --eval.test 'tar:val-*.tar'
  python recipes/simclr.py paper --data.train folder:imagenet/train --dry-run

The same command again goes on where it stopped. In runs/simclr-PRESET: report.txt (is it learning?), views.png,
metrics.jsonl, checkpoints.

  smoke  drawn scenes, 32-pixel views, a ViT of 0.5 M parameters; to see it work.
  small  your own pictures, 48-pixel views, ViT of 128 x 6; one accelerator or a patient CPU.
  paper  ViT-S/16 at 224, 800 M views, 4096 images x 2 views; about 2.2e19 FLOPs.
         The paper's ImageNet top-1 (Table 1): linear 66.2, attentive 69.7, decoder 71.4. Ours: not yet run.
         Ours where the paper is silent or unclear: projection head with LayerNorm (METHODS 1.3), weight decay (A-33).
"""

from dataclasses import dataclass, field

from abx.data.streams import PairData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe, cli
from abx.methods import SimCLR
from abx.nn import ViTConfig
from abx.optim import EMA, AdamW


@dataclass(frozen=True)
class SimCLRRecipe(Recipe):
    method: SimCLR = field(default_factory=SimCLR)
    data: PairData = field(default_factory=PairData)
    steps: int = 97_656
    """Training steps."""


PRESETS = {
    "smoke": SimCLRRecipe(
        method=SimCLR(ViTConfig(width=96, depth=4, heads=3, mlp=384, patch=8, size=32), hidden=256, embed=64),
        data=PairData(batch=128, views=RandomCrops(n=2, size=32, scale=(0.2, 1.0))),
        steps=400,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.01, cosine=False),
        eval=Evaluation(every=200, train_images=1500, test_images=500),
        ckpt=Checkpointing(every=200),
        log=Logging(every=20),
    ),
    "small": SimCLRRecipe(
        method=SimCLR(ViTConfig(width=128, depth=6, heads=4, mlp=512, patch=8, size=48), hidden=512, embed=128),
        data=PairData(batch=256, views=RandomCrops(n=2, size=48, scale=(0.2, 1.0))),
        steps=20_000,
        optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
        ema=EMA(tau=0.004, cosine=False),
        eval=Evaluation(every=1000),
        ckpt=Checkpointing(every=500),
        log=Logging(every=20),
    ),
    "paper": SimCLRRecipe(
        optim=AdamW(warmup=3128 / 97_656),
        eval=Evaluation(every=5000, train_images=10_000, test_images=5_000),
        log=Logging(every=50),
    ),
}

if __name__ == "__main__":
    cli("simclr", __doc__, PRESETS)
