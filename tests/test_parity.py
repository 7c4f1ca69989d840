"""The same numbers as the reference implementations, where those are at hand; skipped, with the reason, where not.

open_clip and timm are packages. The rest are checkouts of facebookresearch/{dino,mae,ijepa,SLIP}, imported from the
folder that the environment variable ABX_REFERENCES names; nothing of them is kept here.
"""

import importlib
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from abx import losses
from abx.nn.timm import from_timm

torch = pytest.importorskip("torch", reason="parity: torch is not installed")
pytestmark = pytest.mark.parity

agree = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
SHAPES = [(1, 3), (7, 13), (64, 48)]


@pytest.fixture
def reference(monkeypatch):
    """Imports a module of a checkout as its own scripts would, and forgets it afterwards: two of them are `utils`."""
    before, own = set(sys.modules), set()

    def load(repository, module):
        folder = Path(os.environ.get("ABX_REFERENCES", ""), repository).absolute()
        if "ABX_REFERENCES" not in os.environ or not folder.is_dir():
            pytest.skip(f"parity: no checkout of facebookresearch/{repository} in the folder ABX_REFERENCES names")
        monkeypatch.syspath_prepend(folder)
        own.update(path.stem for path in folder.iterdir())
        return importlib.import_module(module)

    yield load
    for name in set(sys.modules) - before:
        if name.split(".")[0] in own:
            del sys.modules[name]


def theirs(x):
    return torch.tensor(np.asarray(x, np.float32), requires_grad=True)


def assert_same_loss(ours, reference, *arrays):
    """Values and gradients with respect to every array, these to 1e-5 of the largest."""
    differentiated = jax.jit(jax.value_and_grad(ours, range(len(arrays))))
    value, gradients = differentiated(*(jnp.asarray(x, jnp.float32) for x in arrays))
    tensors = [theirs(x) for x in arrays]
    loss = reference(*tensors)
    loss.backward()
    agree(value, loss.item())
    for g, tensor in zip(gradients, tensors, strict=True):
        agree(g, tensor.grad.numpy(), atol=1e-5 * max(tensor.grad.abs().max().item(), 1e-2))


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize(("b", "e"), SHAPES)
def test_clip_and_siglip_are_open_clips(rng, b, e):
    open_clip = pytest.importorskip("open_clip.loss", reason="parity: open_clip_torch is not installed")
    u, v = rng.normal(size=(2, b, e))
    reference = lambda u, v, scale: open_clip.ClipLoss()(unit(u), unit(v), scale)
    assert_same_loss(losses.clip_loss, reference, u, v, 1 / 0.07)
    reference = lambda u, v, scale, bias: open_clip.SigLipLoss()(unit(u), unit(v), scale, bias)
    assert_same_loss(losses.siglip_loss, reference, u, v, 10.0, -10.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_is_torchs(rng, smoothing):
    logits, positives = 5 * rng.normal(size=(7, 13)), rng.integers(0, 13, 7)
    assert_same_loss(
        lambda x: losses.info_nce(x, jnp.asarray(positives), smoothing=smoothing),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(positives), label_smoothing=smoothing),
        logits,
    )


@pytest.mark.parametrize(("b", "e"), SHAPES)
def test_simclr_and_clip_are_slips(rng, reference, b, e):
    slip = reference("SLIP", "losses")
    names = ("image_embed", "text_embed", "aug1_embed", "aug2_embed", "logit_scale")
    total = slip.SLIPLoss(slip.SIMCLRLoss(temperature=0.1), ssl_scale=1.0)
    assert_same_loss(
        lambda image, text, view1, view2, scale: (
            losses.clip_loss(image, text, scale) + losses.simclr_loss(view1, view2)
        ),
        lambda *tensors: total(dict(zip(names, tensors, strict=True)))["loss"],
        *rng.normal(size=(4, b, e)),
        1 / 0.07,
    )


def test_dino_and_its_center_are_dinos_over_ten_steps(rng, reference, monkeypatch):
    dino = reference("dino", "main_dino")
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    g, v, b, k = 2, 10, 5, 251
    loss = dino.DINOLoss(k, v, 0.04, 0.07, warmup_teacher_temp_epochs=5, nepochs=10)
    center = jnp.zeros(k)
    for step, temperature in enumerate([*np.linspace(0.04, 0.07, 5), *[0.07] * 5]):
        student, teacher = rng.uniform(-1, 1, (v, b, k)), rng.uniform(-1, 1, (g, b, k)) + 0.3 * rng.normal(size=k)
        teacher = jnp.asarray(teacher, jnp.float32)
        assert_same_loss(
            lambda x: losses.dino_loss(x, teacher, center, 0.1, jnp.float32(temperature)),  # noqa: B023
            lambda x: loss(x.flatten(0, 1), theirs(teacher).detach().flatten(0, 1), step),  # noqa: B023
            student,
        )
        center = losses.update_center(center, teacher)
        agree(center, loss.center[0].numpy())


def test_mae_loss_is_maes(rng, reference):
    model = reference("mae", "models_mae").MaskedAutoencoderViT
    p, grid = 4, 5
    image, pred = rng.uniform(-1, 1, (3, grid * p, grid * p, 3)), rng.normal(size=(3, grid**2, p * p * 3))
    mask = np.float32(rng.random((3, grid**2)) < 0.75)
    # Its loss is a method that needs little of the model: the size of a patch, and how it cuts an image into them.
    self = SimpleNamespace(patch_embed=SimpleNamespace(patch_size=(p, p)), norm_pix_loss=True)
    self.patchify = partial(model.patchify, self)
    patches = image.reshape(3, grid, p, grid, p, 3).transpose(0, 1, 3, 2, 4, 5).reshape(pred.shape)
    assert_same_loss(
        lambda pred: losses.mae_loss(pred, jnp.asarray(patches, jnp.float32), jnp.asarray(mask)),
        lambda pred: model.forward_loss(self, theirs(image.transpose(0, 3, 1, 2)).detach(), pred, torch.tensor(mask)),
        pred,
    )


@pytest.mark.parametrize("padding", [0, 3])
def test_ijepa_loss_is_ijepas(rng, reference, padding):
    """Blocks padded to a fixed length here, tokens gathered and concatenated there."""
    gathered = reference("ijepa", "src.masks.utils").apply_masks
    b, t, d, blocks, kept = 3, 25, 16, 4, 6
    features, pred = rng.normal(size=(b, t, d)), 2 * rng.normal(size=(b, blocks, kept, d))
    places = np.stack([rng.permuted(np.tile(np.arange(t), (blocks, 1)), axis=1) for _ in range(b)])[..., :kept]
    goal = gathered(unit_variance(theirs(features)), [torch.tensor(places[:, m]) for m in range(blocks)]).detach()

    def ours(pred):
        x = jnp.asarray(features, jnp.float32)
        x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
        wide = ((0, 0), (0, 0), (0, padding))
        target = jax.vmap(lambda x, at: x[at])(x, jnp.pad(places, wide))
        pred = jnp.pad(pred, (*wide, (0, 0)), constant_values=7.0)
        return losses.ijepa_loss(pred, target, jnp.pad(jnp.ones(places.shape), wide) if padding else None)

    reference_loss = lambda pred: torch.nn.functional.smooth_l1_loss(pred.transpose(0, 1).flatten(0, 1), goal)
    assert_same_loss(ours, reference_loss, pred)


def unit_variance(x):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],))


def timms(**changes):
    """A timm ViT of random numbers, and its state."""
    timm = pytest.importorskip("timm.models.vision_transformer", reason="parity: timm is not installed")
    torch.manual_seed(0)
    model = timm.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, **changes
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval(), {name: x.numpy().copy() for name, x in model.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"class_token": True, "global_pool": "token"},
        {"class_token": False, "global_pool": "avg", "fc_norm": False},
        {"class_token": True, "global_pool": "token", "reg_tokens": 4, "init_values": 0.1},
        {"class_token": True, "global_pool": "token", "reg_tokens": 4, "no_embed_class": True, "qkv_bias": False},
        {"class_token": False, "global_pool": "map"},
    ],
    ids=["cls", "gap", "registers, layer scale", "registers without positions, no bias", "map"],
)
def test_a_file_of_timms_gives_timms_tokens(rng, tmp_path, changes):
    from safetensors.numpy import save_file

    from abx.experiment.offering import offer

    model, state = timms(**changes)
    save_file(state, tmp_path / "timm.safetensors")
    found = offer(tmp_path / "timm.safetensors")
    vit = found.backbone(replace(found.config, heads=2), "half")
    image = rng.uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model.forward_features(torch.tensor(image.transpose(2, 0, 1)[None]))
        features = model.forward_head(expected)
    tokens = vit(jnp.asarray(image))
    agree(tokens, expected[0].numpy())
    agree(vit.pool(tokens), features[0].numpy())


@pytest.mark.parametrize("pool", ["gap", "token", "map"])
@pytest.mark.parametrize("registers", [0, 4])
def test_the_printed_lines_load_our_export_in_timm(rng, tmp_path, pool, registers):
    timm = pytest.importorskip("timm", reason="parity: timm is not installed")
    from abx.data.images import center_crop
    from abx.experiment.elsewhere import loaders
    from abx.experiment.exporting import safetensors_of, timm_arrays, write
    from abx.nn import ViT

    if registers and pool != "token":
        pytest.skip("registers go beside a [CLS]")
    # An MLP whose ratio to the width is no whole number.
    config = replace(TINY, mlp=75, pool=pool, registers=registers)
    vit, out = ViT(config, key=jax.random.key(0)), tmp_path / "ours.safetensors"
    write(out, lambda: safetensors_of(timm_arrays(vit), {}))
    names: dict[str, object] = {}
    exec("\n".join(loaders("timm", out, config)), names)
    model = names["model"].eval()
    shows = timm.data.resolve_model_data_config(model)
    # The header's preprocessing, in timm's words.
    assert (shows["input_size"], shows["crop_pct"], shows["crop_mode"]) == ((3, 16, 16), 0.875, "center")
    assert (shows["interpolation"], shows["mean"], shows["std"]) == ("bicubic", (0.5,) * 3, (0.5,) * 3)
    # A square one: of others timm rounds the long side.
    picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
    pixels, theirs = center_crop(picture, 16), timm.data.create_transform(**shows)(Image.fromarray(picture))
    # Resampled to whole levels by both, of 127.5 to a unit.
    np.testing.assert_allclose(theirs.numpy(), (pixels / 127.5 - 1).transpose(2, 0, 1), atol=2.1 / 127.5)
    mean, std = (np.array(shows[name], np.float32) for name in ("mean", "std"))
    shown = torch.tensor(((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)[None])
    with torch.no_grad():
        agree(vit(jnp.asarray(pixels)), model.forward_features(shown)[0].numpy())
        agree(vit.pool(vit(jnp.asarray(pixels))), model(shown)[0].numpy())


@pytest.mark.parametrize("pool", ["gap", "token", "map"])
@pytest.mark.parametrize("gelu", ["tanh", "exact"])
def test_vit_is_timms(rng, pool, gelu):
    timm = pytest.importorskip("timm.models.vision_transformer", reason="parity: timm is not installed")
    config = replace(TINY, pool=pool, position="learned", gelu=gelu)
    torch.manual_seed(0)
    model = timm.VisionTransformer(
        img_size=config.size,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp / config.width,
        class_token=pool == "token",
        global_pool={"gap": "avg"}.get(pool, pool),
        fc_norm=False,
        num_classes=0,
        act_layer={"tanh": "gelu_tanh", "exact": "gelu"}[gelu],
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    vit = from_timm({name: x.numpy() for name, x in model.state_dict().items()}, config)
    image = rng.uniform(-1, 1, (config.size, config.size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model.forward_features(torch.tensor(image.transpose(2, 0, 1)[None]))
        features = model.forward_head(expected)
    tokens = vit(jnp.asarray(image))
    agree(tokens, expected[0].numpy())
    agree(vit.pool(tokens), features[0].numpy())
