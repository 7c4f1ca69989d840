#!/usr/bin/env python3
"""What devices tell each other in a step of the paper's presets, and what that leaves of their speed.

The step is compiled, not run, for so many simulated CPU devices, which takes no memory to speak of and, for each row,
about a minute. Bytes are read off the program. The projection is arithmetic with the assumptions that are flags:
computing at a share of the peak, then sending by rings over the slowest link, nothing of it hidden behind the other.

  python benchmarks/communication.py                                six methods, data parallel and fully sharded, 8
  python benchmarks/communication.py --methods simclr --devices 8 32 128
  python benchmarks/communication.py --project --methods ab_simclr  views/s from 1 to 512 accelerators

Columns: MB that a step sums, gathers, and shares out as sums, and that each device sends; GFLOP of a step per device.
The last line is JSON.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import jax
import tyro

from abx import parallel, train
from abx.analysis.communication import communication, sent
from abx.analysis.cost import step_flops
from abx.data.streams import views_per_step
from abx.experiment.config import Recipe
from abx.experiment.planning import settled

METHODS = ("simclr", "ab_simclr", "clip", "ab_clip", "dino", "ab_dino")
CHIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
NODE = 8
"""Accelerators with fast links to each other."""


@dataclass(frozen=True)
class Bench:
    methods: tuple[str, ...] = METHODS
    """Recipes, whose preset paper is meant."""
    kinds: tuple[parallel.Kind, ...] = ("data", "fsdp")
    """How the state lies on the devices; hybrid has groups of 8."""
    devices: tuple[int, ...] = (8,)
    """How many simulated devices to compile for."""
    project: bool = False
    """Also the projection, from the first of --devices."""
    peak: float = 989.0
    """TFLOP/s of an accelerator."""
    mfu: float = 0.4
    """Share of it that one alone reaches."""
    link: float = 450.0
    """GB/s that an accelerator sends to those of its node; 450 is NVLink's of an H200."""
    network: float = 50.0
    """GB/s that it sends to other nodes; 50 is a 400 Gbit/s adapter for each."""


def recipe_of(name: str) -> Recipe:
    path = Path(__file__).parent.parent / "recipes" / f"{name}.py"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Recipe = module.PRESETS["paper"]
    return found


def measure(name: str, kind: parallel.Kind, devices: int) -> dict[str, Any]:
    recipe = recipe_of(name)
    method = settled(recipe.method, True)
    mesh = parallel.mesh(jax.devices()[:devices], kind, devices // NODE if kind == "hybrid" else 0)
    batch, tx = recipe.data.blank(), recipe.optim.build(recipe.steps)
    state = jax.eval_shape(lambda batch: train.init(method, tx, recipe.seed, batch), batch)
    step = train.make_step(method, tx, recipe.ema.schedule(recipe.steps), recipe.seed, mesh)
    found = communication(step, state, batch, mesh)
    return {
        "method": name,
        "kind": kind,
        "devices": devices,
        "views": views_per_step(recipe.data),
        **{f"{key}_mb": found[key].size / 1e6 if key in found else 0.0 for key in SHOWN},
        **{f"{key}_messages": found[key].messages if key in found else 0 for key in SHOWN},
        "sent_mb": sent(found) / 1e6,
        "gflop": step_flops(method, batch) / devices / 1e9,
    }


SHOWN = ("all-reduce", "all-gather", "reduce-scatter")


def projected(bench: Bench, row: dict[str, Any]) -> list[dict[str, float]]:
    """The same batch on so many accelerators. A ring sends (n - 1) / n of the arrays, whatever n."""
    n = row["devices"]
    whole, arrays = row["gflop"] * n * 1e9, row["sent_mb"] * 1e6 * n / (n - 1)
    found = []
    for chips in CHIPS:
        computing = whole / chips / (bench.peak * 1e12 * bench.mfu)
        sending = arrays * (chips - 1) / chips / ((bench.link if chips <= NODE else bench.network) * 1e9)
        seconds = computing + sending
        share = computing / seconds
        found.append({"chips": chips, "views_per_second": row["views"] / seconds, "efficiency": share})
    return found


def main(bench: Bench) -> None:
    rows = []
    for devices in bench.devices:
        for name in bench.methods:
            for kind in bench.kinds:
                row = measure(name, kind, devices)
                rows.append(row)
                print(
                    " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True
                )
    projections = []
    for row in [row for row in rows if bench.project and row["devices"] == bench.devices[0]]:
        for each in projected(bench, row):
            print(f"{row['method']} {row['kind']}: " + " ".join(f"{k}={v:.4g}" for k, v in each.items()))
            projections.append({"method": row["method"], "kind": row["kind"], **each})
    print(json.dumps({"rows": rows, "projections": projections, "jax": jax.__version__}))


if __name__ == "__main__":
    chosen = tyro.cli(Bench, description=__doc__)
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(chosen.devices))
    main(chosen)
