"""The fault run of `benchmarks/faults.py`, with a few faults."""

import json
import subprocess
import sys

import pytest
from runs import ROOT, environment


def faults(cache, *more: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(cache), timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.mark.whole
def test_a_few_faults_change_nothing(tmp_path):
    # Damage comes last in this order, when there are checkpoints to damage.
    found = faults(tmp_path, "--kills", "6", "--seed", "119")
    assert found["faults"] == 6
    assert {kind["count"] for kind in found["by_kind"].values()} == {1}
    assert found["fallbacks"] + found["harmless_damages"] == 2
    assert found["arrays_that_differ"] == found["wrong"] == []
    assert found["figures_equal"]
    assert found["steps_lost"] == 0
