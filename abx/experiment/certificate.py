"""What `abx verify-resume` has found, for people and for machines."""

import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from abx.experiment.comparing import Comparison


class Restart(NamedTuple):
    """A run that was killed and started again, beside the one that never stopped."""

    workers: tuple[int, int]
    """Before the kill and after it."""
    at: int
    """Step of the newest whole checkpoint when it was killed."""
    began: int
    """Step that it said it went on from."""
    compared: Comparison
    """Of its last state."""
    digests: bool
    """Whether final.json says the same of the parameters."""

    @property
    def equal(self) -> bool:
        return self.began == self.at and self.compared.first is None and self.digests

    @property
    def text(self) -> str:
        before, after = self.workers
        said = f"killed (SIGKILL) with {before} workers, went on from step {self.began} with {after}: "
        if self.equal:
            return f"{said}equal"
        found = []
        if self.began != self.at:
            found.append(f"it had saved step {self.at}")
        if self.compared.first:
            count = f"{self.compared.differ} of {self.compared.leaves} leaves"
            found.append(f"{count}, the first {self.compared.first.text}")
        if not self.digests:
            found.append("final.json has other sha256 of the parameters")
        return f"{said}DIFFERS: {'; '.join(found)}"


class Certificate(NamedTuple):
    command: Sequence[str]
    """Of the run: script, preset and flags."""
    steps: int
    """In the middle of the run."""
    sha256: str
    """Of the last state of the run that never stopped."""
    restarts: tuple[Restart, ...]
    environment: dict[str, Any]
    """As `run.environment` has it."""

    @property
    def equal(self) -> bool:
        return all(restart.equal for restart in self.restarts)

    @property
    def leaves(self) -> int:
        return self.restarts[0].compared.leaves

    @property
    def devices(self) -> str:
        kinds: list[str] = self.environment["devices"]
        return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))

    @property
    def versions(self) -> str:
        own = {"abx": self.environment["abx"], "Python": self.environment["python"]}
        return ", ".join(f"{name} {version}" for name, version in {**own, **self.environment["packages"]}.items())

    @property
    def text(self) -> str:
        verdict, steps = "EQUAL" if self.equal else "NOT EQUAL", 2 * self.steps
        lines = [
            f"{verdict}: {steps} steps with a restart and {steps} steps without",
            f"  run       {shlex.join(self.command)}",
            *(f"  restart   {restart.text}" for restart in self.restarts),
            f"  compared  {self.leaves} leaves bit for bit: step, model, target, carry and state of the optimiser",
            f"  sha256    {self.sha256} of the run without a restart",
            f"  device    {self.devices}; {self.environment['platform']}",
            f"  versions  {self.versions}",
        ]
        return "\n".join(lines + [f"  {sentence}" for sentence in self.hints()])

    def hints(self) -> list[str]:
        """Where to look, when it is not equal."""
        found: list[str] = []
        if self.equal:
            return found
        if len({number for restart in self.restarts for number in restart.workers}) > 1:
            found.append("restart or workers? --workers 0 leaves the number of workers as it is")
        if not all("cpu" in kind.lower() for kind in self.environment["devices"]):
            found.append(
                "an accelerator may add in another order each time, or choose other kernels: try again with "
                "XLA_FLAGS=--xla_gpu_deterministic_ops=true"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        differing = next((restart.compared.first for restart in self.restarts if restart.compared.first), None)
        return {
            "equal": self.equal,
            "leaves": self.leaves,
            "steps": 2 * self.steps,
            "sha256": self.sha256,
            "first": differing._asdict() if differing else None,
            "restarts": [
                {"workers": r.workers, "from": r.began, "saved": r.at, "equal": r.equal, "differ": r.compared.differ}
                for r in self.restarts
            ],
            "command": list(self.command),
            "devices": self.environment["devices"],
            "versions": {"abx": self.environment["abx"], "python": self.environment["python"]}
            | self.environment["packages"],
        }
