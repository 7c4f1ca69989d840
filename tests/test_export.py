"""A network as one file: its bytes, what the header says, and what cannot be."""

import io
import json
import zipfile
from dataclasses import replace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from asked import two_steps
from conftest import TINY
from runs import one_device

from abx.cli import main
from abx.experiment.exporting import ABOUT
from abx.experiment.saved import from_json
from abx.nn import ViT
from abx.nn.timm import to_timm

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
    assert said[0] == f"model = {header['timm']}"
    for part in ("img_size=16", "patch_size=8", "embed_dim=32", "depth=2", "class_token=False", "global_pool='avg'"):
        assert f"{part}," in said[0]
    assert (header["preprocessing"]["mean"], header["preprocessing"]["size"]) == ([0.5] * 3, 16)
    assert said[1] == f"model.load_state_dict(safetensors.torch.load_file('{out}'))"


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
    ],
)
def test_what_cannot_be(run, capsys, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run[0].out), *args])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
