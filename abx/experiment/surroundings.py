"""What a run goes on in: versions, devices, and where what was compiled is kept."""

import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import jax

import abx
from abx.data.sources import cache_home
from abx.experiment.saved import write_json


def write_environment(path: Path, now: dict[str, Any]) -> None:
    """What the run goes on in; other surroundings that it was in before are kept under `earlier`."""
    if path.exists():
        before = json.loads(path.read_text())
        earlier = before.pop("earlier", [])
        now = now | {"earlier": earlier if before == now else [*earlier, before]}
    write_json(path, now)


def environment() -> dict[str, Any]:
    """Versions and devices: what a figure needs beside it."""
    core = ("jax", "jaxlib", "equinox", "optax", "grain", "orbax-checkpoint", "numpy", "pillow", "sentencepiece")
    extras = ("simplejpeg", "opencv-python-headless", "pyarrow")
    versions = {name: next((d.version for d in distributions(name=name)), None) for name in (*core, *extras)}
    return {
        "abx": abx.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
        "devices": [str(d.device_kind) for d in jax.devices()],
        "packages": {name: number for name, number in versions.items() if number},
    }


def keep_compiled() -> None:
    """A start on an accelerator compiles nothing that an earlier one has, unless JAX was told where to keep it.

    Not on CPUs: what was compiled for one does not run on every other that may share the folder.
    """
    told = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # made at run time
    if jax.default_backend() != "cpu" and not told:
        jax.config.update("jax_compilation_cache_dir", str(Path(cache_home()) / "compiled"))
