"""Every method, as small as it gets, with a batch for it and what it takes to train it."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from abx import boxes, parallel, train
from abx.augment import Photometric
from abx.methods import AB, CLIP, DINO, SLIP, CLIPAug, Method, SiLC, SimCLR
from abx.methods.ijepa import IJEPA
from abx.methods.mae import MAE
from abx.methods.masks import MultiBlock
from abx.methods.siglip import SigLIP
from abx.nn import DecoderConfig, PixelDecoderConfig, PredictorConfig, TextConfig, ViTConfig
from abx.optim import EMA, AdamW
from abx.types import ABBatch, MultiCrop, Pairs, PairsAndImages, Views, WeakStrong

BACKBONE = ViTConfig(width=32, depth=2, heads=2, mlp=64, patch=8, size=16)
TEXT = TextConfig(vocab=40, length=6, width=24, depth=2, heads=2, mlp=48)
DECODER = DecoderConfig(width=16, depth=2, heads=2, mlp=32, bins=64)
PLAIN = Photometric(jitter=0.0, grey=0.0, blur=0.0, flip=0.0)
"""No augmentation at all."""
FLIPS = replace(PLAIN, flip=0.5)
"""All that is random, at a fraction of what the rest takes to compile."""
B = 8


def views(rng: np.random.Generator, b: int, n: int, size: int = 16) -> Views:
    """Noise with real boxes."""
    placed = [[boxes.random_box(rng, (64, 48)) for _ in range(n)] for _ in range(b)]
    return Views(rng.integers(0, 256, (b, n, size, size, 3), np.uint8), np.array(placed, np.float32).reshape(b, n, 4))


def texts(rng: np.random.Generator, b: int) -> np.ndarray:
    return rng.integers(2, TEXT.vocab, (b, TEXT.length), np.int32)


def drawn(rng: np.random.Generator, *kinds: tuple[int, int]) -> list[Views]:
    """Views of B pictures that can be told apart and have something to predict: each of a colour that rises or falls in
    some direction, under a little noise. `kinds`: how many views of which size."""
    colour, slope = rng.uniform(-1, 1, (B, 1, 1, 1, 3)), rng.uniform(-1, 1, (2, B, 1, 1, 1, 1))
    found = []
    for n, size in kinds:
        y, x = (np.linspace(-1, 1, size).reshape(shape) for shape in ((-1, 1, 1), (1, -1, 1)))
        pixels = 128 + 60 * colour + 50 * (slope[0] * y + slope[1] * x) + rng.normal(0, 5, (B, n, size, size, 3))
        found.append(views(rng, B, n, size)._replace(images=pixels.clip(0, 255).astype(np.uint8)))
    return found


def one(rng: np.random.Generator) -> Views:
    return drawn(rng, (1, 16))[0]


def larger(rng: np.random.Generator) -> Views:
    """One view, of the size that I-JEPA's blocks fit in."""
    return drawn(rng, (1, 24))[0]


def two(rng: np.random.Generator) -> Views:
    return drawn(rng, (2, 16))[0]


def multi(rng: np.random.Generator) -> MultiCrop:
    return MultiCrop(*drawn(rng, (2, 16), (3, 8)))


def pairs(rng: np.random.Generator) -> Pairs:
    return Pairs(one(rng), texts(rng, B))


def weak_strong(rng: np.random.Generator) -> Pairs:
    return Pairs(WeakStrong(*drawn(rng, (1, 16), (2, 16))), texts(rng, B))


class Case(NamedTuple):
    method: Method
    batch: Callable[[np.random.Generator], Any]
    falls: dict[str, float] = {}  # noqa: RUF012
    """Metrics, and the share of its first value that each has left after `STEPS` steps on one batch."""


SELF: dict[str, Any] = {"prototypes": 30, "hidden": 40, "bottleneck": 12, "center_momentum": 0.5}
LIGHT: dict[str, Any] = {"global1": FLIPS, "global2": FLIPS, "local": FLIPS}
CLIP_ = CLIP(BACKBONE, TEXT, embed=20)
SIGLIP = SigLIP(BACKBONE, TEXT, embed=20, bias=-math.log(B))
SIMCLR = SimCLR(BACKBONE, hidden=48, embed=24, photometric=FLIPS)
DINO_ = DINO(BACKBONE, **SELF, **LIGHT)


def ab(base: Any, **more: Any) -> AB[Any]:
    return AB(base, decoder=DECODER, value_embed=20, **more)


def with_values(part: Callable[[np.random.Generator], Any]) -> Callable[[np.random.Generator], ABBatch]:
    return lambda rng: ABBatch(part(rng), drawn(rng, (3, 16))[0])


METHODS = {
    "clip": Case(CLIP_, pairs, {"reward/loss": 0.05}),
    "siglip": Case(SIGLIP, pairs, {"reward/loss": 0.3}),
    "clip_aug": Case(
        CLIPAug(BACKBONE, TEXT, embed=20, photometric=FLIPS), weak_strong, {"reward/loss": 0.1, "loss": 0.4}
    ),
    "simclr": Case(SIMCLR, two, {"reward/loss": 0.05}),
    "dino": Case(DINO_, multi, {"reward/excess": 0.2}),
    "mae": Case(
        MAE(BACKBONE, PixelDecoderConfig(width=16, depth=2, heads=2, mlp=32), mask_ratio=0.5), one, {"mae/loss": 0.75}
    ),
    "ijepa": Case(
        IJEPA(
            replace(BACKBONE, patch=4, size=24),
            PredictorConfig(width=16, depth=2, heads=2, mlp=32),
            MultiBlock(min_keep=3),
        ),
        larger,
        {"ijepa/loss": 0.4},
    ),
    "slip": Case(
        SLIP(BACKBONE, TEXT, 20, ssl_hidden=48, ssl_embed=24, photometric=FLIPS),
        lambda rng: PairsAndImages(pairs(rng), two(rng)),
        {"reward/loss": 0.05, "ssl/loss": 0.05},
    ),
    "silc": Case(
        SiLC(BACKBONE, text=TEXT, embed=20, **SELF, **LIGHT),
        lambda rng: PairsAndImages(pairs(rng), multi(rng)),
        {"reward/loss": 0.05, "ssl/excess": 0.2},
    ),
    "ab_clip": Case(ab(CLIP_), with_values(pairs), {"reward/loss": 0.05, "value/loss": 0.75}),
    "ab_siglip": Case(ab(SIGLIP), with_values(pairs), {"reward/loss": 0.3, "value/loss": 0.75}),
    "ab_simclr": Case(ab(SIMCLR), with_values(two), {"reward/loss": 0.05, "value/loss": 0.75}),
    "ab_dino": Case(ab(DINO_, reward_weight=1.0), with_values(multi), {"reward/excess": 0.2, "value/loss": 0.85}),
}
"""By the name of the recipe."""

VARIANTS = {
    "simclr, augmented": Case(replace(SIMCLR, photometric=Photometric()), two),
    "dino, augmented, dropping paths, frozen": Case(
        DINO(
            replace(BACKBONE, drop_path=0.3), **SELF, norm_last_layer=False, freeze_prototypes=2, temperature_warmup=3
        ),
        multi,
    ),
    "ab_simclr, in chunks, augmented": Case(
        ab(SIMCLR, chunk=3, augment_value=True, photometric=Photometric()), with_values(two)
    ),
    "ab_dino, in chunks, moves only": Case(ab(DINO_, reward_weight=1.0, chunk=7, self_pairs=False), with_values(multi)),
    "ab_clip, without actions nor its texts' gradient": Case(
        ab(CLIP_, actions=False, value_weight=3.0, annotation_gradient=False), with_values(pairs)
    ),
}

STEPS = 60


class Program(NamedTuple):
    """A method under AdamW, compiled once for all tests of a process."""

    case: Case
    batch: Any
    step: train.Step
    state: Callable[[], train.TrainState]
    """A fresh one."""


@cache
def program(name: str, devices: int = 1) -> Program:
    """On one device as in a notebook, without a mesh axis; on more as in a run."""
    case, mesh = (METHODS | VARIANTS)[name], parallel.mesh(jax.devices()[:devices])
    # A large epsilon: Adam's own would blow rounding up wherever a gradient is zero in theory (the bias of the keys).
    tx = AdamW(lr=3e-3, warmup=0.0, eps=1e-3).build(STEPS)
    batch = case.batch(np.random.default_rng(0))
    step = train.make_step(case.method, tx, EMA().schedule(STEPS), 0, mesh if devices > 1 else None)
    # Not jitted: what initialises one method's towers is then compiled for the next one's, too.
    state = lambda: parallel.place(train.init(case.method, tx, 0, batch), parallel.replicated(mesh))
    return Program(case, parallel.place(batch, parallel.batched(mesh)), step, state)
