"""What a run says: whole lines for machines, one line for people."""

import json
import math

import pytest

from abx.log import MetricsLog, ProgressLine, describe, hms, read_metrics


def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(1, {"loss": math.nan, "norm": math.inf, "fine": 0.5})
    strict = lambda word: pytest.fail(f"{word} is not JSON")
    assert json.loads(path.read_text(), parse_constant=strict) == {"step": 1, "loss": None, "norm": None, "fine": 0.5}
    (row,) = read_metrics(path)
    assert math.isnan(row["loss"])
    assert math.isnan(row["norm"])
    assert row["fine"] == 0.5


def test_going_on_drops_what_will_come_again(tmp_path):
    """Rows after the checkpoint, a row that was cut off, and what is not a row; the rest stays as it was."""
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (0, 2, 4, 4, 6):
            log.write(step, {"eval/x": 1.0} if step == 0 else {"loss": math.nan})
    whole = path.read_text().splitlines(keepends=True)
    path.write_bytes("".join(whole[:4]).encode() + b'7\n["step"]\n{"loss": 1}\n\x00\xff\n' + whole[4].encode()[:-5])
    with MetricsLog(path, 4) as log:
        assert log.last == {"step", "loss"}
        assert path.read_text() == "".join(whole[:4])
        log.write(5, {"loss": 5.0})
    assert [row["step"] for row in read_metrics(path)] == [0, 2, 4, 4, 5]
    assert path.read_text().startswith("".join(whole[:4]))
    with MetricsLog(path, 0) as log:  # from the start: everything will come again
        assert not log.last
    assert path.read_text() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_file_that_is_not_there_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_every_line_is_whole_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in range(1, 4):
            log.write(step, {"loss": 1.0 / step})
            log.sync()
            assert path.read_text().count("\n") == step


ROW = {"loss": 5.2149, "reward/loss": 2.4, "speed/views_per_second": 1234.5, "speed/data_wait_fraction": 0.021}


def test_describe():
    said = describe(120, 400, ROW, 80.0)
    assert said == "step 120/400  loss 5.215  reward 2.400  views/s 1,234  wait 2%  ETA 1:20"
    assert describe(3, 4, {"loss": math.nan}, math.nan) == "step 3/4  loss nan"


@pytest.mark.parametrize(("seconds", "said"), [(0.0, "0:00"), (75.0, "1:15"), (59.6, "1:00"), (3.7e3, "1:01:40")])
def test_hms(seconds, said):
    assert hms(seconds) == said


def test_plain_lines_where_nobody_watches(capsys):
    line = ProgressLine(10, 0)
    line.compiled(1)
    line.update(5, ROW)
    line.say("a word")
    line.close()
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("step 5/10  loss 5.215")
    assert "ETA 0:00" in out
    assert out.splitlines()[1:] == ["a word"]
    assert "\x1b" not in out
    assert "\r" not in out


def test_one_line_that_renews_itself_on_a_terminal(capsys, monkeypatch):
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stdout", Terminal())
    line = ProgressLine(10, 4)
    line.update(5, ROW)
    line.say("a [word] that stays")
    line.close()
    out = sys.stdout.getvalue()
    assert "step 5/10" in out
    assert "a [word] that stays" in out
    assert "\x1b[" in out


def test_time_left_is_told_by_the_steps_after_the_one_that_was_compiled(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("abx.log.time.monotonic", lambda: now[0])
    line = ProgressLine(110, 0)
    assert math.isnan(line._eta(0))
    now[0] = 60.0
    line.compiled(1)
    now[0] = 69.0
    assert line._eta(10) == pytest.approx(100.0)
