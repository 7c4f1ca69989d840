"""Two screens of --help at most before the flags of rare use, which come after those of daily use."""

import re

import pytest
from test_cli import call, help_flags
from test_typos import VERBS

from abx import cli as console
from abx.experiment.helping import SCREENS, in_order, parts
from abx.experiment.probe import main as probe
from recipes import NAMES, load


def rare_begins(text: str) -> int:
    """Line of the first box of flags that is not for every day."""
    lines = text.splitlines()
    boxes = [i for i, line in enumerate(lines) if line.startswith("╭─") and not re.match(r"╭─ (data )?options ", line)]
    return boxes[0]


@pytest.mark.parametrize("name", [*NAMES, "probe"])
def test_recipes(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        call(name, "--help") if name != "probe" else probe("probe.py", load(name).__doc__ or "", ["--help"])
    text = capsys.readouterr().out
    assert rare_begins(text) <= SCREENS
    before = "\n".join(text.splitlines()[: rare_begins(text)])
    if name == "probe":
        assert {"--run", "--task", "--probes", "--train", "--test", "--step", "--network"} <= help_flags(before)
    else:
        everyday = {"--out", "--steps", "--seed", "--resume", "--dry-run", "--data.workers"}
        everyday |= help_flags(text) & {
            f"--data.{stream}" for stream in ("train", "reward", "value", "pairs", "images")
        }
        assert everyday <= help_flags(before)
    # What the paper reports and what we chose is all there, after the flags.
    _, notes = parts(load(name).__doc__ or "")
    assert text.endswith(notes + "\n")
    assert "Our inference" in notes or "Our choice" in notes


@pytest.mark.parametrize("name", sorted({*VERBS, ""} - {"probe"}))
def test_commands(name, capsys, monkeypatch):
    """They have no flags of rare use."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        console.main([*name.split(), "--help"])
    assert len(capsys.readouterr().out.splitlines()) <= SCREENS


HELP = """usage: x

╭─ options ──────────────────╮
│ -h, --help                 │
│       help                 │
│ --seed INT                 │
│ --force, --no-force        │
│       all the same         │
│ --out PATH                 │
╰────────────────────────────╯
╭─ method options ───────────╮
│ --method.gamma FLOAT       │
╰────────────────────────────╯
╭─ data options ─────────────╮
│ --data.train STR           │
│ --data.worker {a,b}        │
╰────────────────────────────╯
"""


def test_order():
    assert (
        in_order(HELP, "the end")
        == """usage: x

╭─ options ──────────────────╮
│ -h, --help                 │
│       help                 │
│ --seed INT                 │
│ --out PATH                 │
╰────────────────────────────╯
╭─ data options ─────────────╮
│ --data.train STR           │
╰────────────────────────────╯
╭─ flags that few need ──────╮
│ --force, --no-force        │
│       all the same         │
│ --data.worker {a,b}        │
╰────────────────────────────╯
╭─ method options ───────────╮
│ --method.gamma FLOAT       │
╰────────────────────────────╯

the end
"""
    )
    assert in_order("usage: x\n", "") == "usage: x\n"


def test_parts():
    assert parts("A.\n\nPresets:\n  a  b\n\nIn the paper.\n\nOurs.") == (
        "A.\n\nPresets:\n  a  b",
        "In the paper.\n\nOurs.",
    )
    assert parts("A.\n\nB.") == ("A.\n\nB.", "")
