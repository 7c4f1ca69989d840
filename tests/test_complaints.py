"""What the parser of command lines says in a box, as one sentence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from abx.complaints import parsed, sentence


@dataclass(frozen=True)
class Verb:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    image: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
    kind: Literal["", "safetensors", "stablehlo", "timm"] = ""
    limit: int = 0
    rate: float = 0.0
    pair: tuple[int, int] = (1, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("r i --kind tim", "--kind must be safetensors, stablehlo or timm, not tim; did you mean timm?"),
        ("r i --kind zzz", "--kind must be safetensors, stablehlo or timm, not zzz"),
        ("r i --limit x", "--limit must be an integer, not x"),
        ("r i --limit 1.5", "--limit must be an integer, not 1.5"),
        ("r i --rate fast", "--rate must be a number, not fast"),
        ("r i --limit", "--limit needs a value"),
        ("r", "IMAGE is missing; abx verb --help tells more"),
        ("", "RUN and IMAGE are missing; abx verb --help tells more"),
    ],
)
def test_one_sentence_and_two(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(Verb, args=words.split(), prog="abx verb")
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err) == (2, "", f"error: {said}\n")


def test_what_is_in_no_list_is_said_whole(capsys):
    with pytest.raises(SystemExit):
        parsed(Verb, args=["r", "i", "--pair", "1"], prog="abx verb")
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "--pair" in err
    assert err.count("\n") == 1
    assert "│" not in err
    assert sentence("", "abx verb") == "this cannot be read; abx verb --help tells more"


def test_help_and_what_can_be_go_through(capsys):
    assert parsed(Verb, args=["r", "i", "--limit", "3"], prog="abx verb").limit == 3
    with pytest.raises(SystemExit) as stop:
        parsed(Verb, args=["--help"], prog="abx verb")
    assert not stop.value.code
    assert "--limit" in capsys.readouterr().out
