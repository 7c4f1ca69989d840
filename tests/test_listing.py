"""abx runs: what each folder of runs is told to be, and that nothing in one of them stops the list."""

import fcntl
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import said as said

from abx.analysis.listing import look, newest, runs_below
from abx.cli.listing import age
from abx.data.sources import SpecError
from abx.experiment.folder import locked
from abx.experiment.saved import to_json
from recipes import ROOT, load

OLD, NEW = 1_000_000_000, 1_000_000_100
"""Times of files."""


def run(path: Path, rows=(), *, started=("recipes/simclr.py", "smoke"), **files) -> Path:
    """A folder as a run leaves it, without a checkpoint; `files`: text of more of them, with __ for a dot."""
    path.mkdir(parents=True)
    recipe = to_json(load("simclr").PRESETS["smoke"]) | {"out": str(path)}
    (path / "config.json").write_text(json.dumps(recipe))
    if started:
        (path / "environment.json").write_text(json.dumps({"command": [*started, "--out", str(path)]}))
    if rows:
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    for file in path.iterdir():
        os.utime(file, (OLD, OLD))
    return path


STEPS = load("simclr").PRESETS["smoke"].steps
ROWS = [{"step": 0, "eval/knn_top1": 0.25}, {"step": 10, "loss": 2.5}, {"step": 20, "loss": 2.25}]
FINAL = json.dumps({"step": STEPS})
REFUSED = "12 of 90 pictures that stream train tried could not be used (13%), more than --data.max-rejected 0.1 allows"


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    run(root / "stopped", ROWS, report__txt=f"SimCLR, step 20 of {STEPS}: LEARNING.\n")
    (root / "stopped" / "checkpoints" / "20").mkdir(parents=True)
    (root / "stopped" / "checkpoints" / "1000.tmp").mkdir()
    run(root / "finished", ROWS, final__json=FINAL)
    run(root / "new")
    run(root / "refused", ROWS, report__txt=REFUSED)
    diverged = run(root / "deep" / "er" / "diverged", [*ROWS, {"step": 21, "loss": None}])
    (diverged / "diverged-20").mkdir()
    (diverged / "diverged-20" / "step.json").write_text("{}")
    (root / "half").mkdir()
    (root / "half" / "config.json").write_text('{"class": "abx.experi')
    (root / "headless").mkdir()
    (root / "headless" / "metrics.jsonl").write_text("")
    run(root / "odd", ROWS, config__json=json.dumps({"class": "abx.experiment.config.Recipe", "steps": "many"}))
    (root / "no run").mkdir()
    (root / "no run" / "config.json").write_text('{"model_type": "vit"}')
    # What a run keeps inside is no run.
    run(root / "stopped" / "diverged-3" / "x", ROWS)
    return root


STATES = {
    "deep/er/diverged": "diverged",
    "finished": "finished",
    "half": "broken",
    "headless": "broken",
    "new": "new",
    "odd": "broken",
    "refused": "refused",
    "stopped": "stopped",
}


def test_states(runs):
    found = {str(each.path.relative_to(runs)): each for each in runs_below(runs)}
    assert {name: each.state for name, each in found.items()} == STATES
    assert all(bool(each.problem) == (each.state in ("broken", "refused", "diverged")) for each in found.values())
    stopped = found["stopped"]
    assert (stopped.step, stopped.steps, stopped.loss, stopped.knn, stopped.checkpoint) == (20, STEPS, 2.25, 0.25, 20)
    assert stopped.recipe == "simclr smoke"
    assert math.isnan(found["deep/er/diverged"].loss)
    assert found["refused"].problem == REFUSED
    assert "step 21 was refused" in found["deep/er/diverged"].problem
    assert found["new"].loss is None


def test_who_went_on_is_told_by_what_was_written_last(runs):
    """A report or a refused step of an earlier start says nothing of a run that has gone on since, and was killed."""
    for name in ("refused", "deep/er/diverged"):
        for file in (runs / name).rglob("*.*"):
            os.utime(file, (OLD, OLD))
        os.utime(runs / name / "metrics.jsonl", (NEW, NEW))
        assert look(runs / name).state == "stopped"


def test_a_run_that_is_being_written(runs):
    with locked(runs / "stopped"):
        found = look(runs / "stopped")
        assert (found.state, found.resume) == ("running", "")
    assert look(runs / "stopped").state == "stopped"


def test_a_look_keeps_nobody_from_beginning(runs):
    """Who asks for the lock waits as long as a look takes, and no longer."""
    with (runs / "stopped" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(SpecError, match="another process"), locked(runs / "stopped"):
            pass
        import threading

        threading.Timer(0.05, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with locked(runs / "stopped"):
            pass


@pytest.mark.parametrize(
    ("started", "goes_on"),
    [
        (["recipes/simclr.py"], "python recipes/simclr.py --out HERE"),
        (["a b.py", "small", "--no-resume", "--force"], "python 'a b.py' small --force --out HERE"),
        (["x.py", "--no_resume", "--data.train", "0.5*scenes"], "python x.py --data.train '0.5*scenes' --out HERE"),
        (["-c"], ""),
        ([3], ""),
        ([], ""),
    ],
)
def test_the_command_that_goes_on(tmp_path, started, goes_on):
    here = run(tmp_path / "run", ROWS, started=started)
    assert look(here).resume == goes_on.replace("HERE", str(here))


def test_a_run_that_was_moved_goes_on_where_it_is(tmp_path):
    run(tmp_path / "a", ROWS)
    (tmp_path / "a").rename(tmp_path / "b")
    assert shlex.split(look(tmp_path / "b").resume) == [
        *("python", "recipes/simclr.py", "smoke", "--out", str(tmp_path / "b"))
    ]


def test_newest_figures_of_a_file_that_was_cut_off():
    data = (
        b'{"step": 1, "loss": 3.0}\n{"step": 2, "loss": null}\n{"step": 3, "lr": 1.0}\n["loss"]\n{"step": 4, "loss": 2'
    )
    assert newest(data, "loss") == {"step": 2, "loss": None}
    assert newest(data, "step") == {"step": 3, "lr": 1.0}
    assert newest(data, "eval/knn_top1") is newest(b"", "loss") is None


def test_abx_runs(said, runs, monkeypatch):
    code, out, err = said("runs", runs, "--sort", "name", "--json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["RUN", "RECIPE", "STATE", "STEP", "LOSS", "K-NN", "AGE", "CHECKPOINT"]
    (stopped,) = [line for line in lines if line.startswith(f"{runs}/stopped ")]
    assert stopped.split()[1:7] == ["simclr", "smoke", "stopped", f"20/{STEPS}", "2.250", "25.0%"]
    assert f"  go on: python recipes/simclr.py smoke --out {runs}/stopped" in lines
    assert f"  {REFUSED}" in lines
    found = json.loads(lines[-1], parse_constant=lambda name: pytest.fail(name))["runs"]
    assert {os.path.relpath(each["path"], runs): each["state"] for each in found} == STATES
    assert [each["path"] for each in found] == sorted(each["path"] for each in found)
    assert next(each for each in found if each["state"] == "diverged")["loss"] == "nan"

    _, out, _ = said("runs", runs / "new", runs / "finished", runs, "--state", "new", "finished", "--sort", "step")
    assert [line.split()[0] for line in out.splitlines()[1:] if line[0] != " "] == [f"{runs}/finished", f"{runs}/new"]
    monkeypatch.chdir(runs.parent)
    assert said("runs", "--state", "running")[1] == "there is no run that is running in runs\n"
    assert said("runs", "run")[2] == "error: run is not there; did you mean runs?\n"
    assert "is a file, not a folder" in said("runs", runs / "new" / "config.json")[2]


def test_sorting_puts_last_what_has_no_such_figure(said, tmp_path):
    for i, (loss, knn) in enumerate(((2.0, 0.3), (None, None), (1.0, None), (3.0, 0.9))):
        rows = [{"step": 10 * i, "loss": loss}] + ([{"step": 10 * i, "eval/knn_top1": knn}] if knn else [])
        path = run(tmp_path / "abcd"[i], rows)
        os.utime(path / "metrics.jsonl", (NEW + i, NEW + i))
    for by, order in {"loss": "cadb", "knn": "dabc", "step": "dcba", "age": "dcba", "name": "abcd"}.items():
        _, out, _ = said("runs", tmp_path, "--sort", by, "--json")
        assert "".join(Path(each["path"]).name for each in json.loads(out.splitlines()[-1])["runs"]) == order, by


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (59.4, "59 s"), (75.0, "1 min"), (3590.0, "1 h"), (7200.0, "2 h"), (5e5, "6 d")],
)
def test_age(seconds, words):
    assert age(seconds) == words


def test_it_needs_no_jax(runs):
    code = (
        "import sys\nfrom abx.cli import main\n"
        f"main(['runs', {str(runs)!r}])\nmain(['plot', {str(runs / 'stopped')!r}, '--out', {str(runs / 'a.png')!r}])\n"
        "print(sorted({'jax', 'orbax', 'grain'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
