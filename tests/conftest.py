"""Strictness for every test: eight CPU devices, no silent dtype promotion; warnings and types: see pyproject.toml."""

import os
import tempfile

# What is kept of shards in folders that may not be written must not end up in the home of whoever runs the tests.
os.environ.setdefault("ABX_CACHE", tempfile.mkdtemp(prefix="abx-tests-"))
# Before jax is imported: eight devices on two cores need threads to spare, or steps in flight wait for ever.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "16")
# Most of the time goes into compiling programs that run for milliseconds: half of it without the last optimisations,
# and of the rest a third without the newer of two ways to write loops and without cutting programs for many threads.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters "
    "--xla_cpu_parallel_codegen_split_count=1"
)
os.environ.setdefault("XLA_FLAGS", QUICK)

import jax

if os.environ["JAX_PLATFORMS"] == "cpu":
    jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

import numpy as np
import pytest

from abx import boxes
from abx.methods import AB, SimCLR
from abx.nn import DecoderConfig, ViTConfig
from abx.types import ABBatch, Views

TINY = ViTConfig(width=32, depth=2, heads=2, mlp=64, patch=8, size=16)
TINY_SIMCLR = SimCLR(backbone=TINY, hidden=48, embed=24)
TINY_AB = AB(
    base=TINY_SIMCLR, decoder=DecoderConfig(width=16, depth=2, heads=2, mlp=32, bins=64), value_embed=20, gamma=0.5
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_views(rng: np.random.Generator, b: int, n: int, size: int = 16) -> Views:
    """Noise with real boxes."""
    placed = np.stack([[boxes.random_box(rng, (64, 48)) for _ in range(n)] for _ in range(b)])
    return Views(rng.integers(0, 256, (b, n, size, size, 3), np.uint8), placed)


@pytest.fixture
def ab_batch(rng: np.random.Generator) -> ABBatch:
    return ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3))
