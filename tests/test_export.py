"""A network as one file: its bytes, what the header says, and what cannot be."""

import io
import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from asked import two_steps
from conftest import TINY
from runs import one_device

from abx.cli import main
from abx.experiment import cli
from abx.experiment import run as running
from abx.experiment.elsewhere import commands, without
from abx.experiment.exporting import ABOUT, about, arrays, safetensors_of
from abx.experiment.loading import load_subject
from abx.experiment.saved import from_json
from abx.nn import Ti, ViT
from abx.nn.timm import to_timm
from recipes import load

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick):
    return two_steps(tmp_path_factory)


@pytest.mark.parametrize("network", ["online", "target"])
@pytest.mark.parametrize("parts", ["backbone", "all"])
def test_the_file_holds_the_network_and_nothing_else(run, tmp_path, capsys, network, parts):
    recipe, state = run
    out = tmp_path / "model.safetensors"
    main(["export", str(recipe.out), "--out", str(out), "--network", network, "--parts", parts, "--json"])
    model = state.model if network == "online" else state.target
    with safetensors.safe_open(str(out), "numpy") as file:
        names = file.keys()
        header, found = json.loads(file.metadata()[ABOUT]), {name: file.get_tensor(name) for name in names}
    wanted = jax.tree.leaves(model if parts == "all" else model.backbone)
    assert len(found) == len(wanted)
    assert sorted(x.tobytes() for x in found.values()) == sorted(np.asarray(x).tobytes() for x in wanted)
    np.testing.assert_array_equal(found["backbone.patch_embed.weight"], model.backbone.patch_embed.weight)
    assert (header["step"], header["network"], header["views_seen"]) == (2, network, 2 * 16)
    assert from_json(header["backbone"]) == model.backbone.config
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"] == sum(x.nbytes for x in found.values())


def test_timms_file_has_timms_names_and_says_how_to_load_it(run, tmp_path, capsys):
    out = tmp_path / "timm.safetensors"
    main(["export", str(run[0].out), "--out", str(out), "--format", "timm", "--json"])
    backbone = run[1].model.backbone
    with safetensors.safe_open(str(out), "numpy") as file:
        found, header = (
            {name: file.get_tensor(name) for name in sorted(file.keys())},
            json.loads(file.metadata()[ABOUT]),
        )
    wanted = to_timm(backbone)
    assert sorted(found) == sorted(wanted)
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["load"]
    assert said[0] == "import timm, safetensors.torch"
    assert said[1] == f"model = {header['timm']}"
    for part in ("img_size=16", "patch_size=8", "embed_dim=32", "depth=2", "class_token=False", "global_pool='avg'"):
        assert f"{part}," in said[1]
    assert "pretrained_cfg_overlay=dict(input_size=(3, 16, 16), crop_pct=0.875, " in said[1]
    assert (header["preprocessing"]["mean"], header["preprocessing"]["size"]) == ([0.5] * 3, 16)
    assert said[2] == f"model.load_state_dict(safetensors.torch.load_file('{out}'))"


@pytest.mark.parametrize("pool", ["gap", "map", "token"])
def test_a_program_gives_the_features_for_any_number_of_pictures(rng, pool):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    from abx.experiment.stablehlo import archive_of

    vit = ViT(replace(TINY, pool=pool, registers=2 * (pool == "token")), key=jax.random.key(0))
    whole = archive_of(vit, {"step": 3})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert json.loads(archive.read("about.json")) == {"step": 3}
        network = jax.export.deserialize(bytearray(archive.read("network")))
    for count in (1, 3):
        pixels = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
        expected = jax.vmap(lambda image: vit.pool(vit(image)))(jnp.asarray(pixels))
        np.testing.assert_allclose(network.call(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--out", "model.pt"], "--out must end in .safetensors or .stablehlo, not model.pt"),
        (["--out", "model.npz", "--format", "timm"], "--out must end in .safetensors for --format timm, not model.npz"),
        (["--format", "timm", "--parts", "all"], "--parts must be backbone for --format timm"),
        (["--step", "7"], "--step 7: "),
        (["--out", "/proc/model.safetensors"], "--out /proc/model.safetensors"),
        (["--init", "model.npz"], "--init must be left out but for RUN none"),
    ],
)
def test_what_cannot_be(run, capsys, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run[0].out), *args])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_of_others_becomes_one_of_timms(tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    vit = ViT(replace(TINY, pool="token", position="learned", gelu="exact", heads=1), key=jax.random.key(0))
    file, out = tmp_path / "theirs.safetensors", tmp_path / "timm.safetensors"
    save_file(to_timm(vit), file)
    words = ["export", "none", "--init", str(file), "--format", "timm", "--out", str(out), "--json"]
    with pytest.raises(SystemExit):
        main(words)
    assert "--init-pixels must be given" in capsys.readouterr().err
    main([*words, "--init-pixels", "half", "--init-heads", "1"])
    found, wanted = load_file(out), to_timm(vit)
    assert found.keys() == wanted.keys()
    # A position is added to the [CLS] here, so that the sum alone comes back.
    sums = [state["cls_token"] + state["pos_embed"][:, :1] for state in (found, wanted)]
    np.testing.assert_array_equal(*sums)
    np.testing.assert_array_equal(found["blocks.1.attn.qkv.weight"], wanted["blocks.1.attn.qkv.weight"])
    said = capsys.readouterr().out
    assert f"--init {file}, with" in said
    row = json.loads(said.splitlines()[-1])
    assert row["init"] == str(file)
    assert "step" not in row


@pytest.mark.parametrize("init", [[], ["--init", "S/16"], ["--init", "x.npz", "--parts", "all"]])
def test_what_cannot_be_without_a_run(capsys, monkeypatch, tmp_path, init):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", "none", *init])
    assert ended.value.code == 2
    flag = "--parts must be backbone with RUN none" if "all" in init else "--init must be a file of weights with RUN"
    assert flag in capsys.readouterr().err


def began(monkeypatch, line):
    """The recipe that a printed line would start, if it were started."""
    python, script, *words = shlex.split(line)
    assert python == "python"
    found = []
    monkeypatch.setattr(running, "run", found.append)
    name = script.removeprefix("recipes/").removesuffix(".py")
    cli(name, load(name).__doc__, load(name).PRESETS, words)
    return found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 128, "depth": 6, "heads": 4, "mlp": 512, "size": 48},
        {"pool": "token", "position": "learned", "registers": 2, "gelu": "exact", "patch": 4},
        {"pool": "map", **{name: getattr(Ti, name) for name in ("width", "depth", "heads", "mlp")}},
    ],
    ids=["tiny", "small", "all else", "of a usual size"],
)
def test_the_printed_recipe_takes_the_file(run, monkeypatch, tmp_path, changes):
    """Of what no recipe made, of whatever sizes; in a folder whose name wants quotes."""
    subject = load_subject(run[0].out)
    config = replace(TINY, **changes)
    subject = subject._replace(backbone=jax.jit(lambda: ViT(config, key=jax.random.key(0)))())
    (tmp_path / "a b").mkdir()
    out = tmp_path / "a b" / "mine.safetensors"
    out.write_bytes(safetensors_of(arrays(subject, "backbone"), about(subject, "backbone")))
    monkeypatch.chdir(tmp_path)
    recipe_line, embed_line = commands(out, subject)
    assert shlex.split(embed_line) == ["abx", "embed", "none", "--init", str(out)]
    recipe = began(monkeypatch, recipe_line)
    assert recipe.init == str(out)
    assert recipe.problems() == []
    assert recipe.backbone == replace(config, remat=recipe.backbone.remat)


@pytest.mark.parametrize("name", ["ab_simclr", "dino"])
def test_the_printed_recipe_is_that_of_the_run(run, monkeypatch, tmp_path, name):
    """With its flags, and another folder; the bias of the first batch does not stand in the way."""
    method = "--method.base" if name == "ab_simclr" else "--method"
    flags = [f"{method}.backbone.width", "48", "--out", "runs/x", "--no-resume", "--init=old.npz", "--steps", "7"]
    words = [f"recipes/{name}.py", "smoke", *flags, "--init_pixels", "half", "--seed", "3"]
    (tmp_path / "environment.json").write_text(json.dumps({"command": words}))
    monkeypatch.chdir(tmp_path)
    subject = load_subject(run[0].out)._replace(run=str(tmp_path))
    wanted = load(name).PRESETS["smoke"].backbone
    backbone = jax.jit(lambda: ViT(replace(wanted, width=48), key=jax.random.key(0)))()
    subject = subject._replace(backbone=backbone)
    (tmp_path / "mine.safetensors").write_bytes(safetensors_of(arrays(subject, "backbone"), about(subject, "backbone")))
    line = commands(Path("mine.safetensors"), subject)[0]
    assert "no-resume" not in line
    recipe = began(monkeypatch, line)
    assert recipe.problems() == []
    assert (recipe.init, recipe.init_pixels, recipe.steps, recipe.seed) == ("mine.safetensors", "auto", 7, 3)
    assert str(recipe.out) == f"{run[0].out}-again"
    assert recipe.backbone.width == 48


def test_flags_leave_a_command_with_their_values():
    words = ["r.py", "--out", "a", "--out=b", "--no_resume", "--init_pixels", "half", "--seed", "3", "--force"]
    assert without(words, ("--out", "--no-resume", "--init-pixels", "--force")) == ["r.py", "--seed", "3"]
