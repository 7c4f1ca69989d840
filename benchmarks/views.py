#!/usr/bin/env python3
"""What n views, and so n² pairs, cost: one whole AB-SimCLR step, with the packed decoder and with a naive one.

The number of value views a step is fixed and n varies (images = views / n), so that what changes is only how many
actions leave each view. METHODS §6 predicts, per view of ViT-S/16 at 224, a decoder of 462 + 71 n MFLOP beside a ViT
of 9,147: n = 8 should cost 4 % more per view than n = 2. The naive decoder projects a view's keys and values again for
each action: 462 n + 71 n.

  python benchmarks/views.py                                                    a minute on a laptop
  python benchmarks/views.py --width 384 --depth 12 --heads 6 --size 224 --patch 16 --views 1024 --ns 1 2 4 8 16

Columns: ms of a step; views/s and pairs/s (all views, reward's too); GFLOP per view as computed; the step's time and
the FLOPs relative to the packed decoder at the smallest n; TFLOP/s, and MFU where the device's peak is known. The last
line is JSON.
"""

import json
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float

from abx import boxes, train
from abx.analysis.cost import step_flops
from abx.experiment.cli import fail
from abx.methods import AB, SimCLR
from abx.nn import ActionDecoder, DecoderConfig, ViTConfig
from abx.nn.attention import Attention
from abx.nn.layers import Remat
from abx.optim import EMA, AdamW
from abx.types import ABBatch, Views

PEAK_TFLOPS = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H200": 989.0}
"""Dense bfloat16, from the data sheets."""


@dataclass(frozen=True)
class Bench:
    ns: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Views per image."""
    views: int = 64
    """Value views per step, a multiple of every n; a quarter as many reward images come with them, two views each."""
    width: int = 96
    """Width of the backbone."""
    depth: int = 4
    """Blocks of the backbone."""
    heads: int = 3
    """Heads of the backbone."""
    size: int = 64
    """Side of a view in pixels."""
    patch: int = 8
    """Side of a patch in pixels."""
    decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(width=96, depth=4, heads=3, mlp=384))
    hidden: int = 256
    """Hidden width of the projection heads."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the activations; auto is float32 on a CPU, bfloat16 elsewhere."""
    platform: str = ""
    """cpu, cuda or tpu; empty = what JAX finds."""
    attention: Attention = "plain"
    """Of the backbone: plain, or fused by cuDNN's kernel (on a GPU, in bfloat16)."""
    remat: Remat = "auto"
    """What the backward pass keeps: none, dots, full, or auto (full on a CPU, none elsewhere)."""
    repeats: int = 5
    """Timed steps after the warm-up; the median counts."""
    naive: bool = True
    """Measure the naive decoder too."""
    peak: float = 0.0
    """The device's peak in TFLOP/s, for MFU; 0 = looked up by its name."""


class NaiveDecoder(eqx.Module):
    """The same function and parameters, each action on its own copy of the view's tokens."""

    packed: ActionDecoder

    def __call__(self, tokens: Float[Array, "t c"], actions: Float[Array, "a 4"]) -> Float[Array, "a d"]:
        copies = jnp.tile(tokens[None], (len(actions), 1, 1))
        return jax.vmap(lambda t, a: self.packed(t, a[None])[0])(copies, actions)


@dataclass(frozen=True)
class Naive:
    """AB with the naive decoder, as a method."""

    method: AB[SimCLR]

    def init(self, key: Array, batch: Any = None) -> tuple[Any, Any]:
        model, carry = self.method.init(key, batch)
        return eqx.tree_at(lambda m: m.value.decoder, model, NaiveDecoder(model.value.decoder)), carry

    def loss(self, *args: Any, axis: str | None = None) -> Any:
        return self.method.loss(*args, axis=axis)

    def problems(self) -> list[str]:
        return self.method.problems()


def fake_batch(bench: Bench, n: int) -> ABBatch:
    """Noise with real boxes."""
    rng = np.random.default_rng(0)

    def views(b: int, n: int) -> Views:
        placed = np.stack([[boxes.random_box(rng, (bench.size, bench.size)) for _ in range(n)] for _ in range(b)])
        return Views(rng.integers(0, 256, (b, n, bench.size, bench.size, 3), np.uint8), placed)

    return ABBatch(views(max(bench.views // 4, 1), 2), views(bench.views // n, n))


def measure(bench: Bench, method: AB[SimCLR], n: int, variant: str) -> dict[str, Any]:
    batch = jax.device_put(fake_batch(bench, n))
    run = method if variant == "packed" else Naive(method)
    tx = AdamW().build(1000)
    state = jax.jit(lambda batch: train.init(run, tx, 0, batch))(batch)
    step = train.make_step(run, tx, EMA().schedule(1000), 0).lower(state, batch).compile()
    memory = step.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    for _ in range(2):
        state, metrics = jax.block_until_ready(step(state, batch))
    times = []
    for _ in range(bench.repeats):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - start)
    assert np.isfinite(float(metrics["loss"]))
    seconds = float(np.median(times))

    annotations, images = batch.reward.images.shape[0], batch.value.images.shape[0]
    total = 2 * annotations + images * n
    flops = step_flops(run, batch)
    return {
        "variant": variant,
        "n": n,
        "pairs": n * n,
        "ms": 1e3 * seconds,
        "views_per_second": total / seconds,
        "pairs_per_second": images * n * n / seconds,
        "gflops_per_view": flops / total / 1e9,
        "tflops_per_second": flops / seconds / 1e12,
        "peak_bytes": int(peak),
    }


def main(bench: Bench) -> None:
    if wrong := [n for n in bench.ns if n < 1 or bench.views % n]:
        fail([f"--views {bench.views} must be a multiple of every n, which it is not of {wrong}"])
    vit = ViTConfig(bench.width, bench.depth, bench.heads, 4 * bench.width, bench.patch, bench.size)
    vit = replace(vit, dtype=bench.dtype, remat=bench.remat, attention=bench.attention)
    method = AB(SimCLR(vit, hidden=bench.hidden), decoder=replace(bench.decoder, remat=bench.remat))
    if problems := method.problems():
        fail(problems)
    if bench.platform:
        jax.config.update("jax_platforms", bench.platform)
    device = jax.devices()[0].device_kind
    top = bench.peak or PEAK_TFLOPS.get(device, 0.0)
    print(
        f"{device}, jax {jax.__version__}, {bench.views} value views a step, {bench.size} px, "
        f"ViT {bench.width} x {bench.depth}"
    )
    rows: list[dict[str, Any]] = []
    for n in bench.ns:
        for variant in ("packed", "naive") if bench.naive else ("packed",):
            row = measure(bench, method, n, variant)
            if top:
                row["mfu"] = row["tflops_per_second"] / top
            rows.append(row)
            slower, dearer = (row[k] / rows[0][k] for k in ("ms", "gflops_per_view"))
            print(
                f"{variant:<6} n={n:<2} pairs={n * n:<3} ms={row['ms']:.4g} views/s={row['views_per_second']:.4g} "
                f"pairs/s={row['pairs_per_second']:.4g} GFLOP/view={row['gflops_per_view']:.4g} "
                f"time x{slower:.2f} (FLOPs say x{dearer:.2f}) "
                f"TFLOP/s={row['tflops_per_second']:.3g} peak={row['peak_bytes'] / 2**20:.0f} MiB"
                + (f" MFU={row['mfu']:.1%}" if top else ""),
                flush=True,
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
