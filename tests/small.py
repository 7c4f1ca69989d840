"""Every method, as small as it gets, with a batch for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from abx import boxes
from abx.augment import Photometric
from abx.methods import AB, CLIP, DINO, SLIP, CLIPAug, Method, SiLC, SimCLR
from abx.nn import DecoderConfig, TextConfig, ViTConfig
from abx.types import ABBatch, MultiCrop, Pairs, PairsAndImages, Views, WeakStrong

BACKBONE = ViTConfig(width=32, depth=2, heads=2, mlp=64, patch=8, size=16)
TEXT = TextConfig(vocab=40, length=6, width=24, depth=2, heads=2, mlp=48)
DECODER = DecoderConfig(width=16, depth=2, heads=2, mlp=32, bins=64)
PLAIN = Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=0.0)
"""No augmentation at all."""
B = 8


def views(rng: np.random.Generator, b: int, n: int, size: int = 16) -> Views:
    """Noise with real boxes."""
    placed = [[boxes.random_box(rng, (64, 48)) for _ in range(n)] for _ in range(b)]
    return Views(rng.integers(0, 256, (b, n, size, size, 3), np.uint8), np.array(placed, np.float32).reshape(b, n, 4))


def texts(rng: np.random.Generator, b: int) -> np.ndarray:
    return rng.integers(2, TEXT.vocab, (b, TEXT.length), np.int32)


def one(rng: np.random.Generator) -> Views:
    return views(rng, B, 1)


def two(rng: np.random.Generator) -> Views:
    return views(rng, B, 2)


def multi(rng: np.random.Generator) -> MultiCrop:
    return MultiCrop(views(rng, B, 2), views(rng, B, 3, size=8))


def pairs(rng: np.random.Generator) -> Pairs:
    return Pairs(views(rng, B, 1), texts(rng, B))


def weak_strong(rng: np.random.Generator) -> Pairs:
    return Pairs(WeakStrong(views(rng, B, 1), views(rng, B, 2)), texts(rng, B))


class Case(NamedTuple):
    method: Method
    batch: Callable[[np.random.Generator], Any]


CLIP_ = CLIP(BACKBONE, TEXT, embed=20)
SIMCLR = SimCLR(BACKBONE, hidden=48, embed=24)
DINO_ = DINO(BACKBONE, prototypes=30, hidden=40, bottleneck=12)
SILC = SiLC(BACKBONE, prototypes=30, hidden=40, bottleneck=12, text=TEXT, embed=20)


def ab(base: Any, **more: Any) -> AB[Any]:
    return AB(base, decoder=DECODER, value_embed=20, **more)


def with_values(part: Callable[[np.random.Generator], Any]) -> Callable[[np.random.Generator], ABBatch]:
    return lambda rng: ABBatch(part(rng), views(rng, B, 3))


METHODS = {
    "clip": Case(CLIP_, pairs),
    "clip_aug": Case(CLIPAug(BACKBONE, TEXT, embed=20), weak_strong),
    "simclr": Case(SIMCLR, two),
    "dino": Case(DINO_, multi),
    "slip": Case(
        SLIP(BACKBONE, TEXT, 20, ssl_hidden=48, ssl_embed=24), lambda rng: PairsAndImages(pairs(rng), two(rng))
    ),
    "silc": Case(SILC, lambda rng: PairsAndImages(pairs(rng), multi(rng))),
    "ab_clip": Case(ab(CLIP_), with_values(pairs)),
    "ab_simclr": Case(ab(SIMCLR), with_values(two)),
    "ab_dino": Case(ab(DINO_, reward_weight=1.0), with_values(multi)),
}
"""By the name of the recipe."""

VARIANTS = {
    "dino, dropping paths, frozen": Case(
        replace(DINO_, backbone=replace(BACKBONE, drop_path=0.3), freeze_prototypes=2, temperature_warmup=3), multi
    ),
    "ab_simclr, in chunks, augmented": Case(ab(SIMCLR, chunk=3, augment_value=True), with_values(two)),
    "ab_dino, in chunks": Case(ab(DINO_, reward_weight=1.0, chunk=7), with_values(multi)),
    "ab_simclr, without actions": Case(ab(SIMCLR, actions=False, value_weight=3.0), with_values(two)),
}
