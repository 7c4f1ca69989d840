"""abx doctor: what is made of machines that are made up, and that it answers on this one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abx import cli as console
from abx.cli.doctor import devices, findings, machine, ours, packages
from abx.cli.doctor.devices import Seen, check_devices
from abx.cli.doctor.findings import GIB, Finding, summary, within
from abx.cli.doctor.packages import Needs, check_packages, fits
from abx.data.decoding import Rates, measure, pictures
from abx.data.sources import SpecError

NEEDS = Needs(">=3.11", ("jax>=0.10.2", "grain>=0.2.18,<0.3"), {"fast": ("simplejpeg>=1.9",), "cuda": ("jax[cuda13]",)})
WELL = {"jax": "0.10.2", "jaxlib": "0.10.2", "grain": "0.2.19", "simplejpeg": "1.9.0"}
CPU = Seen(({"kind": "cpu", "platform": "cpu", "memory": 0},))
GPU = Seen(({"kind": "NVIDIA H200", "platform": "gpu", "memory": 105 * GIB},) * 2)
H200 = ("NVIDIA H200, 143771 MiB",)


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found if finding.level != "ok"]


@pytest.mark.parametrize(
    ("version", "wanted", "well"),
    [
        ("0.10.2", ">=0.10.2", True),
        ("0.9.9", ">=0.10.2", False),
        ("0.10", ">=0.10.0", True),
        ("0.3.0", ">=0.2.18,<0.3", False),
        ("0.2.20", ">=0.2.18,<0.3", True),
        ("1.0rc1", ">=1.0", True),
        ("3.11.7", "", True),
    ],
)
def test_ranges(version, wanted, well):
    assert fits(version, wanted) is well


def test_packages():
    assert levels(check_packages(NEEDS, WELL, "3.12.1")) == []
    python, *_ = check_packages(NEEDS, WELL, "3.10.0")
    assert (python.level, python.what) == ("WRONG", "Python 3.10.0 is not >=3.11")
    old = [f for f in check_packages(NEEDS, WELL | {"grain": "0.3.1"}, "3.12.1") if f.level == "WRONG"]
    assert [(f.what, f.fix) for f in old] == [
        ("grain 0.3.1 is not >=0.2.18,<0.3", "python -m pip install 'grain>=0.2.18,<0.3'")
    ]
    without = {name: version for name, version in WELL.items() if name in ("jaxlib", "grain")}
    jax, fast = (f for f in check_packages(NEEDS, without, "3.12.1") if f.level != "ok")
    assert (jax.level, jax.what) == ("WRONG", "jax is missing")
    assert (fast.level, "[fast]" in fast.fix, "simplejpeg is missing" in fast.what) == ("note", True, True)


def test_needs_are_those_of_this_checkout():
    wanted = packages.needs()
    assert any(each.startswith("orbax-checkpoint>=") for each in wanted.packages)
    assert set(packages.PURPOSES) <= set(wanted.extras)
    assert levels(check_packages(wanted, packages.installed(), "3.12.1")) == []


def test_needs_as_installed(monkeypatch):
    """Where there is no pyproject.toml beside the package."""
    here = packages.needs()
    monkeypatch.setattr(packages.abx, "__file__", "/nowhere/abx/__init__.py")
    installed = packages.needs()
    name = lambda each: packages._name(each)
    assert {name(each) for each in installed.packages} == {name(each) for each in here.packages}
    assert {name(each) for each in installed.extras["fast"]} == {"simplejpeg", "opencv-python-headless"}


def test_devices():
    well = check_devices(H200 * 2, 0, GPU, {}, {})
    assert [(f.level, f.what) for f in well] == [("ok", "JAX sees 2 x NVIDIA H200 (105.0 GiB)")]
    assert levels(check_devices((), 0, CPU, {}, {})) == ["note"]  # a CPU is not wrong
    _, unseen = check_devices(H200, 0, CPU, {"jax": "0.10.2"}, {})
    assert (unseen.level, "[cuda]" in unseen.fix) == ("WRONG", True)
    _, unseen = check_devices((), 4, CPU, {"jax": "0.10.2"}, {})
    assert (unseen.level, "[tpu]" in unseen.fix) == ("WRONG", True)
    _, failed = check_devices(H200, 0, CPU._replace(said="no driver"), {"jax-cuda13-plugin": "0.10.2"}, {})
    assert (failed.level, "[cuda]" in failed.fix, "no driver" in failed.fix) == ("WRONG", False, True)
    for variable in ({"JAX_PLATFORMS": "cpu"}, {"CUDA_VISIBLE_DEVICES": ""}):  # someone has wanted it so
        _, hidden = check_devices(H200, 0, CPU, {}, variable)
        assert (hidden.level, hidden.fix) == ("note", f"unset {next(iter(variable))}")
    (none,) = check_devices((), 0, Seen((), "no answer in 25 s"), {}, {})
    assert (none.level, "no answer" in none.what) == ("WRONG", True)
    for seen in (GPU, CPU):
        assert levels(check_devices(None, 0, seen, {}, {})) == ["WRONG"]  # nvidia-smi hangs


def test_a_driver_that_never_answers(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nexec sleep 60\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(devices, "SMI", 0.1)
    monkeypatch.setattr(devices, "JAX", 0.05)
    assert devices.gpus() is None
    assert devices.seen().said.startswith("no answer in")
    smi.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB'\n")
    monkeypatch.setattr(devices, "SMI", 5.0)
    assert devices.gpus() == H200


def test_what_never_answers_is_left():
    began = time.monotonic()
    assert within(0.05, lambda: time.sleep(5)) is None
    assert time.monotonic() - began < 2
    assert within(5.0, lambda: 3) == 3
    with pytest.raises(OSError, match="gone"):
        within(5.0, lambda: (_ for _ in ()).throw(OSError("gone")))


def test_the_machine(tmp_path):
    assert levels(machine.check_power(2, 8 * GIB)) == []
    assert levels(machine.check_power(2, 2 * GIB)) == ["WRONG"]
    for size, level in ((None, "WRONG"), (64 * 2**20, "WRONG"), (GIB, "note"), (8 * GIB, "ok")):
        assert machine.check_shared_memory(size).level == level
    assert machine.check_open_files(256, 4096) == ("WRONG", "256 files may be open", "ulimit -n 4096")
    assert "administrator" in machine.check_open_files(256, 256).fix
    assert machine.check_open_files(1024, 1024).level == "ok"
    disk = machine.Disk("cache", tmp_path, 100 * GIB)
    assert machine.check_disk(disk).level == "ok"
    for broken, level in (({"free": None}, "WRONG"), ({"free": GIB // 2}, "WRONG"), ({"free": 5 * GIB}, "note")):
        assert machine.check_disk(disk._replace(**broken)).level == level
    assert "ABX_CACHE" in machine.check_disk(disk._replace(writable=False)).fix
    assert machine.disk("cache", tmp_path / "not" / "yet").free > 0


def test_variables():
    found = machine.check_environment(
        {"HOME": "/", "XLA_FLAGS": "--xla_x", "JAX_DISABLE_JIT": "1", "JAX_ENABLE_X64": "0"}
    )
    assert [f.what.partition("=")[0] for f in found] == ["JAX_DISABLE_JIT", "JAX_ENABLE_X64", "XLA_FLAGS"]
    assert [(f.level, f.fix) for f in found if f.level != "ok"] == [("note", "unset JAX_DISABLE_JIT")]
    assert ours.check_launcher({"SLURM_STEP_NUM_TASKS": "8"}).level == "note"
    assert ours.check_launcher({"SLURM_STEP_NUM_TASKS": "1"}).level == "ok"


def test_decoding(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    found = measure(pictures(f"folder:{tmp_path}", 4), 0.05, 2)
    assert (found.pictures, found.height, found.width, found.threads) == (1, 40, 60, 2)
    assert min(found.one, found.all) > 0
    assert len(pictures("", 2)) == 2
    with pytest.raises(SpecError, match="--data: "):
        pictures(f"folder:{tmp_path}/nowhere", 1)
    rates = Rates(16, 256, 256, 20e3, 2500, 5000, 2)
    assert ours.say_rates(rates, "", fast=True).level == "ok"
    assert "[fast]" in ours.say_rates(rates, "", fast=False).fix


def test_data_that_take_too_long(monkeypatch):
    monkeypatch.setattr(ours, "ANSWER", 0.01)
    monkeypatch.setattr(ours, "pictures", lambda spec, most: time.sleep(1))
    (found,) = ours.check_decoding("tar:/slow/*.tar", 1, True)
    assert (found.level, "abx data index" in found.fix) == ("WRONG", True)


def test_summary():
    assert summary([]) == "no problems, no notes"
    assert summary([Finding("WRONG", "a"), Finding("note", "b"), Finding("note", "c")]) == "1 problem, 2 notes"
    assert findings.Finding("WRONG", "a", "b").text == "WRONG  a\n       -> b"


def test_here(capsys, tmp_path):
    """That of this machine: which may lack something, but says so in the form it promises, and soon."""
    began = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        console.main(["doctor", "--data", f"folder:{tmp_path}/nowhere", "--json"])
    assert time.monotonic() - began < 40
    *lines, last = capsys.readouterr().out.splitlines()
    node = json.loads(last)
    assert node["problems"] >= 1
    assert stop.value.code == 1
    assert "JAX sees 1 x cpu" in [finding["what"] for finding in node["findings"]]
    assert all(line[:7] in ("ok     ", "note   ", "WRONG  ", "       ") for line in lines[:-2])
    assert lines[-1].startswith(f"{node['problems']} problem")


def test_a_package_that_is_broken():
    """It is for when things do not work: it must answer all the same."""
    program = "import sys; sys.modules['equinox'] = None; from abx.cli import main; main(['doctor'])"
    env = os.environ | {"PYTHONPATH": str(Path(console.__file__).parents[2])}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
    assert said.returncode == 1, said.stderr
    assert "WRONG  abx cannot be imported: ModuleNotFoundError" in said.stdout
    assert "equinox" in said.stdout
