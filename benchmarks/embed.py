#!/usr/bin/env python3
"""What `abx embed` costs beside its two parts: reading and decoding, and the bare forward pass.

The parts are timed each alone, over the same pictures. One after the other they would take their sum; `embed` overlaps
them, so where each has hardware of its own (threads decode, an accelerator computes) it takes as long as the slower.
On a CPU they share the cores and the sum is what there is to reach. `share` is the sum over embed's time: 1 = nothing
lost, above 1 = time saved by the overlap. The issue asks for 0.9.

  python benchmarks/embed.py                          10,000 small JPEGs, made up; minutes on a laptop
  python benchmarks/embed.py --init S/16 --size 224 --data folder:~/Pictures --batch 512

Columns: images/s of reading and decoding, of the forward pass, of both by the sum and by the slower, of embed; share.
The last line is JSON.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import jax
import numpy as np
import tyro
from PIL import Image

import abx
from abx import parallel
from abx.data.sources import Source, SpecError
from abx.data.specs import open_source
from abx.experiment.cli import fail
from abx.experiment.loading import named, untrained
from abx.probes.features import Look, extract, pictures, pooled_only


@dataclass(frozen=True)
class Bench:
    data: str = ""
    """Pictures, as for a recipe; empty = JPEGs that are made up."""
    images: int = 10_000
    """How many are made up."""
    side: int = 64
    """Their sides in pixels."""
    init: str = "Ti/16"
    """The network, untrained: Ti, S, B, L or H, with the side of a patch."""
    size: int = 64
    """Side of a view in pixels."""
    batch: int = 256
    """Pictures per forward pass."""
    threads: int = 0
    """Threads that read and decode; 0 = as many as there are cores."""
    rounds: int = 3
    """Turns of each part; the median counts."""


def make(folder: Path, count: int, side: int) -> None:
    """Smooth noise, which compresses like photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:06d}.jpg", quality=90)


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(bench: Bench, source: Source) -> dict[str, float | int | str]:
    mesh, look, count = parallel.mesh(), Look(bench.size), len(source)
    batch = -(-bench.batch // mesh.size) * mesh.size
    backbone = parallel.place(untrained(bench.init, size=bench.size).backbone, parallel.replicated(mesh))
    view = np.random.default_rng(0).integers(0, 256, (batch, bench.size, bench.size, 3), np.uint8)
    batches = -(-count // batch)

    def decode() -> None:
        for _ in pictures(source, range(count), look, batch, [], bench.threads):
            pass

    def forward() -> None:
        # With the transfer of the pictures, as in embed: no forward pass does without.
        for _ in range(batches):
            found = pooled_only(backbone, parallel.place(view, parallel.batched(mesh)))
        jax.block_until_ready(found)

    def embed() -> None:
        extract(backbone, source, look, tokens=False, batch=batch, threads=bench.threads)

    jax.block_until_ready(pooled_only(backbone, parallel.place(view, parallel.batched(mesh))))
    # In turns, for what else the machine does to fall on all alike.
    turns = [[timed(part) for part in (decode, forward, embed)] for _ in range(bench.rounds)]
    decoding, computing, both = (median(column) for column in zip(*turns, strict=True))
    return {
        "images": count,
        "network": bench.init,
        "size": bench.size,
        "batch": batch,
        "decode_images_per_second": count / decoding,
        "forward_images_per_second": count / computing,
        "sum_images_per_second": count / (decoding + computing),
        "slower_images_per_second": count / max(decoding, computing),
        "embed_images_per_second": count / both,
        "share": median((d + f) / e for d, f, e in turns),
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "abx": abx.__version__,
        "jax": jax.__version__,
    }


def main(bench: Bench) -> None:
    problems = [] if named(bench.init) else [f"--init must be Ti, S, B, L or H, as in S/16, not {bench.init}"]
    for name in ("images", "side", "size", "batch", "rounds"):
        if getattr(bench, name) < 1:
            problems.append(f"--{name} must be at least 1, not {getattr(bench, name)}")
    if problems:
        fail(problems)
    with tempfile.TemporaryDirectory() as folder:
        if not bench.data:
            make(Path(folder), bench.images, bench.side)
        try:
            source = open_source(bench.data or f"folder:{folder}")
        except SpecError as wrong:
            fail([f"--data: {wrong}"])
        row = measure(bench, source)
    print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
    print(json.dumps(row))


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
