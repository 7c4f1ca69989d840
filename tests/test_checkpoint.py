"""A checkpoint is whole or not there, comes back bit for bit, and the last few and the best are kept."""

import errno
import json
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_AB, random_views

from abx import parallel, train
from abx.checkpoint import CheckpointError, Checkpoints
from abx.optim import AdamW
from abx.types import ABBatch

TX = AdamW().build(10)
NOISE = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)


def small(step: int = 0):
    """A state of a few arrays, of every type there is in one. `w` is large enough to have a file of its own."""
    parts = {"w": jnp.asarray(NOISE) + step, "none": None}
    opt = (jnp.uint32(step), (), {"bf": jnp.full((3,), 1.1, jnp.bfloat16), "flag": jnp.array([True, False])})
    return train.TrainState(jnp.int32(step), parts, {"w": -parts["w"]}, jnp.float32(0.1), opt)


def like(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def placed(state, devices=None):
    return jax.device_put(state, parallel.replicated(parallel.mesh(devices)))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert x.weak_type == y.weak_type
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def sharding():
    return parallel.replicated(parallel.mesh())


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 2 and 4 on disk."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (2, 4):
            checkpoints.save(step, placed(small(step)), {"step": step})
    return folder


def noise(shapes):
    """Any state of these shapes, without compiling what would make a real one."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.integers(0, 100, x.shape) * 1.1, x.dtype), shapes)


def test_bit_for_bit(tmp_path, ab_batch, sharding):
    """A state of AB with Adam: values, types, classes and treedef."""
    state = placed(noise(jax.eval_shape(lambda batch: train.init(TINY_AB, TX, 0, batch), ab_batch)))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, state, {"nested": {"list": [1, 2.5, None, "x"]}})
    with Checkpoints(tmp_path / "c") as checkpoints:
        again, meta = checkpoints.restore_newest(like(state), sharding)
    same(state, again)
    assert type(again) is train.TrainState
    assert meta == {"nested": {"list": [1, 2.5, None, "x"]}}


def test_saved_while_it_is_given_away(tmp_path, sharding):
    """The step that follows overwrites the buffers before they are on disk."""
    state, before = placed(small(1)), placed(small(1))
    step = jax.jit(lambda s: jax.tree.map(lambda x: ~x if x.dtype == bool else x * 0, s), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(5):
            state = step(state)
        same(before, checkpoints.restore(1, like(before), sharding)[0])


@pytest.mark.parametrize(("from_", "to"), [(8, 2), (2, 8), (8, 1), (1, 8)])
def test_onto_another_number_of_devices(tmp_path, from_, to):
    state = placed(small(7), jax.devices()[:from_])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, {})
    new = parallel.replicated(parallel.mesh(jax.devices()[:to]))
    with Checkpoints(tmp_path) as checkpoints:
        again, _ = checkpoints.restore(7, like(state), new)
    same(state, again)
    assert all(x.sharding.device_set == set(jax.devices()[:to]) for x in jax.tree.leaves(again))


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("scores", "kept", "best"),
    [
        ([None, None, None, None], [3, 4], None),
        ([0.1, 0.9, 0.2, 0.3], [2, 3, 4], 2),
        ([0.9, float("nan"), 0.2, None], [1, 3, 4], 1),
        ([float("nan")] * 4, [3, 4], None),
        ([0.5, 0.5, None, None], [2, 3, 4], 2),
        ([-3.0, float("-inf"), None, float("inf")], [1, 3, 4], 1),
        ([0.1, 0.2, 0.3, 0.4], [3, 4], 4),
    ],
)
def test_keeps_the_last_two_and_the_best(tmp_path, scores, kept, best, restarts):
    """NaN and no score never win, and scores outlive the program."""
    checkpoints = Checkpoints(tmp_path, keep=2, keep_best=True)
    for step, score in enumerate(scores, 1):
        if restarts:
            checkpoints.close()
            checkpoints = Checkpoints(tmp_path, keep=2, keep_best=True)
        checkpoints.save(step, {"x": jnp.float32(step)}, {}, score)
    checkpoints.close()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == kept
        assert checkpoints.best() == best
        assert checkpoints.latest() == 4
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == kept


def test_keeps_one_every_so_many_steps(tmp_path):
    with Checkpoints(tmp_path, 1, True, 4) as checkpoints:
        for step in (1, 2, 3, 4, 6, 7, 8, 9):
            checkpoints.save(step, {"x": jnp.float32(step)}, {}, 1.0 if step == 2 else 0.5)
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [2, 4, 8, 9]


def test_without_keep_best_only_the_last(tmp_path):
    with Checkpoints(tmp_path, keep=1, keep_best=False) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"x": jnp.float32(step)}, {}, 1.0 / step)
    assert [p.name for p in tmp_path.iterdir()] == ["3"]


def test_a_step_that_is_there_is_left_alone(saved, sharding):
    with Checkpoints(saved) as checkpoints:
        checkpoints.save(4, placed(small(99)), {"step": 99})
        again, meta = checkpoints.restore(4, like(small()), sharding)
    same(placed(small(4)), again)
    assert meta == {"step": 4}


def test_nothing_there_yet(tmp_path, sharding):
    for folder in (tmp_path / "new", tmp_path):
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.latest() is None
            assert checkpoints.best() is None
            assert checkpoints.restore_newest(like(small()), sharding) is None


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "checkpoints").write_text("x")
    with pytest.raises(CheckpointError, match="checkpoints cannot hold checkpoints: it is a file"):
        Checkpoints(tmp_path / "checkpoints")


def test_what_was_cut_off_while_saving_is_ignored_and_removed(saved, sharding):
    half = saved / "6.orbax-checkpoint-tmp"
    shutil.copytree(saved / "4", half)
    (half / "state" / "manifest.ocdbt").unlink()
    with Checkpoints(saved, read_only=True) as checkpoints:  # a run may be writing it
        assert checkpoints.latest() == 4
    assert half.exists()
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.latest() == 4
        same(placed(small(4)), checkpoints.restore_newest(like(small()), sharding)[0])
        checkpoints.save(6, placed(small(6)), {"step": 6})
    assert not half.exists()
    with Checkpoints(saved) as checkpoints:
        same(placed(small(6)), checkpoints.restore(6, like(small()), sharding)[0])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HARM = {
    "empty": lambda f: (shutil.rmtree(f), f.mkdir()),
    "no state": lambda f: shutil.rmtree(f / "state"),
    "no meta": lambda f: shutil.rmtree(f / "meta"),
    "half of meta": lambda f: truncate(f / "meta" / "metadata"),
    "no metadata": lambda f: (f / "state" / "_METADATA").unlink(),
    "half of metadata": lambda f: truncate(f / "state" / "_METADATA"),
    "no manifest": lambda f: (f / "state" / "manifest.ocdbt").unlink(),
    "half of manifest": lambda f: truncate(f / "state" / "manifest.ocdbt"),
    "no data": lambda f: shutil.rmtree(f / "state" / "ocdbt.process_0"),
    "empty data": lambda f: [p.write_bytes(b"") for p in (f / "state" / "ocdbt.process_0" / "d").iterdir()],
    "half of the data": lambda f: [truncate(p) for p in (f / "state").rglob("d/*")],
}


@pytest.mark.parametrize("harm", HARM)
def test_a_broken_one_gives_way_to_the_one_before(saved, sharding, harm, capfd):
    HARM[harm](saved / "4")
    with Checkpoints(saved, read_only=True) as checkpoints:
        same(placed(small(2)), checkpoints.restore_newest(like(small()), sharding)[0])
    assert sorted(p.name for p in saved.iterdir()) == ["2", "4"]
    capfd.readouterr()
    with Checkpoints(saved) as checkpoints:
        state, meta = checkpoints.restore_newest(like(small()), sharding)
        same(placed(small(2)), state)
        assert meta == {"step": 2}
        err = capfd.readouterr().err
        assert err.count("\n") == 1, err
        assert f"{saved / '4'} is not whole" in err
        assert "going on from step 2" in err
        checkpoints.save(4, placed(small(4)), {"step": 4})
    assert sorted(p.name for p in saved.iterdir()) == ["2", "4", "broken-4"]
    with Checkpoints(saved) as checkpoints:
        same(placed(small(4)), checkpoints.restore_newest(like(small()), sharding)[0])


def flip(path: Path, bit: int) -> bytes:
    """Turns over one bit of a file; returns what the file was."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    return before


def test_a_flipped_bit_of_an_array_is_never_taken_for_what_was_saved(saved, sharding, capfd):
    """Orbax sees none of them: NOISE cannot be compressed, and what is decoded has no checksum of its own."""
    rng = random.Random(0)
    data = max((saved / "4").rglob("d/*"), key=lambda path: path.stat().st_size)
    damaged = 0
    for _ in range(10):
        before = flip(data, rng.randrange(8 * data.stat().st_size))
        with Checkpoints(saved, read_only=True) as checkpoints:
            state, meta = checkpoints.restore_newest(like(small()), sharding)
        same(placed(small(meta["step"])), state)  # step 4 only where the bit is part of nothing
        said = capfd.readouterr().err
        assert (meta["step"] == 2) == (said != "")
        sentence = rf"{saved / '4'} is damaged: (model|target)\.w is not what was saved; going on from step 2\n"
        damaged += bool(re.fullmatch(sentence, said))
        data.write_bytes(before)
    assert damaged >= 7
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.restore_newest(like(small()), sharding)[1] == {"step": 4}
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_beside_the_arrays_is_seen(tmp_path, sharding):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, {"x": jnp.float32(4)}, {"seen": 123, "name": "é"}, 0.5)
    path = tmp_path / "4" / "meta" / "metadata"
    text = path.read_text()
    said = set()
    for word in ("score", "0.5", "seen", "123", "checksums", "crc32", '"x"', "{", "00e9"):
        at = text.index(word) + len(word) // 2
        before = flip(path, 8 * at)
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            with pytest.raises(CheckpointError, match=r"4 is damaged: meta is not what was|4 is not whole") as found:
                checkpoints.restore(4, {"x": jnp.float32(0)}, sharding)
            said.add(str(found.value).split(" is ")[1][:7])
            assert checkpoints.best() is None
        path.write_bytes(before)
    assert said == {"damaged", "not who"}


def test_one_from_before_there_were_checksums(saved, sharding):
    path = saved / "4" / "meta" / "metadata"
    content = json.loads(path.read_text())
    assert content.keys() == {"score", "meta", "checksums", "crc32"}
    path.write_text(json.dumps({name: content[name] for name in ("score", "meta")}))
    with Checkpoints(saved) as checkpoints:
        state, meta = checkpoints.restore(4, like(small()), sharding)
    same(placed(small(4)), state)
    assert meta == {"step": 4}


def test_all_broken_is_an_error_and_nothing_is_moved(saved, sharding):
    for step in ("2", "4"):
        HARM["no manifest"](saved / step)
    with Checkpoints(saved) as checkpoints, pytest.raises(CheckpointError, match="4 is not whole"):
        checkpoints.restore_newest(like(small()), sharding)
    assert sorted(p.name for p in saved.iterdir()) == ["2", "4"]


def test_another_model_gives_one_clear_sentence(saved, sharding, capfd):
    state = like(small())
    wide = state._replace(model=state.model | {"w": jax.ShapeDtypeStruct((2, 4), jnp.float32)})
    cases = {
        r"model\.w is float32\[100, 100\] there and float32\[2, 4\] here$": wide,
        r"carry is float32\[\] there and int32\[\] here$": state._replace(carry=jax.ShapeDtypeStruct((), jnp.int32)),
        r"model\.new is absent there and float32\[\] here$": state._replace(
            model=state.model | {"new": jax.ShapeDtypeStruct((), jnp.float32)}
        ),
        r"opt\.0 is uint32\[\] there and absent here, and 2 more differ$": state._replace(opt=()),
    }
    with Checkpoints(saved) as checkpoints:
        for sentence, other in cases.items():
            with pytest.raises(CheckpointError, match=r"4 is of another model: " + sentence):
                checkpoints.restore_newest(other, sharding)
    assert sorted(p.name for p in saved.iterdir()) == ["2", "4"]
    assert capfd.readouterr().err == ""


def test_names_of_a_real_state_are_those_orbax_gives(tmp_path, rng, sharding):
    batch = ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, placed(noise(jax.eval_shape(lambda: train.init(TINY_AB, TX, 0, batch)))), {})
        other = jax.eval_shape(lambda: train.init(replace(TINY_AB, value_embed=24), TX, 0, batch))
        with pytest.raises(CheckpointError, match=r"is of another model: .*value.* is float32\[.*20.*24.*more differ"):
            checkpoints.restore(1, other, sharding)


def test_an_error_inside_is_not_hidden_by_a_save_that_fails(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, placed(small(1)), {})
    checkpoints.wait()
    checkpoints.manager.close = lambda: (_ for _ in ()).throw(OSError("no space left"))
    with pytest.raises(ZeroDivisionError), checkpoints:
        raise ZeroDivisionError
    assert "could not be written" in capsys.readouterr().err


TWO = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
from pathlib import Path
import numpy as np
from jax.experimental import multihost_utils
from abx import parallel
from abx.checkpoint import Checkpoints
folder, mesh = Path(sys.argv[3]), parallel.mesh(jax.devices())
x = np.random.default_rng(0).normal(size=(400, 100)).astype(np.float32)
make = lambda over: jax.make_array_from_callback(x.shape, over(mesh), lambda part: x[part])
state = {"split": make(parallel.batched), "whole": make(parallel.replicated)}
assert not state["split"].is_fully_addressable
like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name in state}
with Checkpoints(folder) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, state, {"step": step})
    checkpoints.wait()
    if jax.process_index() == 0:
        largest = max((folder / "2").rglob("d/*"), key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 1
        largest.write_bytes(data)
    multihost_utils.sync_global_devices("damaged")
    again, meta = checkpoints.restore_newest(like, parallel.batched(mesh))
    assert meta == {"step": 1}
    checkpoints.save(2, again, {"step": 2, "again": True})
"""


def test_saved_by_two_processes_together(tmp_path):
    """Each holds a part of the arrays. One may not be able to read at all what is damaged, and then both go back
    to the step before. A single process reads what both wrote.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-c", TWO, str(port)]
    both = [subprocess.Popen([*start, str(i), str(tmp_path)], stdout=-1, stderr=-1, text=True) for i in range(2)]
    try:
        said = [process.communicate(timeout=120)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    assert all(re.search(r"2 is (damaged: (split|whole) is|not whole \(.*\)).*; going on from step 1", x) for x in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "broken-2"]
    x = np.random.default_rng(0).normal(size=(400, 100)).astype(np.float32)
    like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name in ("split", "whole")}
    with Checkpoints(tmp_path) as checkpoints:
        for devices, over in ((8, parallel.batched), (1, parallel.replicated)):
            state, meta = checkpoints.restore_newest(like, over(parallel.mesh(jax.devices()[:devices])))
            assert meta == {"step": 2, "again": True}
            for array in state.values():
                np.testing.assert_array_equal(array, x)


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from abx.checkpoint import Checkpoints
folder = Path(sys.argv[1])
state = lambda step: {"x": np.random.default_rng(step).random(6_000_000, np.float32)}
written = lambda: sum(path.stat().st_size for path in folder.glob("2*/**/d/*"))
def kill():
    while not written():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
with Checkpoints(folder) as checkpoints:
    checkpoints.save(1, state(1), {"step": 1})
    checkpoints.wait()
    threading.Thread(target=kill, daemon=True).start()
    checkpoints.save(2, state(2), {"step": 2})
"""


def test_killed_in_the_middle_of_a_save(tmp_path, sharding):
    """kill -9 as soon as there is a file with some of the arrays: what is there of it is not taken for a checkpoint."""
    start = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(start, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (half,) = (path for path in tmp_path.iterdir() if path.name != "1")
    assert half.name == "2.orbax-checkpoint-tmp"
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1]
        state, meta = checkpoints.restore_newest({"x": jax.ShapeDtypeStruct((6_000_000,), jnp.float32)}, sharding)
    assert meta == {"step": 1}
    np.testing.assert_array_equal(state["x"], np.random.default_rng(1).random(6_000_000, np.float32))
    assert not half.exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
import jax.numpy as jnp
from abx.checkpoint import CheckpointError, Checkpoints
folder = Path(sys.argv[1])
state = lambda step: {"x": jnp.arange(400_000, dtype=jnp.float32) * 1.1 + step}
with Checkpoints(folder) as checkpoints:
    checkpoints.save(1, state(1), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(2, state(2), {})
except CheckpointError as wrong:
    print(wrong)
else:
    sys.exit("no error")
"""


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays(tmp_path, sharding):
    """Files can be no longer than 100 kB, which for a writer is the same as a disk that fills up half-way."""
    folder = tmp_path / "c"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"a checkpoint could not be written to {folder} (")
    assert done.stdout.count("\n") == 1
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest() == 1
        again, _ = checkpoints.restore_newest({"x": jax.ShapeDtypeStruct((400_000,), jnp.float32)}, sharding)
        np.testing.assert_array_equal(again["x"], np.arange(400_000, dtype=np.float32) * np.float32(1.1) + 1)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # Python's own setting, which the limit relies on
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_score_that_comes_after_the_save(tmp_path):
    """As on several hosts, where a checkpoint does not wait for an evaluation: it keeps the best, outlives the program,
    and one that is no number, or of a step that is not there, is nothing."""
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, score in ((1, 0.5), (2, float("nan")), (3, 0.4)):
            checkpoints.save(step, {"x": jnp.float32(step)}, {})
            checkpoints.wait()
            checkpoints.rate(step, score)
        checkpoints.rate(7, 1.0)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best()) == ([1, 3], 1)
        checkpoints.save(4, {"x": jnp.float32(4)}, {})
    assert kept(tmp_path) == [1, 4]
    (tmp_path / "scores.json").write_text('{"1": ')  # a score is not worth a run
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best() is None


@pytest.mark.parametrize("times", [1, 2])
def test_a_disk_that_does_not_answer_is_no_damage(tmp_path, monkeypatch, times, sharding):
    """Asked again it may; if not, nothing is put aside and nothing older is taken for the newest."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small(step), {})
    monkeypatch.setattr("abx.checkpoint.time.sleep", lambda seconds: None)
    read, asked = Checkpoints._read, []

    def failing(self, step, **items):
        asked.append(step)
        if "state" in items and sum(s == 2 for s in asked) and failures:
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        return read(self, step, **items)

    with Checkpoints(tmp_path) as checkpoints:
        failures = [None] * times
        monkeypatch.setattr(Checkpoints, "_read", failing)
        if times == 1:
            assert int(checkpoints.restore_newest(like(small()), sharding)[0].step) == 2
        else:
            with pytest.raises(CheckpointError, match="Input/output error"):
                checkpoints.restore_newest(like(small()), sharding)
        assert checkpoints.steps() == [1, 2]
    assert kept(tmp_path) == [1, 2]


def kept(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
