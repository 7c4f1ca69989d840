"""The machine that a run is planned for, and a method's settings as they are there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax

GIB = 2**30

T = TypeVar("T")


class Machine(NamedTuple):
    """Devices to train on, all alike."""

    devices: int
    accelerator: bool
    memory: float
    """GiB that JAX takes of each; 0 = unknown."""

    @property
    def said(self) -> str:
        kind = "accelerator" if self.accelerator else "CPU device"
        return f"{self.devices:,} {kind}{'s' if self.devices > 1 else ''}"


@dataclass(frozen=True)
class Planning:
    """What --dry-run plans for."""

    devices: int = 0
    """Accelerators to plan for, here or elsewhere; 0 = what this machine has: its GPUs, or else its CPU."""
    memory: float = 0.0
    """GiB that JAX may take of each, for a GPU three quarters of what it has unless XLA_PYTHON_CLIENT_MEM_FRACTION says
    otherwise. 0 = this machine's; where the devices are not of this machine nothing is then refused."""
    peak: float = 989.0
    """TFLOP/s of each accelerator at its best; 989 is an H200's in dense bfloat16."""
    mfu: float = 0.4
    """Share of the peak that training reaches."""
    compile: bool = True
    """Compile a step, to know its memory: seconds, or half a minute for a large one. Off = plan without it."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("devices", "memory"):
            if not getattr(self, name) >= 0:
                found.append(f"plan.{name} must be at least 0, not {getattr(self, name)}")
        if not self.peak > 0:
            found.append(f"plan.peak must be above 0, not {self.peak}")
        if not 0 < self.mfu <= 1:
            found.append(f"plan.mfu must be above 0 and at most 1, not {self.mfu}")
        return found

    def machine(self) -> Machine:
        """The machine that is meant. Touches no device."""
        here = this_machine()
        meant = Machine(self.devices, True, here.memory if here.accelerator else 0.0) if self.devices else here
        return meant._replace(memory=self.memory) if self.memory else meant


def this_machine() -> Machine:
    """This machine's GPUs, as its driver lists them, or else its CPU. Touches no device."""
    if gpus := _gpus():
        share = float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION") or 0.75)
        return Machine(len(gpus), True, min(gpus) / 1024 * share)
    devices = max(int(jax.config.jax_num_cpu_devices), 1)  # type: ignore[attr-defined]  # -1 unless it was set
    return Machine(devices, False, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB / devices)


def stand_in(machine: Machine) -> None:
    """Let JAX start with as many CPU devices, and nothing else, for a plan to be compiled for them.

    A plan needs no accelerator, and must not wait for one that is busy. Where JAX has started, it keeps what it has.
    """
    jax.config.update("jax_platforms", "cpu")
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", machine.devices)


def settled(method: T, accelerator: bool) -> T:
    """A method whose settings "auto" say what they mean on an accelerator, or on a CPU."""
    meaning = {"remat": "none", "dtype": "bfloat16"} if accelerator else {"remat": "full", "dtype": "float32"}
    for name, value in meaning.items():
        method = with_every(method, name, value, instead_of="auto")
    return method


def with_every(node: T, name: str, value: str, instead_of: str = "") -> T:
    """A tree of dataclasses in which every field of this name has this value, or every one that had another."""
    if not is_dataclass(node) or isinstance(node, type):
        return node
    changed: dict[str, Any] = {}
    for field in fields(node):
        old = getattr(node, field.name)
        wanted = field.name == name and (not instead_of or old == instead_of)
        changed[field.name] = value if wanted else with_every(old, name, value, instead_of)
    return replace(node, **changed)


def flags_of(node: Any, name: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Each field of this name in a tree of dataclasses: its flag and its value."""
    if is_dataclass(node) and not isinstance(node, type):
        for field in fields(node):
            flag, value = f"{prefix}.{field.name}".replace("_", "-"), getattr(node, field.name)
            yield from [(flag, value)] if field.name == name else flags_of(value, name, flag)


def _gpus() -> list[float]:
    """MiB of each GPU that this process may see."""
    if not (smi := shutil.which("nvidia-smi")):
        return []
    query = [smi, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, capture_output=True, text=True, check=False)
    found = [float(line) for line in said.stdout.split("\n") if line.strip().isdecimal()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else found[: len([name for name in visible.split(",") if name.strip()])]
