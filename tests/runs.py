"""Runs so small that they are over in seconds: as objects for one process, and as a command line for many."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from conftest import TINY_AB, TINY_SIMCLR

from abx import parallel
from abx.data.layouts import ABData, PairData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe
from abx.log import read_lines

ROOT = Path(__file__).parent.parent


def tiny(name: str, out: Path, **changes: Any) -> Recipe:
    """Eight steps of `ab` or `simclr` on scenes: 16-pixel views, batches of 8, evaluated on a handful of pictures."""
    pair = RandomCrops(n=2, size=16, scale=(0.2, 1.0))
    views = RandomCrops(n=3, size=16, scale=(0.1, 0.5))
    ab = ABData(reward_batch=8, value_batch=8, reward_views=pair, value_views=views)
    settings: dict[str, Any] = {
        "method": TINY_AB if name == "ab" else TINY_SIMCLR,
        "data": ab if name == "ab" else PairData(batch=8, views=pair),
        "steps": 8,
        "eval": Evaluation(every=4, train_images=24, test_images=12, batches=1),
        "ckpt": Checkpointing(every=2),
        "log": Logging(every=1),
        "out": out,
    }
    return Recipe(**settings | changes)


def command(name: str, out: Path, steps: int, workers: int = 0, *more: str) -> list[str]:
    """`recipes/ab_simclr.py` or `recipes/simclr.py` with `smoke`, made so small that a step takes milliseconds."""
    ab = name == "ab_simclr"
    simclr = "method.base" if ab else "method"
    flags = {
        f"{simclr}.backbone.width": 16,
        f"{simclr}.backbone.depth": 1,
        f"{simclr}.backbone.heads": 2,
        f"{simclr}.backbone.mlp": 16,
        f"{simclr}.backbone.size": 16,
        f"{simclr}.hidden": 16,
        f"{simclr}.embed": 8,
        "data.workers": workers,
        "eval.every": 0,
        "ckpt.every": 2,
        "log.every": 1,
        "steps": steps,
        "out": out,
    }
    decoder = {"width": 16, "depth": 1, "heads": 2, "mlp": 16, "bins": 16}
    if ab:
        flags |= {f"method.decoder.{k}": v for k, v in decoder.items()} | {"method.value-embed": 8}
    for stream in ("reward-", "value-") if ab else ("",):
        flags |= {f"data.{stream}batch": 8, f"data.{stream}views.size": 16}
    words = [str(word) for flag, value in flags.items() for word in (f"--{flag}", value)]
    return [sys.executable, str(ROOT / "recipes" / f"{name}.py"), "smoke", *words, *more]


def environment(cache: Path) -> dict[str, str]:
    """For `command`: one CPU device, and compiled programs kept in `cache`, so that a start costs seconds."""
    ours = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **ours}


def rows(folder):
    """metrics.jsonl without the speed."""
    found = read_lines(folder / "metrics.jsonl")
    assert len(found) == (folder / "metrics.jsonl").read_text().count("\n")
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in found]


def steps_of(folder):
    return [row["step"] for row in rows(folder)]


def saved(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def one_device(tmp_path_factory):
    """For a fixture: each start of a run compiles its step anew, so keep the programs between them. One device, as that
    is what costs; yields how a mesh of all is made."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    with pytest.MonkeyPatch.context() as patch:
        mesh = parallel.mesh
        patch.setattr(parallel, "mesh", lambda devices=None, *how: mesh(devices or jax.devices()[:1], *how))
        yield mesh
    for name, value in before.items():
        jax.config.update(name, value)
