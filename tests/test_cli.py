"""What a person types: help, presets, flags, and mistakes: each in one sentence, with exit code 2 and no traceback."""

import dataclasses
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import abx
from abx import cli as console
from abx.data.sources import SpecError
from abx.data.streams import open_sources
from abx.experiment.cli import cli, fail, flags
from abx.experiment.config import Evaluation, Recipe
from abx.experiment.monitor import Monitor
from abx.experiment.saved import flat, from_json, to_json
from recipes import NAMES, ROOT, load, tiny

PRESETS = [(name, preset) for name in NAMES for preset in ("smoke", "small", "paper")]
EVERYWHERE = (
    "--out --steps --seed --resume --no-resume --force --dry-run --data.workers --ckpt.every --log.every --eval.every"
)


def call(name: str, *argv: object) -> None:
    module = load(name)
    cli(name, module.__doc__, module.PRESETS, [str(a) for a in argv])


@pytest.fixture
def refused(capsys):
    """Calls a recipe that must stop with 2; its sentences."""

    def refused(name: str, *argv: object) -> list[str]:
        with pytest.raises(SystemExit) as stop:
            call(name, *argv)
        out, err = capsys.readouterr()
        assert stop.value.code == 2
        assert out == ""
        assert all(line.startswith("error: ") for line in err.splitlines())
        return [line.removeprefix("error: ") for line in err.splitlines()]

    return refused


class Helped(dict[tuple[str, int], str]):
    """--help of a recipe in a terminal of so many columns, as a person gets it."""

    def __missing__(self, asked: tuple[str, int]) -> str:
        name, columns = asked
        command = [sys.executable, str(ROOT / "recipes" / f"{name}.py"), "--help"]
        env = {"COLUMNS": str(columns), "PATH": "", "JAX_PLATFORMS": "no_such_platform"}  # no device is asked for
        self[asked] = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
        return self[asked]


@pytest.fixture(scope="module")
def helped() -> Helped:
    return Helped()


def help_flags(text: str) -> set[str]:
    """A flag's line begins at the margin; its explanation is indented."""
    return {flag for line in re.findall(r"^│ (--.*)", text, re.M) for flag in re.findall(r"--[a-z][\w.-]*\w", line)}


# Help


@pytest.mark.parametrize("name", NAMES)
def test_help(helped, name):
    text = helped[name, 80]
    assert set(flags(load(name).PRESETS["smoke"])) == help_flags(text)
    assert set(EVERYWHERE.split()) <= help_flags(text)
    for fact in (
        f"python recipes/{name}.py",
        "smoke",
        "small",
        "paper",
        "FLOPs",
        "Ours",
    ):
        assert fact in text, fact
    # SigLIP is no row of the paper's, and its recipes say so.
    row = ("Not in the paper", "The paper has no figures", "Our choice") if "siglip" in name else ("Ghosh & Levine",)
    for fact in row if "siglip" in name else (*row, "Table", "ImageNet", "Our inference"):
        assert fact in text, fact
    assert "defaults below are those of the preset smoke" in text
    assert f"runs/{name}-smoke" in text.replace("\n", "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_its_terminal_and_explains_every_flag(helped, name, columns):
    lines = helped[name, columns].splitlines()
    assert [line for line in lines if len(line) > columns] == []
    inside = "\n".join(line.strip("│ ") if line[:4] != "│ --" else line for line in lines if line.startswith("│"))
    for entry in inside.split("│ --")[1:]:
        names = r"([\w.-]+, --[\w.-]+|[\w.-]+ (INT|FLOAT|STR|PATH|\{[\w,-]+\}|\|| )+)"
        explanation = re.sub(rf"^{names}", "", entry).partition("(default:")[0]
        assert re.search(r"\w\w.*\.\s*│?\s*$", explanation, re.S), f"--{entry} has no explanation"


@pytest.mark.parametrize("name", NAMES)
def test_help_names_no_flag_that_there_is_not(helped, name):
    text = re.sub(r"^ *abx .*$", "", helped[name, 120], flags=re.M)  # another command's are its own
    assert set(re.findall(r"--[a-z][\w.-]*\w", text)) <= help_flags(text) | {"--help"}


def test_help_does_not_start_jax():
    code = (
        "import sys, runpy, jax; sys.argv = ['recipes/ab_simclr.py', *sys.argv[1:]]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code\n"
        "from jax._src import xla_bridge; print(code, xla_bridge.backends_are_initialized(), 'orbax' in sys.modules)"
    )
    for argv, code_expected in ((["--help"], 0), (["--method.gamma", "2"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == f"{code_expected} False False", done.stderr


# Presets and flags that there are not


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["smok"], "there is no preset 'smok'; did you mean smoke?"),
        (["xyz"], "there is no preset 'xyz'; there are smoke, small, paper"),
        (["--stps", "3"], "there is no flag --stps; did you mean --steps?"),
        (["--data.reward_bach=3"], "there is no flag --data.reward-bach; did you mean --data.reward-batch?"),
        (["--method.gama", "0.5"], "there is no flag --method.gama; did you mean --method.gamma?"),
        (["--lr", "1"], "there is no flag --lr; did you mean --optim.lr?"),
        (
            ["--batch-size", "8"],
            "there is no flag --batch-size; did you mean --data.reward-batch or --data.value-batch?",
        ),
        (["--no-actions"], "there is no flag --no-actions; did you mean --method.no-actions?"),
        (["--xyzzy"], "there is no flag --xyzzy; --help lists all"),
        (["--steps", "3", "small"], "the preset comes first: write small before all flags"),
        (["smoke", "oops"], "no flag takes the word 'oops'"),
    ],
)
def test_typos(refused, argv, sentence):
    assert refused("ab_simclr", *argv) == [sentence]


@pytest.mark.parametrize(
    "argv", [["--steps", "1e5"], ["--method.gamma"], ["--method.actions", "yes"], ["--ema.tau", "x"]]
)
def test_values_of_another_type(argv, capsys):
    """tyro's own words: which flag, and what was wrong."""
    with pytest.raises(SystemExit) as stop:
        call("ab_simclr", *argv)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert argv[0] in said or argv[-1] in said


# Values that cannot be


def test_every_problem_at_once(refused, tmp_path):
    (tmp_path / "file").touch()
    wrong = {
        "--method.gamma": 1.0,
        "--method.base.backbone.heads": 5,
        "--method.value-weight": -1,
        "--method.base.temperature": 0,
        "--optim.lr": "nan",
        "--optim.beta1": 1,
        "--optim.weight-decay": -0.1,
        "--data.reward-batch": 0,
        "--data.value-views.n": 0,
        "--data.reward-views.n": 3,
        "--data.value-views.size": 30,
        "--data.workers": -1,
        "--data.value": f"folder:{tmp_path}/nowhere",
        "--eval.test": f"foldr:{tmp_path}",
        "--eval.every": -1,
        "--eval.batches": 0,
        "--ckpt.keep": 0,
        "--ckpt.keep-every": -1,
        "--log.every": -5,
        "--ema.tau": 2,
        "--steps": 0,
        "--seed": -1,
        "--out": tmp_path / "file",
        "--typo": 1,
    }
    said = refused("ab_simclr", *(word for item in wrong.items() for word in item))
    named = [re.findall(r"--[\w.-]*\w", sentence)[0] for sentence in said]
    assert sorted(named) == sorted(wrong)
    assert not any("_" in name for name in named)


@pytest.mark.parametrize("value", ["nan", "inf", "-0.001", "0"])
def test_learning_rates_that_are_none(refused, value):
    (sentence,) = refused("simclr", "--optim.lr", value)
    assert sentence.startswith("--optim.lr must be ")


@pytest.mark.parametrize("name", ["ab_clip", "clip_aug", "dino", "ijepa"])  # between them all kinds of settings
def test_problems_name_flags_that_exist(name, capsys):
    """Whatever field is set to whatever nonsense: a sentence begins with a flag, and every flag in it exists."""
    recipe, known = load(name).PRESETS["smoke"], set(flags(load(name).PRESETS["smoke"]))
    reached = set()
    for path, value in flat(to_json(recipe)).items():
        if path.endswith("class") or isinstance(value, bool):
            continue
        for wrong in (-1, 7, 1e9, float("nan")) if not isinstance(value, str) else ("nonsense",):
            if isinstance(value, list):
                wrong = [wrong, 0.5]
            elif isinstance(value, int):
                if wrong != wrong:
                    continue
                wrong = int(wrong)
            elif isinstance(value, float):
                wrong = float(wrong)
            tree = to_json(recipe)
            node = tree
            *groups, field = path.split(".")
            for group in groups:
                node = node[group]
            node[field] = wrong
            try:
                broken = from_json(tree)
            except ValueError:  # a choice: tyro knows them
                continue
            if problems := broken.problems():
                with pytest.raises(SystemExit):
                    fail(problems)
                said = capsys.readouterr().err
                named = set(re.findall(r"--[\w.-]*\w", said))
                assert named <= known, said
                assert all(re.match(r"error: --[\w.-]+:? ", line) for line in said.splitlines()), said
                reached |= named
    silent = {flag for flag in known - reached if "no-" not in flag and flag.replace("--", "--no-") not in known}
    harmless = {
        "--out",
        "--size",  # a choice: tyro knows them
        "--method.chunk",
        "--data.train",
        "--data.reward",
        "--data.value",
        "--eval.train",
        "--eval.test",
    }
    assert {
        f for f in silent if re.search(r"(lr|batch|\bsize|scale|gamma|tau|width|heads|steps|seed|every|weight)$", f)
    } <= harmless


# Data, devices and folders


def test_data_that_cannot_be_read(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rubbish").mkdir()
    for i in range(3):
        (tmp_path / "rubbish" / f"{i}.jpg").write_bytes(b"no picture")
    tarfile.open(tmp_path / "empty.tar", "w").close()
    (tmp_path / "rubbish.tar").write_bytes(b"no archive" * 100)
    for spec in (
        "folder:empty",
        "folder:rubbish",
        "folder:nowhere",
        "tar:empty.tar",
        "tar:rubbish.tar",
        "tar:nowhere-*.tar",
        "nonsense",
        "",
        "arrayrecord:x",
        "folder:empty + scenes",
    ):
        scheme, _, rest = spec.partition(":")
        there = f"{scheme}:{tmp_path / rest}" if scheme in ("folder", "tar") else spec
        for dry in ([], ["--dry-run"]):
            (sentence,) = refused("simclr", "--data.train", there, "--out", tmp_path / "run", *dry)
            assert (rest.partition(" ")[0] if scheme in ("folder", "tar") else scheme) in sentence
            assert not (tmp_path / "run").exists()
    mixture = f"0.5*scenes + 0.5*folder:{tmp_path}/empty"
    (sentence,) = refused("simclr", "--data.train", mixture, "--out", tmp_path / "run")
    assert f"--data.train: folder:{tmp_path}/empty holds no pictures" in sentence


def test_a_path_that_is_nearly_right(refused, tmp_path):
    (tmp_path / "Pictures").mkdir()
    (sentence,) = refused("simclr", "--data.train", f"folder:{tmp_path}/Picturs", "--out", tmp_path / "run")
    assert sentence.startswith("--data.train: ")
    assert f"did you mean {tmp_path}/Pictures" in sentence


def test_evaluation_data_that_cannot_be_read(refused, tmp_path):
    (sentence,) = refused("simclr", "--eval.test", f"folder:{tmp_path}/nowhere", "--out", tmp_path / "run")
    assert sentence.startswith("--eval.test: ")
    (tmp_path / "empty").mkdir()
    (sentence,) = refused(
        "simclr", *tiny("simclr"), "--eval.test", f"folder:{tmp_path}/empty", "--out", tmp_path / "run"
    )
    assert "empty" in sentence


def test_evaluation_data_without_labels(tmp_path):
    (tmp_path / "flat").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "flat" / "a.png")
    recipe = load("simclr").PRESETS["smoke"]
    recipe = dataclasses.replace(
        recipe, eval=Evaluation(train=f"folder:{tmp_path}/flat", train_images=1, test_images=1)
    )
    with pytest.raises(SpecError, match=r"--eval\.train.*label"):
        Monitor.open(recipe, open_sources(recipe.data))


def test_a_batch_that_the_devices_do_not_divide(refused, tmp_path):
    """The tests have eight devices."""
    said = refused("ab_simclr", "--data.reward-batch", 12, "--data.value-batch", 20, "--out", tmp_path / "run")
    assert said == [
        "--data.reward-batch 12 must be a multiple of the 8 devices",
        "--data.value-batch 20 must be a multiple of the 8 devices",
    ]
    assert not (tmp_path / "run").exists()


def test_going_on_with_other_settings(refused, tmp_path):
    recipe = dataclasses.replace(load("ab_simclr").PRESETS["smoke"], out=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_json(recipe)))
    other = ["--optim.lr", 0.5, "--data.value-views.scale", 0.1, 0.4, "--log.every", 7, "--data.workers", 3]
    head, *changed = refused("ab_simclr", "--out", tmp_path, *other)
    assert f"{tmp_path} holds a run with other settings" in head
    assert "--no-resume" in head
    assert "--force" in head
    assert changed == ["--data.value-views.scale: 0.1 0.5 -> 0.1 0.4", "--optim.lr: 0.001 -> 0.5"]
    assert json.loads((tmp_path / "config.json").read_text()) == to_json(recipe)


def test_out_that_is_a_file(refused, tmp_path):
    (tmp_path / "run").touch()
    (sentence,) = refused("simclr", "--out", tmp_path / "run" / "below")
    assert sentence == f"--out {tmp_path / 'run' / 'below'}: {tmp_path / 'run'} is a file, not a folder"


# The plan


GFLOP = {
    "clip": 35.8,
    "siglip": 35.8,
    "clip_aug": None,
    "simclr": 27.6,
    "dino": 11.2,
    "mae": 39.0,
    "ijepa": None,
    "slip": 31.7,
    "silc": 22.3,
    "ab_clip": 39.1,
    "ab_siglip": 39.1,
    "ab_simclr": 35.9,
    "ab_dino": 25.7,
}
"""Per view, of the paper's row: METHODS section 6, with texts of 64 tokens. It has none of the two that are None."""
PEAK = {"mae": "2.40e-03"}
"""Peak learning rates, where they are not 1e-3."""


def with_a_tokenizer(recipe: Recipe) -> list[str]:
    """Flags, for a preset that waits for a tokenizer of one's own captions."""
    paths = [path for path in flat(to_json(recipe)) if path.endswith("text.tokenizer")]
    return [word for path in paths for word in (f"--{path.replace('_', '-')}", "scenes")]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_dry_run(name, preset, tmp_path, capsys):
    recipe: Recipe = load(name).PRESETS[preset]
    call(name, preset, "--dry-run", "--plan.no-compile", *with_a_tokenizer(recipe), "--out", tmp_path / "run")
    text = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for fact in (
        "M parameters, of which backbone",
        "views a step (images x views of each)",
        f"{recipe.steps:,} x ",
        "epochs",
        "FLOP per view",
        "lr ",
        "weight decay",
        "checkpoint ",
        "iB",
    ):
        assert fact in text
    assert len(re.findall(r"\d\.\d\de[+-]\d\d at step", text)) == 5
    assert f"{recipe.optim.lr:.2e} at step" in text
    assert not re.search(r"nan|inf\b|-\d+ epochs", text)
    if preset == "paper":
        assert recipe.optim.lr == float(PEAK.get(name, "1e-3"))
        views = int(re.search(r"= ([\d,]+) views \(each", text)[1].replace(",", ""))
        assert views == pytest.approx(800e6, rel=5e-3)
        if GFLOP[name]:
            assert float(re.search(r"([\d.]+) GFLOP per view", text)[1]) == pytest.approx(GFLOP[name], rel=0.015)


def test_dry_run_compiles_a_step(tmp_path, capsys):
    call("simclr", *tiny("simclr"), "--dry-run", "--steps", 1, "--eval.every", 0, "--out", tmp_path / "run")
    text = capsys.readouterr().out
    assert "1 x 16 views" in text
    assert re.search(r"memory +[\d.]+ [MG]iB per device", text)


# The console script


@pytest.fixture
def said(capsys):
    """Calls abx; exit code, stdout and stderr."""

    def said(*argv: object) -> tuple[int, str, str]:
        code = 0
        try:
            console.main([str(a) for a in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return said


def folder(path: Path, name: str = "simclr", rows: str = '{"step": 20, "loss": 2.0, "grad_norm": null}\n') -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(to_json(load(name).PRESETS["smoke"])))
    (path / "metrics.jsonl").write_text(rows)
    return path


def test_abx_help_and_version(said):
    for argv in ([], ["--help"]):
        code, out, _ = said(*argv)
        assert code == 0
        assert "report" in out
        assert "value-map" in out
        assert "recipes/" in out
    assert said("--version") == (0, f"abx {abx.__version__}\n", "")
    code, out, _ = said("value-map", "--help")
    assert code == 0
    assert "RUN IMAGE" in out
    code, _, err = said("reprot")
    assert code == 2
    assert "report" in err


def test_abx_report(said, tmp_path):
    run = folder(tmp_path / "run")
    code, out, _ = said("report", run, "--json")
    assert code == 0
    assert out.startswith("SimCLR, step 20 of ")
    last = json.loads(out.splitlines()[-1], parse_constant=lambda name: pytest.fail(name))
    assert last == {"healthy": False, "step": 20, "metrics": {"loss": 2.0, "grad_norm": None}}


def test_abx_refuses_in_one_sentence(said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    run, silent, half = folder(tmp_path / "run"), folder(tmp_path / "silent", rows=""), folder(tmp_path / "half")
    (silent / "metrics.jsonl").unlink()
    (half / "config.json").write_text('{"class": "abx.experi')
    foreign = folder(tmp_path / "foreign")
    (foreign / "config.json").write_text('{"class": "os.system", "command": "true"}')
    ab = folder(tmp_path / "ab", "ab_simclr")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    cases: dict[tuple[object, ...], str] = {
        ("report", tmp_path / "nowhere"): "is not there",
        ("report", tmp_path / "file"): "is a file, not a run folder",
        ("report", tmp_path / "empty"): "is not the folder of a run: it has no config.json",
        ("report", silent): "has no figures yet",
        ("report", half): "is not a configuration that this version of abx reads",
        ("report", foreign): "os.system is not a class of abx",
        ("value-map", tmp_path / "empty", tmp_path / "a.png"): "it has no config.json",
        ("value-map", run, tmp_path / "a.png"): "is a run of SimCLR, which has no value function",
        ("value-map", ab, tmp_path / "nothing.png"): "nothing.png is not there",
        ("value-map", ab, tmp_path / "file"): "file is not a picture that can be read",
        ("value-map", ab, tmp_path): "cannot be read: Is a directory",
        ("value-map", ab, tmp_path / "a.png"): "checkpoint",
        ("value-map", ab, tmp_path / "a.png", "--box", 0.5, 0, 0.5, 1): "--box must be y0 x0 y1 x1",
        ("value-map", ab, tmp_path / "a.png", "--box", "nan", 0, 0.5, 1): "--box must be y0 x0 y1 x1",
    }
    for argv, sentence in cases.items():
        code, out, err = said(*argv)
        assert (code, out) == (2, ""), argv
        assert sentence in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    code, _, err = said("value-map", ab, tmp_path / "a.png", "--network", "teacher")
    assert code == 2
    assert "online" in err


def test_help_does_not_wait_for_jax():
    program = "import sys, abx.cli; print({'jax', 'numpy', 'PIL'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
