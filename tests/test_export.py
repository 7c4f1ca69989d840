"""A network as one file: its bytes, what the header says, and what cannot be."""

import json

import jax
import numpy as np
import pytest
from asked import two_steps

from abx.cli import main
from abx.experiment.exporting import ABOUT
from abx.experiment.saved import from_json
from runs import one_device

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


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--out", "model.pt"], "--out must end in .safetensors, not model.pt"),
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
