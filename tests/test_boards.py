"""Boards beside metrics.jsonl: they show what it holds, once; and whatever becomes of one, the run goes on."""

import dataclasses
import errno
import importlib.util
import json
import math
import signal
import struct
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from runs import one_device, tiny
from test_run import stop_at

from abx.boards import Board, Boards
from abx.boards.tensorboard import TensorBoard
from abx.boards.wandb import WandB
from abx.experiment import Evaluation, Logging
from abx.experiment import run as running
from abx.experiment.showing import add_boards
from abx.log import MetricsLog, read_metrics
from recipes import load

PICTURE = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)


def events(folder):
    """What a reader of event files finds, in the order of the files' names; records as TensorBoard's format has them:
    length, its checksum, data, its checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def shown(folder):
    """(step, name) -> all values that TensorBoard shows: a file that begins at a step ends what was said of later ones;
    pictures by their size."""
    points = []
    for event in events(folder):
        if event.session_log.status == 1:
            points = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            picture = value.HasField("image")
            seen = (value.image.height, value.image.width) if picture else round(value.simple_value, 5)
            points.append((event.step, value.tag, seen))
    assert len({point[:2] for point in points}) == len(points), "a point twice"
    return {point[:2]: point[2] for point in points}


def test_tensorboard_shows_a_step_once_however_often_the_run_began(tmp_path):
    first = TensorBoard(tmp_path, 0)
    assert isinstance(first, Board)
    assert first.fresh
    first.picture(0, "views", PICTURE)
    for step in (0, 2, 4, 6):
        first.scalars(step, {"loss": 10.0 - step, "value/loss": math.nan if step == 2 else step})
    second = TensorBoard(tmp_path, 4)  # of the first, killed, everything is there without being closed
    assert not second.fresh
    second.scalars(6, {"loss": -6.0})
    second.close()
    found = shown(tmp_path)
    assert {key: v for key, v in found.items() if key[1] == "loss"} == {
        (0, "loss"): 10.0,
        (2, "loss"): 8.0,
        (4, "loss"): 6.0,
        (6, "loss"): -6.0,
    }
    assert found[0, "views"] == (6, 4)
    assert math.isnan(found[2, "value/loss"])
    assert (6, "value/loss") not in found  # of the first start
    TensorBoard(tmp_path, 0).close()
    assert shown(tmp_path) == {}
    first.close()


class Fake(ModuleType):
    """wandb, as far as a board uses it."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None, origin="fake")
        self.runs = []
        self.Settings = dict
        self.Image = lambda image: ("image", image.shape)

    def init(self, **how):
        self.runs.append(Run(self, how))
        return self.runs[-1]


class Run:
    def __init__(self, module, how):
        self.how, self.points, self.step, self.finished = how, [], 0, False
        of_before = [run for run in module.runs if run.how["id"] == how["id"] and how["mode"] == "online"]
        self.resumed = bool(of_before)
        if of_before:
            self.step = max(step for step, _ in of_before[-1].points) + 1
        from pathlib import Path

        folder = Path(how["dir"]) / "wandb" / f"offline-run-{len(module.runs)}-{how['id']}" / "files"
        folder.mkdir(parents=True)
        self.dir = str(folder)

    def log(self, row, step):
        assert step >= self.step, "wandb takes no step twice"
        self.step = step
        self.points.append((step, row))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := Fake())
    return fake


def test_wandb_offline_is_one_run_that_each_start_writes_whole(tmp_path, wandb):
    for start in range(3):
        board = WandB(tmp_path, "run", "project", {"steps": 8})
        assert board.fresh
        board.picture(0, "views", PICTURE)
        board.scalars(start, {"loss": 1.0})
        board.close()
    assert {run.how["mode"] for run in wandb.runs} == {"offline"}
    assert len({run.how["id"] for run in wandb.runs}) == 1
    assert all(run.finished for run in wandb.runs)
    assert [path.name.split("-")[2] for path in (tmp_path / "wandb").glob("offline-run-*")] == ["2"]
    assert wandb.runs[0].how["project"] == "project"
    assert wandb.runs[0].points == [(0, {"views": ("image", (6, 4, 3))}), (0, {"loss": 1.0})]


def test_wandb_online_keeps_what_it_has(tmp_path, wandb):
    for start, steps in enumerate(((0, 2, 4, 6), (4, 6, 8))):
        board = WandB(tmp_path, "run", "project", {}, online=True)
        assert board.fresh == (start == 0)
        for step in steps:
            board.scalars(step, {"loss": float(step)})
    one, two = wandb.runs
    assert two.how["resume"] == "allow"
    assert [step for step, _ in one.points + two.points] == [0, 2, 4, 6, 8]


def recipe(out, **log):
    found = dataclasses.replace(load("simclr").PRESETS["smoke"], out=out, log=Logging(**log))
    out.mkdir(exist_ok=True)
    Image.fromarray(PICTURE).save(out / "views.png")
    return found


def run(found, start, steps, fail_at=None):
    """What a run says from one step to another."""
    with Boards() as boards:
        add_boards(boards, found, start)
        with MetricsLog(found.out / "metrics.jsonl", start, boards=boards) as log:
            for step in range(start + 1, steps + 1):
                log.write(step, {"loss": 10.0 / step, "odd": math.inf})


@pytest.mark.parametrize("kinds", [("tensorboard",), ("wandb",), ("tensorboard", "wandb")])
def test_a_board_says_what_metrics_jsonl_says(tmp_path, wandb, kinds):
    """Of a run that is killed at step 7, goes on from 4, from then on to the end with boards that were off before."""
    on = dict.fromkeys(kinds, True)
    run(recipe(tmp_path / "always", **on), 0, 7)
    run(recipe(tmp_path / "always", **on), 4, 9)
    run(recipe(tmp_path / "late"), 0, 7)
    run(recipe(tmp_path / "late", **on), 4, 9)
    for i, name in enumerate(("always", "late")):
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, 10))
        losses = {row["step"]: round(row["loss"], 5) for row in rows}
        if "tensorboard" in kinds:
            found = shown(tmp_path / name / "tensorboard")
            assert {step: value for (step, tag), value in found.items() if tag == "loss"} == losses
            assert [step for step, tag in found if tag == "views"] == [0]
        if "wandb" in kinds:
            points = wandb.runs[1 + i].points
            assert {step: round(row["loss"], 5) for step, row in points if "loss" in row} == losses
            assert [step for step, row in points if "views" in row] == [0]
            assert wandb.runs[1 + i].how["config"]["optim.lr"] == 1e-3


class Broken:
    fresh = True

    def __init__(self, at, wrong):
        self.at, self.wrong, self.told = at, wrong, []

    def scalars(self, step, row):
        self.told.append(step)
        if step == self.at:
            raise self.wrong

    def picture(self, step, name, image):
        self.scalars(step, {})

    def close(self):
        self.scalars(-1, {})


@pytest.mark.parametrize("wrong", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("service\ndied")])
def test_a_board_that_fails_is_said_once_and_ends_nothing(tmp_path, capsys, wrong):
    broken, sound = Broken(3, wrong), Broken(99, wrong)
    with Boards() as boards, MetricsLog(tmp_path / "metrics.jsonl", boards=boards) as log:
        boards.add("Broken", lambda: broken)
        boards.add("Sound", lambda: sound)
        for step in range(6):
            log.write(step, {"loss": 1.0})
    err = capsys.readouterr().err
    assert err.startswith("note: Broken has failed and gets no more of this run, which goes on: ")
    assert err.count("\n") == 1
    assert str(wrong).split()[-1] in err
    assert broken.told == [0, 1, 2, 3]
    assert sound.told == [0, 1, 2, 3, 4, 5, -1]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 6


def test_a_board_that_cannot_begin_or_end_ends_nothing(tmp_path, capsys, monkeypatch, wandb):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file where the folder should be")
    monkeypatch.setattr(Run, "finish", lambda self: (_ for _ in ()).throw(ConnectionError("refused")))
    run(recipe(tmp_path / "run", tensorboard=True, wandb=True), 0, 3)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" has failed")[0] for line in said] == ["note: TensorBoard", "note: Weights & Biases"]
    assert len(wandb.runs[0].points) == 4
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 3


def test_a_full_disk_under_tensorboard(tmp_path, capsys):
    """/dev/full takes nothing: as a disk without room does."""
    with Boards() as boards:
        boards.add("TensorBoard", lambda: TensorBoard(tmp_path, 0))
        board = boards.open["TensorBoard"]
        writer = board._events._py_recordio_writer
        writer._writer.close()
        with open("/dev/full", "wb", buffering=0) as writer._writer:
            boards.scalars(1, {"loss": 1.0})
            boards.scalars(2, {"loss": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "note: TensorBoard has failed and gets no more of this run, which goes on: [Errno 28] No space left on device"
    ]


def test_an_extra_that_is_missing_is_one_sentence(monkeypatch, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr("abx.experiment.logs.find_spec", lambda name: None)
    found = Logging(tensorboard=True, wandb=True, wandb_project=" ").problems()
    assert found == [
        "log.tensorboard needs tensorboardX: pip install 'annotation-bootstrapping[tensorboard]'",
        "log.wandb needs wandb: pip install 'annotation-bootstrapping[wandb]'",
        "log.wandb-project must be the name of a project, not empty",
    ]
    assert Logging().problems() == []
    assert recipe(tmp_path / "run", wandb=True).problems()[0].startswith("--log.wandb needs ")
    # A folder of that name, which everyone has who uses it, is no library.
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("abx.experiment.logs.find_spec", there)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    if (spec := there("wandb")) is None or spec.origin is None:
        assert len(Logging(wandb=True).problems()) == 1


def test_offline_unless_it_is_asked(tmp_path, wandb):
    assert json.loads(json.dumps(dataclasses.asdict(Logging(wandb=True))))["wandb_mode"] == "offline"
    run(recipe(tmp_path / "a", wandb=True), 0, 1)
    run(recipe(tmp_path / "b", wandb=True, wandb_mode="online"), 0, 1)
    assert [each.how["mode"] for each in wandb.runs] == ["offline", "online"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    yield from one_device(tmp_path_factory)


def test_a_run_that_is_stopped_goes_on_and_is_asked_again(compiled, tmp_path, monkeypatch, wandb):
    """On each board every step and every picture once, with the figures of metrics.jsonl."""
    asked = Logging(every=1, tensorboard=True, wandb=True)
    found = tiny("ab", tmp_path / "run", eval=Evaluation(every=0), log=asked)
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        with pytest.raises(SystemExit):
            running.run(found)
    running.run(found)
    running.run(found)
    rows = read_metrics(found.out / "metrics.jsonl")
    losses = {row["step"]: round(row["loss"], 5) for row in rows}
    assert list(losses) == list(range(1, 9))
    points = shown(found.out / "tensorboard")
    assert {step: value for (step, name), value in points.items() if name == "loss"} == losses
    assert {name: step for step, name in points if name in ("views", "value_map")} == {"views": 0, "value_map": 8}
    last = wandb.runs[-1].points
    assert {step: round(row["loss"], 5) for step, row in last if "loss" in row} == losses
    assert [(step, *row) for step, row in last if "loss" not in row] == [(0, "views"), (8, "value_map")]
    running.run(dataclasses.replace(found, resume=False, steps=8))
    assert len(list((found.out / "tensorboard").iterdir())) == 1
    assert len({run.how["id"] for run in wandb.runs}) == 2
