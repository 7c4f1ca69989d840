"""Which devices train and how they share the work: the group `--mesh` of every recipe."""

from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from abx import hosts, parallel
from abx.data.sources import SpecError
from abx.parallel import Kind


@dataclass(frozen=True)
class Meshes:
    """One process finds its own devices; several find each other by the launcher's environment or by these flags."""

    kind: Kind = "data"
    """How the devices share the state. data: each holds all of it; fsdp: each holds a part of parameters, optimiser and
    moving average, and all of a network only while it computes; hybrid: fsdp inside each of --mesh.copies groups.
    Results are the same."""
    copies: int = 0
    """Groups of devices that each hold a whole state, with --mesh.kind hybrid; 0 = one for each machine."""
    coordinator: str = ""
    """HOST:PORT of process 0, where several processes are started by hand; auto = ask the cluster (TPU pods, GKE); none
    = this process is alone, whatever a launcher says. Empty = what SLURM, Open MPI or a TPU slice says, else alone."""
    processes: int = 0
    """How many processes there are, with --mesh.coordinator HOST:PORT."""
    process: int = -1
    """Which of them this is, from 0, with --mesh.coordinator HOST:PORT."""
    heartbeat: int = 20
    """Seconds without a sign of life after which a process counts as lost and all end."""
    joining: int = 300
    """Seconds to wait at the start until all processes have come; then those that are there end."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found, port = [], self.coordinator.rpartition(":")[2]
        by_hand = self.coordinator not in ("", "auto", "none")
        if by_hand and not (":" in self.coordinator and port.isdigit()):
            found.append(
                f"mesh.coordinator must be HOST:PORT, as in 10.0.0.1:1234, auto or none, not {self.coordinator}"
            )
        if by_hand and self.processes < 1:
            found.append(f"mesh.processes must be at least 1 with --mesh.coordinator, not {self.processes}")
        elif by_hand and not 0 <= self.process < self.processes:
            found.append(f"mesh.process must be from 0 to {self.processes - 1}, not {self.process}")
        if not by_hand and (self.processes or self.process >= 0):
            found.append("mesh.coordinator must be HOST:PORT of process 0 with --mesh.processes and --mesh.process")
        if self.heartbeat < 5:
            found.append(f"mesh.heartbeat must be at least 5, not {self.heartbeat}")
        if self.joining < 1:
            found.append(f"mesh.joining must be at least 1, not {self.joining}")
        if self.copies < 0:
            found.append(f"mesh.copies must be at least 0, not {self.copies}")
        if self.copies and self.kind != "hybrid":
            found.append(f"mesh.copies is for --mesh.kind hybrid, not {self.kind}")
        return found

    def start(self) -> None:
        """Join the other processes, if any.

        Raises: SpecError when they do not find each other.
        """
        try:
            hosts.start(self.coordinator, self.processes, self.process, self.heartbeat, self.joining)
        except (RuntimeError, ValueError) as wrong:
            first = str(wrong).strip().partition("\n")[0]
            raise SpecError(f"--mesh.coordinator: the processes did not find each other ({first})") from wrong

    def build(self) -> Mesh:
        """Of all processes' devices. Raises: ValueError."""
        if not hosts.several():
            return parallel.mesh(None, self.kind, self.copies)
        # JAX's own order can leave a process's devices apart (a TPU slice's follows its torus); rows may not be.
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        copies = hosts.machines() if self.kind == "hybrid" and not self.copies else self.copies
        return parallel.mesh(devices, self.kind, copies)
