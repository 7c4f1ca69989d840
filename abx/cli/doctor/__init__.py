"""`abx doctor`: what is here, and what is wrong with it."""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abx.cli.doctor.findings import Finding


@dataclass(frozen=True)
class Doctor:
    """What is here and what is wrong, with what to do: versions, devices, memory, disks, limits, speed of decoding.

    Takes some seconds. Ends with 0 when nothing is wrong, with 1 when something is.
    """

    data: str = ""
    """Data whose first pictures are decoded, e.g. folder:~/Pictures. Empty = built-in ones."""
    json: bool = False
    """Also print one JSON object, on the last line: {"problems": 1, "findings": [{"level": "WRONG", "what": "...",
    "fix": "..."}, ...]}."""

    def __call__(self) -> None:
        from abx.cli.doctor.findings import summary

        found = []
        for finding in examine(self.data):
            print(finding.text, flush=True)
            found.append(finding)
        print(f"\n{summary(found)}")
        problems = sum(finding.level == "WRONG" for finding in found)
        if self.json:
            print(json.dumps({"problems": problems, "findings": [finding._asdict() for finding in found]}))
        raise SystemExit(1 if problems else 0)


def examine(spec: str) -> Iterator["Finding"]:
    """One thing after the other, so that what is measured has the machine to itself."""
    from abx.cli.doctor import devices, machine, packages
    from abx.cli.doctor.findings import within

    there = packages.installed()
    yield from packages.check_packages(packages.needs(), there, platform.python_version())
    # Both give up in time, unless the system cannot even end what they have started.
    system = within(2 * devices.SMI, devices.gpus)
    seen = within(2 * devices.JAX, devices.seen) or devices.Seen((), "no answer, and it cannot be ended")
    yield from devices.check_devices(system, devices.tpus(), seen, there, os.environ)
    yield from machine.check_power(machine.cores(), machine.memory())
    yield machine.check_disk(machine.disk("current folder", Path.cwd()))
    yield machine.check_shared_memory(machine.shared_memory())
    yield machine.check_open_files(*machine.open_files())
    yield from machine.check_environment(os.environ)
    broken = packages.check_ours()
    yield from broken
    if not broken:
        from abx.cli.doctor import ours

        yield machine.check_disk(machine.disk("cache", ours.cache()))
        yield ours.check_launcher(os.environ)
        yield from ours.check_decoding(spec, machine.cores(), "simplejpeg" in there)
