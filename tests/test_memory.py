"""The host's memory is flat however long a run is: batches, checkpoints and metrics leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs import command, environment

STEPS = 2000
MEGABYTE = 2**20


def resident(leader: int) -> int:
    """Bytes held by the processes of a session: private ones, and shared ones once (proportional set size)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                rollup = (stat.parent / "smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1])
        except OSError:
            continue
    return total


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_flat_over_two_thousand_steps(tmp_path, workers):
    """No more than 30 MB between step 500 and the end, with a checkpoint every 20 steps.

    One batch of this run is 37 kB: a leak of one batch a step would be 55 MB, of one state (0.3 MB) a checkpoint 22 MB
    more. The allocator's own noise is a few MB; medians over windows of 100 steps leave it out.
    """
    line = command("ab_simclr", tmp_path / "run", STEPS, workers)
    line[line.index("--ckpt.every") + 1] = "20"
    said = tmp_path / "said"
    with said.open("w") as out:
        run = subprocess.Popen(
            line, stdout=out, stderr=subprocess.STDOUT, env=environment(tmp_path / "compiled"), start_new_session=True
        )
    seen: dict[int, list[int]] = {}
    try:
        while run.poll() is None:
            steps = re.findall(r"^step (\d+)/", said.read_text(), re.M)
            if steps:
                seen.setdefault(int(steps[-1]) // 100, []).append(resident(run.pid))
            time.sleep(0.25)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, said.read_text()
    assert json.loads((tmp_path / "run" / "final.json").read_text())["step"] == STEPS
    middle = {100 * k: sorted(found)[len(found) // 2] / MEGABYTE for k, found in seen.items()}
    print(f"\n{workers} workers, MB by step:", {k: round(v, 1) for k, v in middle.items()})
    late = [v for k, v in middle.items() if 500 <= k < STEPS]
    assert len(late) >= 10
    assert late[-1] - late[0] < 30
    assert max(late) - min(late) < 45
