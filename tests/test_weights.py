"""Files of weights at the beginning of runs and under probes: what is loaded, what is said, what is refused."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from asked import two_steps
from conftest import TINY, random_views
from runs import one_device, tiny
from safetensors.numpy import load_file, save_file

from abx import train
from abx.cli import main
from abx.data.sources import SpecError
from abx.experiment import Evaluation
from abx.experiment.beginning import _placed, begin, biased
from abx.experiment.loading import load_subject, untrained
from abx.experiment.offering import offer
from abx.experiment.resuming import prepare
from abx.experiment.run import run
from abx.experiment.weights import open_file
from abx.nn import ViT
from abx.nn.timm import to_timm
from abx.types import ABBatch


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    yield from one_device(tmp_path_factory)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick):
    return two_steps(tmp_path_factory)


@pytest.fixture(scope="module")
def files(tmp_path_factory, trained):
    """The trained run, exported in each way."""
    folder, out = tmp_path_factory.mktemp("files"), str(trained[0].out)
    main(["export", out, "--out", str(folder / "own.safetensors")])
    main(["export", out, "--out", str(folder / "all.safetensors"), "--parts", "all"])
    main(["export", out, "--out", str(folder / "timm.safetensors"), "--format", "timm"])
    return folder


def begun(name, out, **changes):
    """A recipe's fresh state after --init, and what is said."""
    recipe = tiny(name, out, **changes)
    tx = recipe.optim.build(recipe.steps)
    fresh = jax.jit(lambda batch: train.init(recipe.method, tx, 1, batch))(recipe.data.blank())
    return fresh, *begin(fresh, recipe.init, recipe.init_pixels, recipe.backbone)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("name", ["own", "timm"])
def test_a_backbone_leaves_and_comes_back_bit_for_bit(trained, files, tmp_path, name):
    fresh, state, said = begun("simclr", tmp_path, init=str(files / f"{name}.safetensors"))
    assert same(state.model.backbone, trained[1].model.backbone)
    assert same(state.target.backbone, trained[1].model.backbone)
    assert same(state.model.head, fresh.model.head)
    assert not any(a is b for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(state.target), strict=True))
    assert [line.split(maxsplit=1)[0] for line in said.splitlines()] == ["--init", "loaded", "missing"]


def test_all_of_a_network_goes_into_the_base_of_another(trained, files, tmp_path):
    """SimCLR's head, too, under annotation bootstrapping; the value head begins at random."""
    fresh, state, said = begun("ab", tmp_path, init=str(files / "all.safetensors"))
    assert same(state.model.base, trained[1].model)
    assert same(state.model.value, fresh.model.value)
    assert "loaded   backbone (16 arrays), head (" in said
    assert "missing  value (" in said


def test_the_bias_of_the_first_batch_is_found_with_what_was_loaded(files, tmp_path, rng):
    """Values sum to 1 over the batch's annotations, which they would not with the bias of the random network."""
    recipe = tiny("ab", tmp_path, init=str(files / "all.safetensors"), eval=Evaluation(every=0))
    recipe = replace(recipe, method=replace(recipe.method, value_bias="first-batch"))
    assert recipe.problems() == []
    batch, seed = ABBatch(random_views(rng, 8, 2), random_views(rng, 8, 3)), 1
    fresh = jax.jit(lambda: train.init(recipe.method, recipe.optim.build(8), seed, batch))()
    again = biased(fresh, recipe.method, seed, batch)
    np.testing.assert_allclose(again.model.value.bias, fresh.model.value.bias, rtol=1e-5)
    loaded, _ = begin(fresh, recipe.init, recipe.init_pixels, recipe.backbone)
    found = biased(loaded, recipe.method, seed, batch)
    assert abs(float(found.model.value.bias - fresh.model.value.bias)) > 1e-4
    assert found.model.value.bias is not found.target.value.bias
    assert found.target.value.bias == found.model.value.bias
    assert same(found.model.base, loaded.model.base)
    p = recipe.method.predict(
        found.model, found.model, found.carry, batch, jax.random.split(train.init_key(seed), 5)[4]
    )
    assert float(jax.nn.sigmoid(found.model.value.logits(p.phi, p.psi)).sum(-1).mean()) == pytest.approx(1, rel=1e-3)


def test_a_head_of_another_size_is_skipped_whole(files, tmp_path):
    method = replace(tiny("simclr", tmp_path).method, hidden=24)
    fresh, state, said = begun("simclr", tmp_path, init=str(files / "all.safetensors"), method=method)
    assert same(state.model.head, fresh.model.head)
    assert "skipped  head." in said
    assert "missing  head (9 arrays)" in said


def test_a_run_begins_with_a_file_and_records_it(trained, files, tmp_path, capsys):
    """A resumed one does not read it; another file in its place is a difference, none at all is not."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes((files / "own.safetensors").read_bytes())
    recipe = tiny("simclr", tmp_path / "run", steps=1, init=str(file), eval=Evaluation(every=0))
    assert not any("--init" in sentence for sentence in recipe.problems())
    # With a learning rate of 0 a step leaves the weights as they were loaded.
    recipe = replace(recipe, optim=replace(recipe.optim, lr=0.0, lr_start=0.0, lr_end=0.0))
    state = run(recipe)
    assert same(state.model.backbone, trained[1].model.backbone)
    assert "loaded   backbone" in capsys.readouterr().out
    assert json.loads((recipe.out / "config.json").read_text())["init"] == str(file)
    digest = json.loads((recipe.out / "environment.json").read_text())["init_sha256"]
    assert len(digest) == 64
    before = untrained(str(recipe.out))
    assert same(before.backbone, trained[1].model.backbone)  # as it was before the first step
    file.write_bytes((files / "all.safetensors").read_bytes())
    with pytest.raises(SystemExit) as ended:
        run(recipe)
    assert ended.value.code == 2
    assert f"--init: {file} holds other weights than the run began with" in capsys.readouterr().err
    run(replace(recipe, force=True))
    file.unlink()
    assert not any("--init" in sentence for sentence in recipe.problems())
    run(recipe)
    assert "loaded" not in capsys.readouterr().out
    assert any("is not there" in sentence for sentence in replace(recipe, resume=False).problems())


def test_a_run_of_before_a_setting_goes_on(tmp_path):
    recipe = tiny("simclr", tmp_path)
    prepare(recipe)
    old = json.loads((tmp_path / "config.json").read_text())
    del old["init"], old["init_pixels"], old["method"]["backbone"]["registers"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert prepare(recipe) == []
    assert prepare(replace(recipe, init="x.npz", force=True)) == ["--init:  -> x.npz"]


def test_a_file_is_probed_and_embedded_as_its_run(trained, files, tmp_path, capsys):
    recipe, _ = trained
    file = files / "timm.safetensors"
    a, b = untrained(str(file)), load_subject(recipe.out)
    assert a.backbone.config == b.backbone.config
    assert same(a.backbone, b.backbone)
    main(["embed", "none", "--init", str(file), "--limit", "4", "--out", str(tmp_path / "a.npz")])
    assert f"--init {file}, of abx export: 32 wide, 2 blocks, patch 8, gap" in capsys.readouterr().out
    main(["embed", str(recipe.out), "--limit", "4", "--out", str(tmp_path / "b.npz")])
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as two:
        np.testing.assert_array_equal(one["features"], two["features"])
    pickled = tmp_path / "torch.PTH"
    pickled.write_bytes(pickle.dumps({}))
    with pytest.raises(SystemExit):
        main(["probe", "--run", "none", "--init", str(pickled)])
    assert "import torch" in capsys.readouterr().err


def test_loaded_arrays_lie_as_the_fresh_ones_did():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("shards",))
    lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("shards"))
    fresh, array = jax.device_put(np.zeros((16, 3), np.float32), lies), np.arange(48, dtype=np.float32).reshape(16, 3)
    leaf = _placed(fresh, array)
    assert leaf.sharding == lies
    np.testing.assert_array_equal(leaf, array)


def test_what_differs_from_the_recipe_is_said_with_its_flag(files, tmp_path):
    recipe = tiny("ab", tmp_path, init=str(files / "own.safetensors"))
    wider = replace(recipe.method.base, backbone=replace(TINY, width=64, patch=4))
    [width, patch] = replace(recipe, method=replace(recipe.method, base=wider)).problems()
    assert width == f"--method.base.backbone.width must be 32 for --init {recipe.init}, not 64"
    assert patch.startswith("--method.base.backbone.patch must be 8 ")


BAD = {
    "a pickle": ("x.pth", pickle.dumps({}), r"is a pickle(.*\n)*.*import torch(.*\n)*.*x\.safetensors"),
    "a renamed pickle": ("x.safetensors", pickle.dumps({"a": 1}), "is not a whole safetensors file: "),
    "no bytes": ("x.safetensors", b"", "is not a whole safetensors file: "),
    "no archive": ("x.npz", b"PK\x03\x04 and no more", "is not a whole .npz: "),
    "another kind": ("x.h5", b"", r"must end in .safetensors or .npz"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_file_of_weights(tmp_path, what):
    name, content, said = BAD[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=said) as refused:
        open_file(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    [sentence] = tiny("simclr", tmp_path / "run", init=str(tmp_path / name)).problems()
    assert sentence.startswith(f"--init {tmp_path / name} ")


def test_damaged_and_unfit_files(files, tmp_path):
    whole = (files / "own.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(whole[:-100])
    refused(bad, "is not a whole safetensors file")
    arrays = load_file(files / "own.safetensors")
    about = {"abx": json.dumps(open_file(files / "own.safetensors").header)}
    save_file(arrays | {"backbone.norm.bias": np.zeros(7, np.float32)}, bad, metadata=about)
    refused(bad, r"backbone.norm.bias has shape \(7,\), not \(32,\)")
    save_file({k: x for k, x in arrays.items() if "norm.bias" not in k}, bad, metadata=about)
    refused(bad, "backbone.norm.bias is missing")
    save_file(arrays, bad, metadata={"abx": "{"})
    refused(bad, "is not JSON")
    save_file(arrays, bad, metadata={"abx": '{"backbone": {"class": "os.system"}}'})
    refused(bad, "its header says no backbone")
    save_file({"x": np.zeros(3)}, bad)
    refused(bad, "x and the like are not names")
    refused(tmp_path, "is a folder")
    np.savez(tmp_path / "empty.npz")
    refused(tmp_path / "empty.npz", "holds no arrays")
    np.savez(tmp_path / "objects.npz", **{"embedding/kernel": np.array([{}], object)})
    refused(tmp_path / "objects.npz", "embedding/kernel is an array of objects")


def test_numbers_are_looked_at_when_they_are_read(tmp_path):
    state = to_timm(ViT(replace(TINY, position="learned", gelu="exact"), key=jax.random.key(0)))
    for wrong, said in ((np.full(32, np.nan, np.float32), "not finite"), (np.zeros(32, np.int32), "of int32")):
        save_file(state | {"norm.bias": wrong}, tmp_path / "x.safetensors")
        found = offer(tmp_path / "x.safetensors")
        with pytest.raises(SpecError, match=f"norm.bias .*{said}"):
            found.backbone(found.config, "half")


def refused(path: Path, said: str) -> None:
    with pytest.raises(SpecError, match=said) as wrong:
        offer(path)
    assert "\n" not in str(wrong.value)


def test_headers_touch_no_device(files):
    """Or processes could not join afterwards, nor a plan stand in for more devices."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from abx.experiment.offering import offer\n"
        "for name in sys.argv[1:]: offer(Path(name))\n"
        "import jax._src.xla_bridge as bridge; assert not bridge._backends"
    )
    names = [str(files / f"{name}.safetensors") for name in ("own", "all", "timm")]
    subprocess.run([sys.executable, "-c", code, *names], check=True, cwd=Path(__file__).parents[1])
