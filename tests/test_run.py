"""Whole runs: resumed equals never stopped, and what a folder refuses."""

import fcntl
import json
import re
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import one_device, rows, saved, steps_of, tiny

from abx import parallel, train
from abx.checkpoint import Checkpoints
from abx.data.sources import SpecError
from abx.experiment import Checkpointing, Evaluation, Logging, drawing
from abx.experiment import run as running
from abx.experiment.folder import load
from abx.experiment.ledger import Ledger
from abx.experiment.resuming import prepare
from abx.experiment.saved import to_json
from abx.experiment.surroundings import environment, write_environment
from abx.train import TrainState


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def whole(compiled, tmp_path_factory):
    """(name) -> recipe and last state of a run without a break, made once."""
    made = {}

    def get(name):
        if name not in made:
            # An evaluation costs more than all steps; one method shows what becomes of it.
            looks = {} if name == "simclr" else {"eval": Evaluation(every=0)}
            recipe = tiny(name, tmp_path_factory.mktemp("whole") / name, **looks)
            made[name] = recipe, running.run(recipe)
        return made[name]

    return get


@pytest.fixture
def step_fns(monkeypatch):
    """The step functions that runs make."""
    made, original = [], train.make_step
    monkeypatch.setattr(train, "make_step", lambda *a: made.append(original(*a)) or made[-1])
    return made


def stop_at(monkeypatch, step, number):
    """Sends a signal when the batch of a step comes."""
    original = Ledger.__call__

    def call(self, at, loaded):
        if at == step:
            signal.raise_signal(number)
        original(self, at, loaded)

    monkeypatch.setattr(Ledger, "__call__", call)


def on_pictures(folder, good, bad=()):
    """A folder of so many pictures and of files that are none, and a quick run on it."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(good):
        Image.fromarray(np.full((20, 20, 3), 40 * i, np.uint8)).save(pictures / f"{i}.png")
    for i, data in enumerate(bad):
        (pictures / f"bad{i}.png").write_bytes(data)
    recipe = tiny("simclr", folder / "run", **QUICK)
    return pictures, replace(recipe, data=replace(recipe.data, train=f"folder:{pictures}"))


def final(out):
    return json.loads((out / "final.json").read_text())


@pytest.mark.parametrize(("name", "number"), [("ab", signal.SIGTERM), ("simclr", signal.SIGINT)])
def test_resumed_equals_never_stopped(whole, tmp_path, name, number, monkeypatch, step_fns, capsys):
    recipe, straight = whole(name)
    pieced = replace(recipe, out=tmp_path / name)
    with monkeypatch.context() as patch:
        stop_at(patch, 4, number)
        with pytest.raises(SystemExit) as stopped:
            running.run(pieced)
    assert stopped.value.code == 128 + number
    assert not {"final.json", "value_map.png"} & {p.name for p in pieced.out.iterdir()}
    assert "step 5 of 8" in (pieced.out / "report.txt").read_text()
    resumed = running.run(pieced)

    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(straight), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    one, two = final(recipe.out), final(pieced.out)
    assert one["step"] == two["step"] == 8
    assert one["params_sha256"] == two["params_sha256"]
    assert one["params_sha256"].keys() == {"online", "target"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in one["params_sha256"].values())
    assert one["params_sha256"]["online"] != one["params_sha256"]["target"]
    assert rows(pieced.out) == rows(recipe.out)
    looked = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert steps_of(recipe.out) == (looked if name == "simclr" else [1, 2, 3, 4, 5, 6, 7, 8])
    # Once before the stop and once after it: a restored state is no other state to the compiler.
    assert [step_fn._cache_size() for step_fn in step_fns[-2:]] == [1, 1]
    again = load(pieced.out)[1]
    assert running.digests(again) == one["params_sha256"]


def test_digests_see_every_array_and_its_place():
    state = TrainState(jnp.int32(0), {"a": jnp.zeros(2), "b": jnp.ones(2)}, {"a": jnp.zeros(2)}, (), ())
    same = running.digests(state)
    assert same == running.digests(state)
    swapped = running.digests(state._replace(model={"a": jnp.ones(2), "b": jnp.zeros(2)}))
    assert swapped["online"] != same["online"]
    assert swapped["target"] == same["target"]


def test_a_finished_run_again_changes_nothing(whole, tmp_path):
    import shutil

    recipe, straight = whole("simclr")
    out = tmp_path / "again"
    shutil.copytree(recipe.out, out)
    for name in ("report.txt", "views.png", "final.json"):
        (out / name).unlink()
    again = running.run(replace(recipe, out=out))
    assert running.digests(again) == running.digests(straight)
    assert (out / "metrics.jsonl").read_bytes() == (recipe.out / "metrics.jsonl").read_bytes()
    assert final(out) == final(recipe.out)
    for name in ("report.txt", "views.png"):
        assert (out / name).stat().st_size > 0
    assert saved(out) == saved(recipe.out)


def test_a_broken_newest_checkpoint_costs_a_few_steps(whole, tmp_path, monkeypatch, capfd):
    recipe, _ = whole("simclr")
    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        with pytest.raises(SystemExit):
            running.run(replace(recipe, out=out))
    (out / "checkpoints" / "6" / "state" / "manifest.ocdbt").unlink()
    with (out / "rejected.jsonl").open("w") as file:  # and a list of rejected records that a kill cut off
        file.write('{"name": "a", "reason": "b"}\n{"name": "c", "rea')
    capfd.readouterr()
    running.run(replace(recipe, out=out))
    said = capfd.readouterr()
    assert said.err.count("going on from step 4") == 1
    assert said.err.count("\n") == 1, said.err
    assert "step 4 of 8" in said.out
    assert final(out)["params_sha256"] == final(recipe.out)["params_sha256"]
    assert rows(out) == rows(recipe.out)
    assert (out / "rejected.jsonl").read_text() == '{"name": "a", "reason": "b"}\n'


# Eight steps, as above, so that the program is the one that was compiled above.
QUICK = {"eval": Evaluation(every=0), "ckpt": Checkpointing(every=0), "log": Logging(every=0)}


def test_nothing_but_the_end(compiled, tmp_path):
    recipe = tiny("simclr", tmp_path / "quick", **QUICK)
    running.run(recipe)
    assert steps_of(recipe.out) == [8]
    assert saved(recipe.out) == [8]
    assert final(recipe.out)["step"] == 8
    assert not list(recipe.out.glob("*.tmp"))


def test_no_resume_starts_anew(compiled, tmp_path, capsys):
    recipe = tiny("simclr", tmp_path / "anew", **QUICK)
    running.run(recipe)
    one = final(recipe.out)
    (recipe.out / "checkpoints" / "mine.txt").write_text("from the first run")
    capsys.readouterr()
    running.run(replace(recipe, resume=False))
    assert "step 0 of 8" in capsys.readouterr().out
    assert not (recipe.out / "checkpoints" / "mine.txt").exists()
    assert final(recipe.out)["params_sha256"] == one["params_sha256"]
    prepare(replace(recipe, resume=False, seed=1))  # also with other settings
    assert json.loads((recipe.out / "config.json").read_text())["seed"] == 1
    assert sorted(p.name for p in recipe.out.iterdir()) == [".lock", "config.json", "environment.json"]


def refused(recipe, capsys):
    """The sentences with which a run is refused."""
    with pytest.raises(SystemExit) as stopped:
        running.run(recipe)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_no_resume_deletes_nothing_that_is_not_a_run(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "precious").write_text("x")
    said = refused(tiny("simclr", tmp_path, resume=False, **QUICK), capsys)
    assert f"--no-resume would delete checkpoints in {tmp_path}, which holds no config.json and so no run" in said
    assert (tmp_path / "checkpoints" / "precious").exists()


def test_other_settings_are_refused(tmp_path, capsys):
    recipe = tiny("simclr", tmp_path, **QUICK)
    prepare(recipe)
    before = (recipe.out / "config.json").read_bytes()
    prepare(replace(recipe, force=True, ckpt=replace(recipe.ckpt, keep_every=5)))  # neither of which matters
    prepare(recipe)
    said = refused(replace(recipe, seed=1), capsys)
    assert "holds a run with other settings" in said
    assert "--seed: 0 -> 1" in said
    assert (recipe.out / "config.json").read_bytes() == before
    (recipe.out / "config.json").write_text("{")
    assert "config.json cannot be read" in refused(recipe, capsys)


def test_two_at_once_are_refused(tmp_path):
    recipe = tiny("simclr", tmp_path, **QUICK, resume=False)
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match="is being written by another process; give another --out, or wait"):
            running.run(recipe)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be written: Not a directory"):
        running.run(tiny("simclr", tmp_path / "file" / "run", **QUICK))


def test_a_checkpoint_of_another_program_is_one_sentence(compiled, tmp_path, capsys):
    recipe = tiny("simclr", tmp_path / "other", **QUICK)
    with Checkpoints(recipe.out / "checkpoints") as checkpoints:
        checkpoints.save(1, {"x": jnp.float32(1)}, {})
    prepare(replace(recipe, seed=1))
    before = (recipe.out / "config.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        running.run(replace(recipe, force=True))  # which nothing can
    assert stopped.value.code == 1
    assert re.fullmatch(
        r"error: .*checkpoints/1 is of another model: .* and \d+ more differ\n", capsys.readouterr().err
    )
    assert (recipe.out / "config.json").read_bytes() == before
    assert not list(recipe.out.glob("config.*.json"))


def test_data_that_has_changed_is_refused(compiled, tmp_path, monkeypatch, capsys):
    """Another number of pictures is another order of all of them: the run would go on with other data, in silence."""
    pictures, recipe = on_pictures(tmp_path, 6)
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(SystemExit):
            running.run(recipe)
    (pictures / "5.png").rename(pictures / "6.png")
    assert "holds other pictures" in refused(recipe, capsys)
    (pictures / "6.png").unlink()
    said = refused(recipe, capsys)
    assert f"--data.train: folder:{pictures} had 6 pictures when the run began and has 5 now" in said
    assert "--force" in said


def test_forced_to_go_on_with_other_settings_and_data(compiled, tmp_path, monkeypatch, capsys):
    pictures, recipe = on_pictures(tmp_path, 6)
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(SystemExit):
            running.run(recipe)
    (pictures / "5.png").unlink()
    other = replace(recipe, eval=replace(recipe.eval, train_images=7))
    assert "--eval.train-images: 2000 -> 7" in refused(other, capsys)
    running.run(replace(other, force=True))
    said = capsys.readouterr()
    assert "step 5 of 8" in said.out
    assert said.err.splitlines() == [
        f"{recipe.out} goes on with other data (--force)",
        f"  --data.train: folder:{pictures} had 6 pictures when the run began and has 5 now",
        f"{recipe.out} goes on with other settings (--force); config.1.json keeps those it had",
        "  --eval.train-images: 2000 -> 7",
    ]
    assert final(recipe.out)["step"] == 8
    config = lambda name: json.loads((recipe.out / name).read_text())
    assert config("config.json") == to_json(replace(other, force=True))
    assert config("config.1.json") == to_json(recipe)
    running.run(other)  # which it now is
    assert capsys.readouterr().err == ""
    running.run(replace(recipe, force=True))
    assert "--eval.train-images: 7 -> 2000" in capsys.readouterr().err
    assert config("config.2.json")["eval"]["train_images"] == 7
    (recipe.out / "config.mine.json").write_text("{}")
    prepare(replace(recipe, seed=1, resume=False, force=True))  # deletes the run, and so its settings
    left = {".lock", "config.json", "config.mine.json", "environment.json"}
    assert {p.name for p in recipe.out.iterdir()} == left


def test_surroundings_are_in_the_checkpoint(whole):
    recipe, state = whole("simclr")
    with Checkpoints(recipe.out / "checkpoints", read_only=True) as checkpoints:
        _, meta = checkpoints.restore_newest(state, parallel.replicated(parallel.mesh()))
    assert meta["environment"] == environment()
    assert meta["config"] == to_json(recipe)


def test_surroundings_of_before_are_kept(tmp_path):
    path = tmp_path / "environment.json"
    for device in ("a", "a", "b"):
        write_environment(path, {"devices": [device]})
    assert json.loads(path.read_text()) == {"devices": ["b"], "earlier": [{"devices": ["a"]}]}


def test_a_box_is_seen_as_it_is_said():
    on_pixels = lambda *box: (drawing.on_pixels(box, 20, 300) * [20, 300, 20, 300]).round(4).tolist()
    assert on_pixels(0.25, 0.25, 0.75, 0.75) == [5, 75, 15, 225]
    assert on_pixels(0.51, 0.501, 0.52, 0.502) == [10, 150, 11, 151]
    assert on_pixels(0.99, 0.999, 1.0, 1.0) == [19, 299, 20, 300]


def test_too_much_that_cannot_be_read_stops_the_run_with_a_report(tmp_path, compiled, monkeypatch, capsys):
    """And raising the limit lets the same command go on from its newest checkpoint."""
    monkeypatch.setattr("abx.experiment.ledger.ENOUGH", 30)
    _, recipe = on_pictures(tmp_path, 6, [b"<html>404</html>"] * 2)
    with pytest.raises(SystemExit) as stopped:
        running.run(recipe)
    assert stopped.value.code == 1
    report = (recipe.out / "report.txt").read_text()
    assert f"error: {report}" in capsys.readouterr().err
    assert "--data.max-rejected 0.1 allows" in report
    assert re.search(r"^  \d+ x not a JPEG", report, re.M)
    assert not (recipe.out / "final.json").exists()
    running.run(replace(recipe, data=replace(recipe.data, max_rejected=1.0)))
    last = rows(recipe.out)[-1]
    assert final(recipe.out)["step"] == 8
    assert last["data/train/images"] == 64
    assert last["data/train/views"] == 128
    assert last["data/train/epochs"] == 64 / 8
    assert last["data/rejected"] > 2


def test_a_run_goes_on_with_the_one_picture_in_ten_that_can_be_read_and_says_so(tmp_path, compiled, capsys):
    _, recipe = on_pictures(tmp_path, 3, [b""] * 27)
    running.run(recipe)
    assert final(recipe.out)["step"] == 8
    report = (recipe.out / "report.txt").read_text()
    assert re.search(r"\d+ of \d+ pictures that stream train tried could not be used \(\d\d%\)", report)
    assert "x empty file" in report


def test_a_run_whose_data_goes_away_ends_with_one_sentence(tmp_path, compiled, monkeypatch, capsys):
    pictures, recipe = on_pictures(tmp_path, 6)
    original = Ledger.__call__

    def call(self, at, loaded):
        if at == 3:
            for path in pictures.iterdir():
                path.unlink()
        original(self, at, loaded)

    monkeypatch.setattr(Ledger, "__call__", call)
    with pytest.raises(SystemExit) as stopped:
        running.run(recipe)
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert "records in a row could not be used; the last, " in err
    assert "Traceback" not in err
