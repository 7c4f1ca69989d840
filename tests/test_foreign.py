"""Weights of others in our ViT: their names, their arithmetic, and what cannot be taken."""

from dataclasses import replace
from pathlib import Path

import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from safetensors.numpy import save_file

from abx.data.sources import SpecError
from abx.experiment.beginning import backbone_of, problems
from abx.experiment.loading import problems_of_network
from abx.experiment.offering import offer
from abx.nn import ViT, ViTConfig
from abx.nn.timm import to_timm
from abx.nn.vit import resampled


@pytest.fixture
def image(rng):
    return rng.uniform(-1, 1, (12, 12, 3)).astype(np.float32)


def saved(path, arrays):
    np.savez(path, **arrays) if path.suffix == ".npz" else save_file(arrays, path)
    return str(path)


@pytest.mark.parametrize("pool", ["gap", "map", "tok"])
def test_big_vision_by_its_own_arithmetic(rng, tmp_path, image, pool):
    """`rng` numbers under published names, against flax's forward pass written out by hand."""
    arrays = foreign.big_vision(rng, pool=pool)
    vit, said = backbone_of(saved(tmp_path / "bv.npz", arrays | {"params/head/kernel": np.zeros((16, 5))}), "auto")
    expected = foreign.as_big_vision_computes(arrays, image)
    tokens = vit(jnp.asarray(image))
    np.testing.assert_allclose(tokens, expected, atol=1e-5)
    features = {"gap": expected.mean(0), "tok": expected[0]}
    wanted = foreign.pooled(arrays, expected) if pool == "map" else features[pool]
    np.testing.assert_allclose(vit.pool(tokens), wanted, atol=1e-5)
    assert (vit.config.heads, vit.config.gelu, vit.config.size) == (2, "tanh", 12)
    assert "skipped  params/head/kernel" in said


@pytest.mark.parametrize("told", [foreign.scanned, foreign.of_2020], ids=lambda f: f.__name__)
def test_big_visions_other_names_are_the_same_network(rng, tmp_path, image, told):
    arrays = foreign.big_vision(rng, pool="tok")
    vit, _ = backbone_of(saved(tmp_path / "other.npz", told(arrays)), "auto")
    np.testing.assert_allclose(vit(jnp.asarray(image)), foreign.as_big_vision_computes(arrays, image), atol=1e-5)


def test_scanned_blocks_are_read_once(rng, tmp_path, monkeypatch):
    arrays = foreign.scanned(foreign.big_vision(rng))
    path = saved(tmp_path / "scanned.npz", arrays)
    reads, load = [], np.load
    monkeypatch.setattr(np, "load", lambda *args, **more: reads.append(args) or load(*args, **more))
    backbone_of(path, "auto")
    assert len(reads) <= len(arrays)


def test_heads_that_neither_names_nor_width_tell_must_be_given(tmp_path):
    config = ViTConfig(width=40, depth=1, heads=5, mlp=80, patch=4, size=8)
    vit = ViT(config, key=jax.random.key(0))
    path = saved(tmp_path / "odd.safetensors", to_timm(vit))
    found = lambda heads, init=path: problems_of_network("none", "online", "newest", init, 0, "gap", "half", heads)
    [sentence] = found(0)
    assert sentence.startswith(f"--init-heads must be given for --init {path}")
    assert found(5) == []
    assert "must divide" in found(3)[0]
    again, _ = backbone_of(path, "half", heads=5)
    assert again.config.heads == 5
    usual = ViT(replace(config, width=192, heads=3), key=jax.random.key(0))
    known = saved(tmp_path / "usual.safetensors", to_timm(usual))
    assert found(0, known) == []
    told = saved(tmp_path / "told.npz", foreign.big_vision(np.random.default_rng(0)))
    assert "--init-heads must be 0 or 2" in found(4, told)[0]


def test_big_vision_in_bfloat16_as_numpy_keeps_it(rng, tmp_path):
    arrays = foreign.big_vision(rng)
    half = {name: x.astype(jnp.bfloat16) for name, x in arrays.items()}
    vit, _ = backbone_of(saved(tmp_path / "half.npz", {name: x.view("V2") for name, x in half.items()}), "auto")
    np.testing.assert_array_equal(vit.patch_embed.bias, half["params/embedding/bias"].astype(np.float32))


def test_a_text_tower_of_big_vision_is_ours(rng, tmp_path):
    from abx.checksum import by_path
    from abx.nn import TextConfig, TextEncoder

    c = TextConfig(vocab=11, length=5, width=16, depth=2, heads=2, mlp=24)
    image, text = foreign.big_vision(rng, tower="img/"), foreign.text_tower(rng, 11, 5, 16, 2, 2, 24, 6)
    found = offer(Path(saved(tmp_path / "two.npz", image | text)))
    like = TextEncoder(c, key=jax.random.key(0))
    names = [f"text.{name}" for name in by_path(like)]
    assert sorted(found.named.others) == sorted([*names, "text_head.weight"])
    leaves = [jnp.asarray(found.named.others[name].read()) for name in names]
    tower = jax.tree.unflatten(jax.tree.structure(like), leaves)
    words = np.array([3, 9, 1, 0, 7])
    a = {name.removeprefix("params/txt/"): x.astype(np.float64) for name, x in text.items()}
    expected = foreign.encoder(a, "Encoder_0", a["Embed_0/embedding"][words] + a["pos_embedding"][0])[-1]
    np.testing.assert_allclose(tower(jnp.asarray(words)), expected, atol=1e-5)
    assert set(found.named.skipped) == {"params/t", "params/txt/head/bias"}


CLS = replace(TINY, pool="token", position="learned", gelu="exact")
REGISTERS = replace(CLS, registers=4, size=32)


def dino(state, registers=False, scale=None):
    """timm's state as DINO and DINOv2 name it; `scale`: with LayerScale of this factor, undone in the matrices."""
    made = {{"reg_token": "register_tokens"}.get(name, name): x for name, x in state.items()}
    if registers:  # these have no positions there
        made["pos_embed"] = np.delete(made["pos_embed"], range(1, 1 + made["register_tokens"].shape[1]), axis=1)
    if scale:
        for i, name in ((i, name) for i in range(2) for name in ("attn.proj", "mlp.fc2")):
            for part in ("weight", "bias"):
                made[f"blocks.{i}.{name}.{part}"] = made[f"blocks.{i}.{name}.{part}"] / scale
            made[f"blocks.{i}.ls{1 + (name == 'mlp.fc2')}.gamma"] = np.full(32, scale, np.float32)
        made["mask_token"] = np.zeros((1, 32), np.float32)
    return made


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_dinos_names_there_and_back(tmp_path, prefix):
    """What timm's names say of ours, said as DINO does, comes back bit for bit."""
    vit = ViT(CLS, key=jax.random.key(0))
    state = {prefix + name: x for name, x in dino(to_timm(vit)).items()} | {"head.mlp.0.weight": np.ones((2, 2))}
    again, said = backbone_of(saved(tmp_path / "dino.safetensors", state), "half")
    # Heads are not said, and the usual are one for every 64 of the width.
    assert again.config == replace(CLS, heads=1)
    assert "assumed  1 heads; GELU exact" in said
    for a, b in zip(jax.tree.leaves(vit), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dinov2_registers_and_layer_scale(tmp_path):
    vit = ViT(REGISTERS, key=jax.random.key(0))
    path = Path(saved(tmp_path / "two.safetensors", dino(to_timm(vit), registers=True, scale=0.25)))
    found = offer(path)
    assert (found.named.family, found.pixels("auto"), found.named.skipped) == ("DINOv2", "imagenet", ["mask_token"])
    again = found.backbone(REGISTERS, "half")
    image = jax.random.uniform(jax.random.key(1), (32, 32, 3), minval=-1)
    np.testing.assert_allclose(again(image), vit(image), atol=1e-6)


def test_imagenets_pixels_go_into_the_patch_embedding(tmp_path, rng):
    vit = ViT(replace(TINY, position="learned", gelu="exact"), key=jax.random.key(0))
    path = saved(tmp_path / "mae.safetensors", to_timm(vit))
    ours = offer(Path(path)).backbone(vit.config, "imagenet")
    image = rng.uniform(0, 1, (16, 16, 3)).astype(np.float32)
    theirs = (image - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(ours(jnp.asarray(2 * image - 1)), vit(jnp.asarray(theirs)), atol=1e-5)


def test_positions_are_resampled_and_those_of_cls_kept(tmp_path, rng):
    """On a grid of another size as `ViT` itself sees views of that size; a linear ramp stays one inside."""
    state = to_timm(ViT(CLS, key=jax.random.key(0)))
    state["pos_embed"] = rng.normal(size=state["pos_embed"].shape).astype(np.float32)
    path = saved(tmp_path / "small.safetensors", state)
    small = offer(Path(path)).backbone(CLS, "half")
    large = offer(Path(path)).backbone(replace(CLS, size=32), "half")
    image = rng.uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(large(jnp.asarray(image)), small(jnp.asarray(image)), atol=1e-5)
    ramp = np.arange(8, dtype=np.float32)[None].repeat(8, 0).reshape(64, 1)
    inside = np.asarray(resampled(ramp, (16, 16))).reshape(16, 16)[:, 4:-4]
    np.testing.assert_allclose(inside, np.tile((np.arange(4, 12) + 0.5) / 2 - 0.5, (16, 1)), atol=1e-5)


def test_a_bias_that_no_block_has_is_zeros_and_one_that_some_have_is_missing(tmp_path):
    state = to_timm(ViT(CLS, key=jax.random.key(0)))
    none = {name: x for name, x in state.items() if not name.endswith("qkv.bias")}
    vit, _ = backbone_of(saved(tmp_path / "none.safetensors", none), "half")
    assert not np.any(vit.blocks.layers.attn.qkv.bias)
    del state["blocks.0.attn.qkv.bias"]
    with pytest.raises(SpecError, match=r"some.safetensors: blocks.0.attn.qkv.bias is missing$"):
        offer(Path(saved(tmp_path / "some.safetensors", state)))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("blocks.0.mlp.w12.weight", (64, 32), "SwiGLU"),
        ("norm_pre.weight", (32,), "norm before the blocks"),
        ("fc_norm.weight", (32,), "before its pooling"),
        ("blocks.1.attn.q_norm.weight", (16,), "queries and keys"),
        ("rope_embed.periods", (8,), "rotary"),
        ("blocks.0.mystery", (3,), "is unexpected"),
        ("pos_embed", (1, 7, 32), "no square grid"),
        ("patch_embed.proj.weight", (32, 4, 8, 8), "three colours"),
        ("patch_embed.proj.weight", (32,), "4 axes"),
        ("norm.bias", (7,), "has shape"),
        ("blocks.0.mlp.fc1.weight", (0, 32), "has shape"),
    ],
)
def test_what_is_no_layer_of_ours_is_refused_by_its_name(tmp_path, name, shape, said):
    state = to_timm(ViT(CLS, key=jax.random.key(0))) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(SpecError, match=said) as refused:
        offer(Path(saved(tmp_path / "x.safetensors", state)))
    assert name in str(refused.value)


def test_a_table_that_may_be_of_two_grids_is_refused(tmp_path):
    """2 x 2 patches, a [CLS] and 4 registers have as many positions as 3 x 3 patches alone."""
    vit = ViT(replace(CLS, registers=4), key=jax.random.key(0))
    with pytest.raises(SpecError, match="pos_embed has 9 rows, which may be of 2 x 2 or 3 x 3 patches"):
        offer(Path(saved(tmp_path / "x.safetensors", to_timm(vit))))


def test_flags_that_make_it_fit(tmp_path):
    state = to_timm(ViT(replace(CLS, width=192, heads=3, mlp=768, depth=12), key=jax.random.key(0)))
    path = saved(tmp_path / "ti.safetensors", state)
    asked = lambda want, pixels="half": problems(path, pixels, want, "--method.backbone")
    fits = ViTConfig(192, 12, 3, 768, 8, 16, "learned", "token")
    assert asked(fits) == asked(replace(fits, size=64, heads=6)) == []  # heads are not said
    assert asked(replace(fits, width=384, mlp=1536)) == [
        f"--size must be Ti for --init {path}, whose backbone has width 192, depth 12, mlp 768"
    ]
    wrong = asked(replace(fits, patch=16, pool="gap", position="sincos"))
    assert [sentence.partition(" for ")[0] for sentence in wrong] == [
        "--method.backbone.patch must be 8",
        "--method.backbone.pool must be token",
        "--method.backbone.position must be learned",
    ]
    [pixels] = asked(fits, "auto")
    assert pixels.startswith("--init-pixels must be given")
