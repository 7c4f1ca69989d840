"""What the devices of a mesh tell each other in a step, read off the compiled program."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from abx.analysis.cost import placed
from abx.train import Step, TrainState

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
SIZES |= {"f64": 8, "s64": 8, "u64": 8}
HOST = ("infeed", "outfeed", "send", "recv")
"""Instructions that wait for the host."""

_LINE = re.compile(r"= (?P<shape>\(.*?\)|\S+) (?P<kind>[a-z-]+?)(?P<start>-start)?\(")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


class Traffic(NamedTuple):
    messages: int
    """In a step."""
    size: int
    """Bytes of the whole arrays they are about: what is summed, gathered, or summed and shared out."""
    sent: float
    """Bytes that each device sends, and receives, by the ring algorithm within each group that takes part."""


def communication(step: Step, state: TrainState, batch: Any, mesh: Mesh) -> dict[str, Traffic]:
    """By kind of collective; those that do not occur are left out. Compiles the step for the mesh's devices.

    Args:
        step: of `train.make_step(..., mesh)`.
        state, batch: of the right shapes, abstract ones included.
    """
    return collectives(program(step, state, batch, mesh), mesh.size)


def program(step: Step, state: TrainState, batch: Any, mesh: Mesh) -> str:
    """The optimised program of each device, as XLA writes it."""
    lowered = step.lower(*placed(state, batch, mesh))  # type: ignore[attr-defined]  # jitted, which Step does not say
    cpu = mesh.devices.flat[0].platform == "cpu"
    # Collectives are settled before LLVM optimises the rest.
    compiled = lowered.compile({"xla_backend_optimization_level": 0} if cpu else None)
    return str(compiled.as_text())


def collectives(text: str, devices: int) -> dict[str, Traffic]:
    """Those of a program's text. What stands in a loop counts once: nothing is sent in the scan over layers."""
    found: dict[str, Traffic] = {}
    for line in text.splitlines():
        match = _LINE.search(line)
        if match is None or match["kind"] not in KINDS:
            continue
        kind = match["kind"]
        sizes = [SIZES[name] * _length(shape) for name, shape in _SHAPE.findall(match["shape"]) if name in SIZES]
        # An asynchronous gather names its operand as well as its result; the result is the larger.
        size = max(sizes) if match["start"] and kind == "all-gather" else sum(sizes)
        ring = _group(line) or devices
        size *= ring if kind == "reduce-scatter" else 1
        sent = size * (ring - 1) / ring * (2 if kind == "all-reduce" else 1)
        before = found.get(kind, Traffic(0, 0, 0.0))
        found[kind] = Traffic(before.messages + 1, before.size + size, before.sent + sent)
    return found


def sent(found: Mapping[str, Traffic]) -> float:
    """Bytes that each device sends in a step, by ring algorithms."""
    return sum(traffic.sent for traffic in found.values())


def waits_for_host(text: str) -> list[str]:
    """What of a program's text waits for the host: infeed and the like, and calls back into Python."""
    words = [word for word in HOST if re.search(rf" {word}(-start)?\(", text)]
    return words + re.findall(r'custom_call_target="([^"]*callback[^"]*)"', text)


def _group(line: str) -> int:
    """How many devices take part in each of a message's groups; 0 = all."""
    listed, counted = (
        re.search(r"replica_groups=\{\{([\d,]*)\}", line),
        re.search(r"replica_groups=\[\d+,(\d+)\]", line),
    )
    if counted:
        return int(counted[1])
    return len(listed[1].split(",")) if listed else 0


def _length(shape: str) -> int:
    length = 1
    for number in filter(None, shape.split(",")):
        length *= int(number)
    return length
