"""Accelerators: those the system has, and those that JAX sees."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abx.cli.doctor.findings import Finding, gib

ASK = """
import json, jax
memory = lambda d: (d.memory_stats() or {}).get("bytes_limit", 0)
say = lambda d: {"kind": d.device_kind, "platform": d.platform, "memory": memory(d)}
print(json.dumps([say(d) for d in jax.local_devices()]))
"""
SMI, JAX = 5.0, 25.0
"""Seconds that the driver and JAX have to answer."""


class Seen(NamedTuple):
    """What JAX sees."""

    devices: tuple[Mapping[str, Any], ...]
    """Each with kind, platform and memory (bytes that JAX may take, 0 = it does not say)."""
    said: str = ""
    """What it complained of: the last line."""


def gpus() -> tuple[str, ...] | None:
    """The system's NVIDIA GPUs, "NVIDIA H200, 143771 MiB"; None where the driver does not answer."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    query = [smi, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=SMI, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(line.strip() for line in said.stdout.splitlines() if line.strip()) if not said.returncode else None


def tpus() -> int:
    """Files that stand for the chips of a TPU host."""
    return len([*Path("/dev").glob("accel[0-9]*")])


def seen() -> Seen:
    """JAX is asked in a process of its own: it may wait for ever for a device that another process has."""
    # All of the memory is not needed to say what there is, and another program may be using it. What a launcher says of
    # several processes is for recipes.
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        said = subprocess.run(
            [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=JAX, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        return Seen((), f"no answer in {JAX:.0f} s")
    complaint = (said.stderr.strip().splitlines() or [""])[-1]
    if said.returncode:
        return Seen((), complaint or f"it ended with code {said.returncode}")
    return Seen(tuple(json.loads(said.stdout.splitlines()[-1])), complaint)


def check_devices(
    system: Sequence[str] | None, chips: int, jax: Seen, there: Mapping[str, str], environ: Mapping[str, str]
) -> list[Finding]:
    """Args:
    system: the system's GPUs, as `gpus` says them.
    chips: as `tpus` says.
    there: version by name of what is installed.
    """
    found = []
    if system is None:
        fix = "see whether the driver runs: nvidia-smi; sudo dmesg"
        found.append(Finding("WRONG", "nvidia-smi does not answer", fix))
    if not jax.devices:
        found.append(Finding("WRONG", f"JAX finds no device: {jax.said}", _fix_none(environ)))
        return found
    kinds = [f"{each['kind']}" + (f" ({gib(each['memory'])})" if each["memory"] else "") for each in jax.devices]
    found += [Finding("ok", f"JAX sees {kinds.count(kind)} x {kind}") for kind in dict.fromkeys(kinds)]
    if any(each["platform"] != "cpu" for each in jax.devices):
        return found
    if not (system or chips):
        if system is not None:
            found.append(
                Finding(
                    "note", "no accelerator: the preset smoke is for a CPU, small for a patient one, paper for none"
                )
            )
        return found
    what = f"the system has {len(system)} x {system[0]}" if system else f"the system has {chips} TPU chips"
    meant = [f"{name}={environ[name]}" for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES") if _hides(name, environ)]
    if meant:
        why = f"JAX uses the CPU because of {', '.join(meant)}"
        found.append(Finding("note", f"{what}, and {why}", f"unset {meant[0].partition('=')[0]}"))
        return found
    extra, plugin = ("cuda", "jax-cuda") if system else ("tpu", "libtpu")
    if not any(name.startswith(plugin) for name in there):
        fix = f"python -m pip install 'annotation-bootstrapping[{extra}]', in a checkout '.[{extra}]'"
    else:
        why = jax.said or "python -c 'import jax; jax.devices()' may say why"
        fix = f"JAX's part for it is installed and does not start: {why}"
    found.append(Finding("WRONG", f"{what}, and JAX sees only the CPU", fix))
    return found


def _hides(name: str, environ: Mapping[str, str]) -> bool:
    if name == "JAX_PLATFORMS":
        return environ.get(name, "") == "cpu"
    return environ.get(name, "all") in ("", "-1")


def _fix_none(environ: Mapping[str, str]) -> str:
    if asked := environ.get("JAX_PLATFORMS"):
        return f"JAX_PLATFORMS={asked} allows no other: unset it"
    return "see whether another process has the device, and that the driver is one for this version of JAX"
