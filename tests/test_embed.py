"""abx embed: features as files that others open."""

import json
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from seeing import VIT, stand_in

from abx import cli
from abx.data.schemes.folder import index
from abx.experiment import embedding
from abx.experiment.embedding import Grid
from abx.experiment.given import read_given
from abx.nn import ViT
from abx.probes.features import Look, extract

REGISTERS = ViT(replace(TINY, pool="token", registers=2), key=jax.random.key(1))


@pytest.fixture(scope="module")
def backbone():
    return VIT


@pytest.fixture
def untrained(backbone, monkeypatch):
    """What RUN none stands for: small."""
    stand_in(monkeypatch, backbone)


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes, one file of which is none."""
    rng = np.random.default_rng(0)
    for i in range(11):
        folder = tmp_path / "pictures" / ("cat" if i % 3 else "dög")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 18 + i, 3), np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "pictures" / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return tmp_path / "pictures"


def embed(*flags):
    cli.main(["embed", "none", *map(str, flags)])


def npz(path):
    with np.load(path, allow_pickle=False) as file:
        return file["features"], file["labels"], file["names"].tolist(), file["classes"].tolist(), file["about"].item()


def parquet(path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = pq.read_table(path)
    about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    features = np.array(table["features"].to_pylist(), np.float32)
    classes = json.loads(about.pop("classes"))
    said = table["class"].to_pylist()
    assert said == [classes[i] for i in table["label"].to_pylist()]
    return features, np.array(table["label"]), table["name"].to_pylist(), classes, json.dumps(about)


def safetensors(path):
    tensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    with tensors.safe_open(path, "np") as file:
        about = file.metadata()
        names, classes = (json.loads(about.pop(k)) for k in ("names", "classes"))
        return file.get_tensor("features"), file.get_tensor("labels"), names, classes, json.dumps(about)


@pytest.mark.parametrize(("suffix", "read"), [(".npz", npz), (".parquet", parquet), (".safetensors", safetensors)])
def test_what_others_open(backbone, untrained, pictures, tmp_path, capsys, suffix, read):
    out = tmp_path / f"features{suffix}"
    library = embedding.WRITERS[suffix][0]
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed")
    embed("--data", f"folder:{pictures}", "--out", out, "--batch", 4, "--json")
    features, labels, names, classes, about = read(out)
    source = index(str(pictures))
    found = extract(backbone, source, Look(16), tokens=False)
    np.testing.assert_allclose(features, found.pooled, rtol=1e-5, atol=1e-6)
    assert features.dtype == np.float32
    assert names == found.names
    assert labels.tolist() == [fact.label for fact in found.facts]
    assert classes == ["cat", "dög"]
    said = json.loads(about)
    assert said["data"] == f"folder:{pictures}"
    assert len(said["backbone_sha256"]) == 64
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["out"], last["images"], last["width"]) == (str(out), 11, 32)
    assert list(last["rejected"]) == [found.rejected[0][0]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features" + suffix, "pictures"]


def arrays(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    tensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    with tensors.safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(("precision", "network"), [("float16", VIT), ("float32", REGISTERS)])
def test_tokens_and_their_grid(monkeypatch, pictures, tmp_path, capsys, suffix, precision, network):
    stand_in(monkeypatch, network)
    out, first = tmp_path / f"tokens{suffix}", 3 if network is REGISTERS else 0
    flags = ("--data", f"folder:{pictures}", "--precision", precision, "--batch", 4, "--size", 32, "--init", "S/8")
    embed(*flags, "--out", out, "--features", "both", "--json")
    said, found = json.loads(capsys.readouterr().out.splitlines()[-1]), arrays(out)
    assert (said["grid"], said["patches_from"], said["images"]) == ([4, 4], first, 11)
    assert (found["grid"].tolist(), int(found["patches_from"])) == ([4, 4], first)
    assert found["tokens"].dtype == precision
    assert found["tokens"].shape == (11, first + 16, 32)
    exact = extract(network, index(str(pictures)), Look(32), precision="float32")
    np.testing.assert_allclose(found["tokens"], exact.tokens, rtol=1e-3, atol=4e-3 if precision == "float16" else 1e-5)
    np.testing.assert_allclose(found["features"], exact.pooled, rtol=1e-5, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures", out.name]
    assert out.stat().st_mode == (pictures / "cat" / "1.png").stat().st_mode
    embed(*flags, "--out", out, "--features", "tokens")
    assert set(arrays(out)) - {"names", "classes", "about"} == {"tokens", "grid", "patches_from", "labels"}


def test_probes_read_them(untrained, pictures, tmp_path):
    embed("--data", f"folder:{pictures}", "--out", tmp_path / "a.npz", "--features", "both")
    given = read_given(tmp_path / "a.npz")
    assert given.features.tokens is not None
    assert given.features.tokens.shape == (11, 4, 32)
    assert given.source.classes == ("cat", "dög")


def test_an_ending_in_capitals(untrained, tmp_path):
    embed("--out", tmp_path / "A.NPZ", "--limit", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["A.NPZ"]
    with np.load(tmp_path / "A.NPZ") as file:
        assert file["features"].shape[0] == 2


def test_where_tokens_lie():
    for network, size in ((VIT, 32), (REGISTERS, 16), (REGISTERS, 64)):
        grid = Grid.of(network.config, size)
        assert grid.tokens == len(network(np.zeros((size, size, 3), np.uint8)))
        assert grid.patches_from == network.patches_from
        assert grid.rows == grid.columns == size // 8


def test_no_room_for_tokens(untrained, pictures, tmp_path, monkeypatch, capsys):
    """Said before anything is computed: how much it would be, and how many would fit."""
    monkeypatch.setattr(embedding.shutil, "disk_usage", lambda path: DiskUsage(0, 0, 2 * 3 * 4 * 32 * 2 + 5))
    with pytest.raises(SystemExit) as stopped:
        embed("--data", f"folder:{pictures}", "--out", tmp_path / "a.npz", "--features", "tokens")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith("GB are free: --limit 3 fits\n")
    assert str(embedding.no_room(tmp_path / "a.npz", 5, Grid(50, 50, 0), 32, "float16")).endswith("write elsewhere")
    embed("--data", f"folder:{pictures}", "--out", tmp_path / "a.npz", "--features", "tokens", "--limit", 3)
    assert 2 <= len(arrays(tmp_path / "a.npz")["tokens"]) <= 3


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_is_full_all_the_same(untrained, pictures, tmp_path, monkeypatch, capsys):
    full = lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    monkeypatch.setattr("abx.probes.features.extract", full)
    with pytest.raises(SystemExit) as stopped:
        embed("--data", f"folder:{pictures}", "--out", tmp_path / "a.npz", "--features", "tokens")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: --out {tmp_path}/a.npz cannot be written: No space left on device\n"


def test_some_alone(untrained, tmp_path):
    embed("--data", "scenes:test", "--out", tmp_path / "a.npz", "--limit", 5, "--batch", 2)
    features, labels, names, classes, _ = npz(tmp_path / "a.npz")
    assert features.shape == (5, 32)
    assert len(set(names)) == 5
    assert len(classes) == 12
    assert all(0 <= label < 12 for label in labels)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--out", "x.csv"], "--out x.csv must end in .npz, .parquet, .safetensors"),
        (["--out", "no/where.npz"], "--out no/where.npz lies in no, which does not exist"),
        (["--out", "x.parquet", "--features", "both"], "--out x.parquet would hold one vector for each picture"),
        (["--precision", "float32"], "--precision is that of tokens"),
        (["--data", "folder:nowhere"], "--data: "),
        (["--init", "XS"], "--init must be Ti, S, B, L or H"),
        (["--size", "20"], "--size must be a multiple of the patch, 16, not 20"),
        (["--network", "target"], "--network must be online with RUN none"),
        (["--limit", "-1", "--out", "x.npz"], "--limit must be at least 0, not -1"),
    ],
)
def test_what_cannot_be(tmp_path, monkeypatch, capsys, flags, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        embed(*flags)
    assert stopped.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {sentence}")


def test_no_run_there(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["embed", "nowhere"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: nowhere is not there\n"


def test_a_missing_library_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    (said,) = embedding.missing(tmp_path / "x.parquet")
    assert said.endswith("needs pyarrow: pip install 'annotation-bootstrapping[parquet]', or write an .npz")
    assert embedding.missing(tmp_path / "x.npz") == []


def test_nothing_that_can_be_read(untrained, tmp_path, capsys):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(SystemExit):
        embed("--data", f"folder:{tmp_path}", "--out", tmp_path / "x.npz")
    assert capsys.readouterr().err.startswith("error: --data: ")
    assert not (tmp_path / "x.npz").exists()


def test_a_full_disk(backbone, tmp_path, monkeypatch):
    found = extract(backbone, index_of(tmp_path), Look(16), tokens=False)
    monkeypatch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(embedding.Unwritable, match="No space left on device"):
        embedding.write(tmp_path / "x.npz", found, (), {})
    assert math.isnan(found.facts[0].distance)


def index_of(folder):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "0.png")
    return index(str(folder))
