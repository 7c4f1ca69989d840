"""A typo in a command, a flag, a data string, a path or a checkpoint: one sentence, the nearest match, exit code 2,
before any device is touched. For every command."""

from pathlib import Path

import jax
import pytest
from test_cli import call, folder
from test_cli import said as said

from abx.cli import Verb
from abx.cli.data import Verb as OfData
from abx.cli.tokenizer import Verb as OfTokenizer
from recipes import NAMES

VERBS = {
    prefix + part.name: each.__args__[0] if hasattr(each, "__args__") else each
    for prefix, verbs in (("", Verb), ("data ", OfData), ("tokenizer ", OfTokenizer))
    for each in verbs.__args__
    for part in each.__metadata__
}
"""Every command that is typed after abx."""
GROUPS = ("data", "tokenizer", "probe")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with runs, pictures and a tokenizer, to be in."""
    root = tmp_path_factory.mktemp("place")
    (root / "runs").mkdir()
    for name in ("simclr", "ab_simclr"):
        run = folder(root / "runs" / f"{name}-smoke", name)
        for step in (200, 400):
            (run / "checkpoints" / str(step)).mkdir(parents=True)
    (root / "Pictures").mkdir()
    (root / "picture.png").write_bytes(b"")
    (root / "features.npz").write_bytes(b"")
    return root


@pytest.fixture
def refused(said, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(jax, "devices", lambda *_: pytest.fail("a device was asked for"))

    def refused(words: str) -> str:
        before = sorted(place.rglob("*"))
        code, out, err = said(*words.split())
        assert (code, out) == (2, ""), f"abx {words}: {code}\n{out}{err}"
        assert err.startswith("error: ")
        assert err.count("\n") == 1, err
        assert sorted(place.rglob("*")) == before
        return err.removeprefix("error: ").rstrip("\n")

    return refused


@pytest.mark.parametrize("name", [name for name in VERBS if name not in GROUPS])
def test_commands(refused, name):
    *group, word = name.split()
    typo = word[:-2] + word[-1] + word[-2]  # its last two letters, the wrong way round
    for last, meant in ((typo, "did you mean "), ("zzzz", "there are ")):
        words = " ".join([*group, last])
        assert refused(words).startswith(f"there is no command abx {words}; {meant}")


RUN, AB = "runs/simclr-smoke", "runs/ab_simclr-smoke"
FLAGS = {
    "runs --srot age": "--sort",
    f"report {RUN} --jsno": "--json",
    f"plot {RUN} --metric loss": "--metrics",
    f"value-map {AB} picture.png --netwrok online": "--network",
    f"explore {AB} picture.png --anotations x": "--annotations",
    f"analyse {AB} --figure 9 --batchs 3": "--batches",
    f"targets {AB} --pictures 3": None,
    f"replay {AB} --jso": "--json",
    "verify-resume simclr --worker 2": "--workers",
    f"probe --run {RUN} --probe knn": "--probes",
    f"table {RUN} --tabels 1": "--tables",
    f"embed {RUN} --dta scenes": "--data",
    f"pca {RUN} --cuont 3": "--count",
    f"neighbours {RUN} --querys 3": "--queries",
    f"export {RUN} --network_ online": "--network",
    "doctor --dat scenes": "--data",
    "data inspect scenes --sampels 3": "--samples",
    "data index scenes --worker 3": "--workers",
    "data digest scenes --step 0:4": "--steps",
    "data prepare coco --scr /x": "--src",
    "tokenizer train scenes --vocabulary 3": "--vocab",
    "tokenizer show scenes word --jsn": "--json",
}


@pytest.mark.parametrize("words", FLAGS)
def test_flags(refused, words):
    sentence, near = refused(words), FLAGS[words]
    typo = next(word for word in words.split() if word.startswith("--") and word not in _real(words))
    assert sentence.startswith(f"there is no flag {typo.replace('_', '-')}; ")
    assert near is None or sentence.endswith(f"did you mean {near}?")


def _real(words: str) -> set[str]:
    """Flags in a line that there are: the last one is the typo."""
    return set([word for word in words.split() if word.startswith("--")][:-1])


@pytest.mark.parametrize("table", ["FLAGS", "PATHS"])
def test_no_command_is_left_out(table):
    without = {"FLAGS": GROUPS[:2], "PATHS": (*GROUPS[:2], "doctor", "data prepare", "tokenizer show")}[table]
    tried = [f"{words} " for words in globals()[table]]
    assert {name for name in VERBS if not any(words.startswith(f"{name} ") for words in tried)} <= set(without)


PATHS = {
    "runs run": "run is not there; did you mean runs?",
    "report runs/simclr-smok": f"did you mean {RUN}?",
    "plot runs/simclr-smok": f"did you mean {RUN}?",
    "value-map runs/ab-simclr-smoke picture.png": f"did you mean {AB}?",
    f"value-map {AB} pictur.png": "did you mean picture.png?",
    "explore runs/ab-simclr-smoke picture.png": f"did you mean {AB}?",
    f"explore {AB} pictur.png": "did you mean picture.png?",
    "analyse runs/ab-simclr-smoke --figure 9": f"did you mean {AB}?",
    "targets runs/ab-simclr-smoke": f"did you mean {AB}?",
    "replay runs/ab-simclr-smoke": f"did you mean {AB}?",
    "verify-resume simcl": "there is no recipe 'simcl'; did you mean simclr?",
    "probe --run runs/simclr-smok": f"did you mean {RUN}?",
    "probe --features feature.npz feature.npz": "did you mean features.npz?",
    "table runs/simclr-smok": f"did you mean {RUN}?",
    "embed runs/simclr-smok": f"did you mean {RUN}?",
    "export runs/simclr-smok": f"did you mean {RUN}?",
    "pca runs/simclr-smok": f"did you mean {RUN}?",
    "neighbours runs/simclr-smok": f"did you mean {RUN}?",
    f"embed {RUN} --data folder:Picture": "did you mean HERE/Pictures?",
    f"pca {RUN} --data folder:Picture": "did you mean HERE/Pictures?",
    f"neighbours {RUN} --queries folder:Picture": "did you mean HERE/Pictures?",
    "data inspect folder:Picture": "did you mean HERE/Pictures?",
    "data index folder:Picture": "did you mean HERE/Pictures?",
    "data digest folder:Picture --batch 8": "did you mean HERE/Pictures?",
    "tokenizer train folder:Picture": "did you mean HERE/Pictures?",
    "data prepare coc": "did you mean coco?",
}


@pytest.mark.parametrize("words", PATHS)
def test_paths(refused, place, words):
    assert PATHS[words].replace("HERE", str(place)) in refused(words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (f"embed {RUN} --step newst", "did you mean newest?"),
        (f"embed {RUN} --step 300", "there are 200, 400"),
        (f"pca {RUN} --step newst", "did you mean newest?"),
        (f"neighbours {RUN} --step 300", "there are 200, 400"),
        (f"export {RUN} --step bset", "did you mean best?"),
        (f"probe --run {RUN} --step newst", "did you mean newest?"),
        (f"explore {AB} picture.png --checkpoints newst", "did you mean newest?"),
        (f"explore {AB} picture.png --checkpoints 300", "there are 200, 400"),
    ],
)
def test_checkpoints(refused, words, sentence):
    assert sentence in refused(words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (f"export {RUN} --format tim", "did you mean timm?"),
        (f"embed {RUN} --network targt", "did you mean target?"),
        (f"embed {RUN} --limit x", "--limit must be an integer, not x"),
        (f"analyse {AB} --figure 4righ", "did you mean 4right?"),
        ("embed", "RUN is missing"),
        ("embed none --init feature.npz", "did you mean features.npz?"),
        ("embed none --init features.pth", "did you mean features.npz?"),
        (f"embed {RUN} --init L/16", "--init is for RUN none"),
        (f"embed {RUN} --pool map", "--pool is for RUN none"),
        (f"explore {AB} picture.png --sample 3", "--sample is for when no IMAGE is given"),
        (f"explore {AB} --sample -1", "--sample must be"),
    ],
)
def test_values(refused, words, sentence):
    assert sentence in refused(words)


@pytest.mark.parametrize(
    "words",
    [
        *("embed none --data SPEC", "pca none --data SPEC", "neighbours none --queries SPEC"),
        *("data inspect SPEC", "data index SPEC", "data digest SPEC", "tokenizer train SPEC"),
        "probe --run none --task classification --train SPEC --test scenes",
    ],
)
def test_data_strings(refused, words):
    assert "did you mean" in refused(words.replace("SPEC", "foldr:Pictures"))
    assert "scens" in refused(words.replace("SPEC", "scens"))


@pytest.mark.parametrize("name", NAMES)
def test_recipes(name, capsys, place, monkeypatch):
    """All at once: a flag, a data string, a path and a preset."""
    monkeypatch.chdir(place)
    both = "--stpes 3 --eval.test foldr:x --eval.train folder:Picture"
    for words, near in {"smok": ["smoke"], both: ["--steps", "folder:x"]}.items():
        with pytest.raises(SystemExit) as stop:
            call(name, *words.split())
        out, err = capsys.readouterr()
        assert (stop.value.code, out) == (2, "")
        for word in near:
            assert f"did you mean {word}" in err.replace("'", "")
