"""abx verify-resume: a run that resumes as it should is certified, one that does not is found out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import ROOT, command, environment

from abx import cli as console
from abx.checksum import by_path
from abx.data.sources import SpecError
from abx.experiment import verifying
from abx.experiment.comparing import compare, sha256
from abx.experiment.folder import load
from abx.experiment.verifying import Trial, find_script
from recipes import NAMES

TREE = {"model": {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.zeros(3, jnp.bfloat16)}, "step": jnp.int32(7)}


def flipped(x, bit: int = 0, at: int = 0):
    """One bit of one element is another."""
    x = np.array(x)
    x.reshape(-1).view(f"u{x.dtype.itemsize}")[at] ^= 1 << bit
    return jnp.asarray(x)


# Comparing


def test_equal():
    again = jax.tree.map(jnp.copy, TREE)
    assert compare(TREE, again) == (3, 0, None)
    assert sha256(TREE) == sha256(again)


def test_one_bit_is_found_and_named():
    other = TREE | {"model": TREE["model"] | {"w": flipped(TREE["model"]["w"], at=2)}}
    leaves, differ, first = compare(TREE, other)
    assert (leaves, differ, first.leaf, first.kind, first.elements, first.of) == (
        3,
        1,
        "model.w",
        "float32[2, 2]",
        1,
        4,
    )
    assert first.largest == 2**-22  # the last bit of a number in [2, 4)
    assert "model.w (float32[2, 2]) in 1 of 4 elements, by 2.38e-07 at most" in first.text
    assert sha256(TREE) != sha256(other)


@pytest.mark.parametrize(
    ("one", "other", "kind", "elements", "largest"),
    [
        (jnp.zeros(2), -jnp.zeros(2), "float32[2]", 2, 0.0),
        (jnp.full(2, jnp.nan), flipped(jnp.full(2, jnp.nan)), "float32[2]", 1, 0.0),
        (jnp.ones(2), jnp.array([1.0, jnp.inf]), "float32[2]", 1, None),
        (jnp.ones(2, jnp.bfloat16), flipped(jnp.ones(2, jnp.bfloat16)), "bfloat16[2]", 1, 2**-7),
        (jnp.int32(3), jnp.int32(5), "int32[]", 1, 2.0),
        (jnp.ones(2), jnp.ones(2, jnp.int32), "float32[2] and int32[2]", None, None),
        (jnp.ones(2), jnp.ones((2, 1)), "float32[2] and float32[2, 1]", None, None),
        (jax.random.key(0), jax.random.key(1), "uint32[2]", 1, 1.0),
    ],
)
def test_kinds_of_differences(one, other, kind, elements, largest):
    assert compare({"x": one}, {"x": one}).first is None
    first = compare({"x": one}, {"x": other}).first
    assert (first.leaf, first.kind, first.elements, first.largest) == ("x", kind, elements, largest)


def test_a_leaf_that_is_missing():
    less = {"step": TREE["step"], "model": {"w": TREE["model"]["w"]}}
    for found in (compare(TREE, less), compare(less, TREE)):
        assert (found.leaves, found.differ, found.first.leaf) == (3, 1, "model.b")
        assert "absent" in found.first.text


# The whole of it


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def verify(cache, monkeypatch, capsys):
    """Calls abx verify-resume; exit code, stdout and stderr."""
    for name, value in environment(cache).items():
        monkeypatch.setenv(name, value)

    def verify(*argv: object, flags: list[str] = ()) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            console.main(["verify-resume", *map(str, argv), *(["--", *flags] if flags else [])])
        return stop.value.code, *capsys.readouterr()

    return verify


def tiny(name: str) -> list[str]:
    """Flags that make a recipe tiny, without those that are not for whoever asks."""
    _, _, _, *words = command(name, Path("x"), 1)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return [word for flag, value in pairs if flag.removeprefix("--") not in verifying.SET for word in (flag, value)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the runs of the first test are for the second, which needs one of them."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.whole
def test_resumes(verify, kept):
    """Then a bit of a last state is turned, and that is found."""
    code, out, err = verify("simclr", "--steps", 12, "--out", kept, "--json", flags=tiny("simclr"))
    assert (code, err) == (0, ""), out + err
    node = json.loads(out.splitlines()[-1])
    assert (node["equal"], node["first"], node["steps"]) == (True, None, 24)
    assert [(each["workers"], each["equal"]) for each in node["restarts"]] == [([0, 2], True), ([2, 0], True)]
    assert all(0 < each["from"] < 24 for each in node["restarts"])
    assert "EQUAL: 24 steps with a restart and 24 steps without" in out
    assert node["sha256"] in out
    state, other = load(kept / "straight")[1], load(kept / "restarted-2-0")[1]
    assert node["leaves"] == len(jax.tree.leaves(state)) == compare(state, other).leaves
    leaf = max(range(len(jax.tree.leaves(state))), key=lambda i: jax.tree.leaves(state)[i].size)
    leaves, kind = jax.tree.flatten(other)
    changed = jax.tree.unflatten(kind, [flipped(x) if i == leaf else x for i, x in enumerate(leaves)])
    found = compare(state, changed)
    assert (found.differ, found.first.elements) == (1, 1)
    assert found.first.leaf == list(by_path(state))[leaf]


FORGETFUL = """
import runpy, sys
import jax
from abx.checkpoint import Checkpoints
restore = Checkpoints.restore

def changed(self, step, like, shardings):
    state, meta = restore(self, step, like, shardings)
    leaves, kind = jax.tree.flatten(state)
    leaves[1] = leaves[1] + 2.0**-12
    return jax.tree.unflatten(kind, leaves), meta

Checkpoints.restore = changed
sys.argv[0] = {script!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A recipe that resumes with a little more in an array of the network than it had saved."""


@pytest.mark.whole
def test_does_not_resume(verify, kept, tmp_path, monkeypatch):
    script = tmp_path / "forgetful.py"
    script.write_text(FORGETFUL.format(script=str(ROOT / "recipes" / "simclr.py")))
    to_the_end = verifying._to_the_end

    def at_once(command: list[str], out: Path) -> int:
        """The run that never stops is that of the test before, if it has run."""
        if out.name == "straight" and (kept / "straight").is_dir():
            shutil.copytree(kept / "straight", out)
            return 0
        return to_the_end(command, out)

    monkeypatch.setattr(verifying, "_to_the_end", at_once)
    code, out, err = verify(script, "--steps", 12, "--workers", 0, "--json", flags=tiny("simclr"))
    assert (code, err) == (1, ""), out + err
    node = json.loads(out.splitlines()[-1])
    assert node["equal"] is False
    assert node["first"]["leaf"].startswith("model.")
    assert node["first"]["largest"] > 0
    assert "DIFFERS: " in out
    assert f"the first {node['first']['leaf']} (float32" in out


# What cannot be


def test_refusals(verify, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert verify("simcl") == (2, "", "error: there is no recipe 'simcl'; did you mean simclr?\n")
    code, _, err = verify("simclr", "--steps", 1, "--workers", -1, "--out", tmp_path / "full", flags=["--steps=3"])
    assert code == 2
    assert [line.split()[1] for line in err.splitlines()] == ["--steps", "--workers", "--steps", "--out"]
    (tmp_path / "recipe.py").write_text("import sys; print('so far so good'); sys.exit('error: --optim.lr is wrong')")
    said = "error: the recipe ended with code 1: --optim.lr is wrong\n"
    assert verify(tmp_path / "recipe.py")[::2] == (2, said)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    code, _, err = verify("simclr")
    assert (code, "this is for one" in err) == (2, True)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_script(name) == ROOT / "recipes" / f"{name}.py"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{name}.py").touch()
    assert find_script(name) == Path("recipes") / f"{name}.py"
    assert find_script(f"recipes/{name}.py") == Path("recipes") / f"{name}.py"


HASTY = """
import sys, time
from pathlib import Path
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
steps, every = int(given["--steps"]), int(given["--ckpt.every"])
for step in range(1, steps + 1) if every == 1 and {slow} else [steps]:
    (Path(given["--out"]) / "checkpoints" / str(step)).mkdir(parents=True)
    time.sleep(0.2)
"""
"""Stands for a recipe whose second half is over before anyone can see it begin."""


def trial(tmp_path: Path, program: str) -> Trial:
    (tmp_path / "recipe.py").write_text(program)
    return Trial(tmp_path / "recipe.py", "smoke", 4, (0,), (), tmp_path)


def test_a_run_that_is_over_before_it_is_killed(tmp_path):
    """Once more, and more slowly; if that does not help either, it is said."""
    at, every = verifying._interrupted(trial(tmp_path, HASTY.format(slow=True)), tmp_path / "run", 0)
    assert (at, every) == (1, 1)
    with pytest.raises(SpecError, match="give more --steps"):
        verifying._interrupted(trial(tmp_path, HASTY.format(slow=False)), tmp_path / "run", 0)


def test_a_signal_ends_what_was_started(tmp_path):
    (tmp_path / "recipe.py").write_text(
        f"import os, time\nopen('{tmp_path}/pid', 'x').write(str(os.getpid()))\ntime.sleep(60)"
    )
    asked = subprocess.Popen(
        [sys.executable, "-m", "abx", "verify-resume", str(tmp_path / "recipe.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        assert asked.poll() is None
        time.sleep(0.02)
    asked.send_signal(signal.SIGTERM)
    assert asked.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
