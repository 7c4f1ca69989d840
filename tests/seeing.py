"""What the tests of abx embed, pca and neighbours share: a network that is small, and how a command is refused."""

import jax
import pytest
from conftest import TINY

from abx import cli
from abx.experiment import loading
from abx.experiment.loading import Subject
from abx.nn import ViT

VIT = ViT(TINY, key=jax.random.key(0))


def stand_in(monkeypatch, backbone):
    """In place of what RUN none stands for."""
    monkeypatch.setattr(loading, "untrained", lambda init, *a: Subject(backbone, "none", init, "online", 0))


def refused(capsys, words, sentence):
    """With one line, which begins like this."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {sentence}")
