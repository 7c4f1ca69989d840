"""Several processes are one run: the same figures as one process, and they stop, fail and go on together."""

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from processes import Group, Groups
from runs import rows, saved, steps_of

from abx import hosts, parallel, train
from abx.checkpoint import Checkpoints
from abx.checksum import by_path
from abx.experiment.folder import recipe_of
from abx.experiment.replay import replay

STEPS = 60
EARLY = 6
"""The first step with a checkpoint after the fifth."""
WIDTH = 16
"""Of the backbone."""


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    with Groups(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("compiled"), steps=STEPS) as groups:
        yield groups


@pytest.fixture(scope="module")
def alone(groups):
    return groups.whole("alone", count=1)


@pytest.fixture(scope="module")
def both(groups):
    return groups.whole("both")


def losses(group: Group) -> np.ndarray:
    return np.array([row["loss"] for row in rows(group.out) if "loss" in row])


def state(group: Group, step: int) -> train.TrainState:
    recipe = recipe_of(group.out)
    tx = recipe.optim.build(recipe.steps)
    like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, recipe.data.blank()))
    with Checkpoints(group.out / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(step, like, parallel.replicated(parallel.mesh()))[0]


def agree(one: Group, other: Group, width: int = WIDTH) -> None:
    """Losses to 1e-5, parameters after six steps to 1e-6. But for the biases of the keys, to which a softmax is blind:
    of a gradient that is nothing but rounding Adam makes whole steps.
    """
    np.testing.assert_allclose(losses(one), losses(other), rtol=0, atol=1e-5)
    models = [by_path(state(group, EARLY).model) for group in (one, other)]
    for path, x in models[0].items():
        difference = np.abs(np.asarray(x) - models[1][path])
        if path.endswith("qkv.bias"):
            difference[:, width : 2 * width] = 0
        assert difference.max() < 1e-6, (path, difference.max())


def final(group: Group) -> dict:
    return json.loads((group.out / "final.json").read_text())


def same(one: Group, other: Group) -> None:
    """Bit for bit."""
    assert final(one)["params_sha256"] == final(other)["params_sha256"]
    assert rows(one.out) == rows(other.out)


def ends_with_one_line(
    group: Group, code: int, sentence: str, lost: int, last: str = "another process was lost"
) -> float:
    """All within a minute; process `lost` first, with this code and sentence. Returns the seconds."""
    began = time.monotonic()
    codes = group.end(60)
    assert codes[lost] == code, group.story()
    for i, each in enumerate(group.processes):
        if i == lost:
            assert [sentence in line for line in each.errors()] == ([True] if sentence else []), group.story()
        else:
            assert codes[i] not in (0, -signal.SIGKILL), group.story()
            assert [last in line for line in each.errors()] == [True], group.story()
    return time.monotonic() - began


@pytest.mark.whole
def test_two_make_what_one_makes(alone, both):
    agree(alone, both)


@pytest.mark.whole
def test_only_the_first_writes(both):
    assert steps_of(both.out) == list(range(1, STEPS + 1))
    assert both[0].said().count("written: ") == 1
    assert [both[1].said(), both[0].complained(), both[1].complained()] == ["", "", ""], both.story()


WIDE = 128
SHARED = [f"--method.backbone.width={WIDE}", "--method.backbone.mlp=512", "--steps=12", "--mesh=fsdp"]
"""The two matrices of the MLP are so large that they are shared out."""


@pytest.mark.whole
def test_shared_out_makes_the_same(groups):
    """Evaluated and saved by both, each of which holds a half; read by one that holds all."""
    assert WIDE * 512 >= parallel.SMALL
    looks = ["--eval.every=6", "--eval.train-images=24", "--eval.test-images=12", "--eval.batches=1"]
    one, two = groups.whole("wide", *SHARED, *looks, count=1), groups.whole("shared", *SHARED, *looks)
    agree(one, two, WIDE)
    figures = [[row for row in rows(group.out) if "eval/knn_top1" in row] for group in (one, two)]
    assert [row["step"] for row in figures[0]] == [row["step"] for row in figures[1]] == [0, 6, 12]
    assert figures[0][0]["eval/knn_top1"] == figures[1][0]["eval/knn_top1"]
    # Read by one process, it goes on as it would have.
    shutil.copytree(two.out, groups.folder / "half")
    shutil.rmtree(groups.folder / "half" / "checkpoints" / "12")
    again = groups.whole("half", *SHARED, *looks, count=1)
    assert ": step 6 of 12" in again[0].said()
    agree(one, again, WIDE)


@pytest.mark.whole
def test_a_step_refused_is_kept_by_all_and_told_by_one(groups):
    group = groups.start("wild", *SHARED, "--optim.lr=1e36", "--optim.warmup=0")
    assert group.end(120) == [1, 1], group.story()
    assert [len(each.errors()) for each in group.processes] == [1, 0], group.story()
    (folder,) = group.out.glob("diverged-*")
    assert f"State, batch and key are in {folder}" in group[0].complained()
    assert len(list(folder.glob("batch-*.npz"))) == 2
    found = replay(recipe_of(group.out), group.out)
    assert found.again
    assert found.gradients


@pytest.mark.whole
def test_told_to_stop_both_stop_and_go_on(groups, alone, both):
    group = groups.start("stopped")
    group.wait_for_steps()
    os.kill(group[1].popen.pid, signal.SIGTERM)
    assert group.end() == [143, 143], group.story()
    assert [each.complained() for each in group.processes] == ["", ""]
    step = saved(group.out)[-1]
    assert 0 < step < STEPS
    assert steps_of(group.out) == list(range(1, step + 1))
    assert f"stopped at step {step} by SIGTERM, saved" in group[0].said()
    shutil.copytree(group.out, groups.folder / "one")
    again = groups.whole("stopped")
    assert f": step {step} of {STEPS}" in again[0].said()
    same(again, both)
    one = groups.whole("one", count=1)
    assert f": step {step} of {STEPS}" in one[0].said()
    np.testing.assert_allclose(losses(one), losses(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.whole)])
def test_one_is_killed_and_the_other_ends(groups, both, which):
    group = groups.start(f"killed-{which}")
    group.wait_for_steps()
    os.kill(group[which].popen.pid, signal.SIGKILL)
    took = ends_with_one_line(group, -signal.SIGKILL, "", which)
    print(f"process {which} killed: the other ended after {took:.1f} s")
    if which == 0:
        same(groups.whole(f"killed-{which}"), both)


@pytest.mark.slow
def test_data_that_one_has_not(groups):
    picture(groups.folder / "machine-0" / "pictures" / "0.png")
    group = groups.start("no-data", "--data.train", "folder:pictures")
    codes = group.end(60)
    assert codes == [2, 2], group.story()
    assert len(group[1].errors()) == 1
    assert "--data.train: folder:pictures does not exist" in group[1].complained()
    assert group[0].complained() == "error: process 1 of 2 cannot start with this one, and says why\n"


@pytest.mark.whole
def test_a_disk_that_is_full_for_one(groups):
    """The other waits for a part of the checkpoint that never comes."""
    group = groups.start("full", "--steps", "20000")
    group.wait_for_steps(7)
    resource.prlimit(group[1].popen.pid, resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    ends_with_one_line(group, 1, "a checkpoint could not be written", 1)


@pytest.mark.slow
def test_data_that_goes_away_on_one(groups):
    for machine in ("machine-0", "machine-1"):
        for i in range(20):
            picture(groups.folder / machine / "some" / f"{i}.png")
    group = groups.start("gone", "--data.train", "folder:some", "--steps", "20000", "--ckpt.every", "0")
    group.wait_for_steps()
    shutil.rmtree(groups.folder / "machine-1" / "some")
    ends_with_one_line(group, 1, "records in a row could not be used", 1)


@pytest.mark.slow
def test_a_worker_of_one_is_killed(groups):
    group = groups.start("worker", "--steps", "20000", "--ckpt.every", "0", each={1: ("--data.workers", "1")})
    group.wait_for_steps()
    (worker,) = children(group[1].popen.pid)
    os.kill(worker, signal.SIGKILL)
    ends_with_one_line(group, 1, "terminated unexpectedly", 1)


def children(parent: int) -> list[int]:
    """Those that make batches, without the one that tidies up."""
    proc = Path("/proc")
    found = (proc / f"{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in found if "resource_tracker" not in (proc / pid / "cmdline").read_text()]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (32, 32, 3), np.uint8)).save(path)


@pytest.mark.whole
def test_other_settings_than_the_first_are_refused(groups):
    group = groups.start("odd", each={1: ("--seed", "1", "--optim.lr", "0.5")})
    assert group.end(60) == [2, 2], group.story()
    odd = "process 1 of 2 was started with other settings than process 0: --optim.lr: 0.001 -> 0.5, --seed: 0 -> 1"
    assert group[1].complained() == f"error: {odd}\n"
    assert group[0].complained() == "error: process 1 of 2 cannot start with this one, and says why\n"
    assert not group.out.exists()


@pytest.mark.slow
def test_a_flag_that_one_does_not_understand(groups):
    group = groups.start("wrong", each={0: ("--sed", "1")})
    assert group.end(60) == [2, 2], group.story()
    assert group[0].complained() == "error: there is no flag --sed; did you mean --seed?\n"
    assert group[1].complained() == "error: process 0 of 2 cannot start with this one, and says why\n"


@pytest.mark.slow
def test_told_to_stop_before_the_first_step(groups):
    """Nobody notes the signal yet, so it ends the process as it would any; the other follows."""
    group = groups.start("early")
    while not (group.out / "config.json").exists():  # they have found each other
        assert group[0].popen.poll() is None, group.story()
        time.sleep(0.01)
    os.kill(group[1].popen.pid, signal.SIGTERM)
    codes = group.end(60)
    assert codes[1] in (-signal.SIGTERM, 143), group.story()
    assert codes[0] != 0, group.story()


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param("data", marks=pytest.mark.whole),
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("fsdp", "hybrid")),
    ],
)
def test_four_make_what_one_makes(groups, alone, mesh):
    copies = ("--mesh.copies", "2") if mesh == "hybrid" else ()
    agree(alone, groups.whole(f"four-{mesh}", "--mesh", mesh, *copies, count=4))


@pytest.mark.parametrize(
    ("environ", "said", "one"),
    [
        ({}, False, False),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}, False, True),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, True, True),
        ({"SLURM_STEP_NUM_TASKS": "32", "SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, True, False),
        ({"SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "2,1(x3)"}, True, False),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, True, True),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, True, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True, False),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False, False),
    ],
)
def test_what_launchers_say(environ, said, one):
    """Where each machine has one process, all of the machine's devices are its own."""
    assert (hosts.announced(environ), hosts.one_each(environ)) == (said, one)


@pytest.mark.parametrize(("given", "visible"), [("1(x2)", "all"), ("2", "0")])
def test_a_process_alone_on_its_machine_has_all_its_devices(monkeypatch, given, visible):
    """JAX itself gives it the one of its number."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: jax.config.update("jax_cuda_visible_devices", "0"))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", given)
    before = jax.config.read("jax_cuda_visible_devices")
    try:
        hosts.start()
        assert jax.config.read("jax_cuda_visible_devices") == visible
    finally:
        jax.config.update("jax_cuda_visible_devices", before)


def test_alone_whatever_a_launcher_says(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("asked"))
    hosts.start("none")
