"""MAE's and I-JEPA's masks against the published code, where a checkout of it is at hand.

ABX_REFERENCES names a folder with checkouts of facebookresearch/{mae,ijepa}; nothing of them is kept here.
"""

import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from abx.methods.mae import patchify
from abx.methods.masks import MultiBlock, block_sizes, random_mask

torch = pytest.importorskip("torch", reason="parity: torch is not installed")
pytestmark = pytest.mark.parity

VIEWS = 1500
CASES = {
    "paper": (MultiBlock(), 14),
    "crowded": (MultiBlock(3, (0.25, 0.45), (0.5, 2.0), (0.3, 0.7), min_keep=5), 7),
}
"""In the second, targets often have to give way."""


def reference(monkeypatch, repository, file):
    """A module of a checkout, by its file alone."""
    folder = Path(os.environ.get("ABX_REFERENCES", ""), repository).absolute()
    if "ABX_REFERENCES" not in os.environ or not folder.is_dir():
        pytest.skip(f"parity: no checkout of facebookresearch/{repository} in the folder ABX_REFERENCES names")
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(f"reference_{repository}", folder / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in set(sys.modules) - before:  # `util` and the like must not be found by anyone else
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    return module


@pytest.mark.parametrize(("t", "ratio"), [(196, 0.75), (196, 0.9), (64, 0.6), (25, 0.75)])
def test_random_masks_are_maes_for_the_same_noise(rng, monkeypatch, t, ratio):
    model = reference(monkeypatch, "mae", "models_mae.py").MaskedAutoencoderViT
    noise, x = rng.random((5, t)).astype(np.float32), rng.normal(size=(5, t, 3)).astype(np.float32)
    monkeypatch.setattr(torch, "rand", lambda *shape, device: torch.tensor(noise))
    kept, mask, _ = model.random_masking(SimpleNamespace(), torch.tensor(x), ratio)
    places, ours = jax.vmap(lambda row: random_mask(row, int(t * (1 - ratio))))(jnp.asarray(noise))
    np.testing.assert_array_equal(ours, mask.numpy())
    np.testing.assert_array_equal(np.take_along_axis(x, np.asarray(places)[..., None], 1), kept.numpy())


def test_patches_are_maes(rng, monkeypatch):
    model = reference(monkeypatch, "mae", "models_mae.py").MaskedAutoencoderViT
    images = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
    self = SimpleNamespace(patch_embed=SimpleNamespace(patch_size=(4, 4)))
    expected = model.patchify(self, torch.tensor(images.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(jax.vmap(lambda x: patchify(x, 4))(images), expected.numpy())


def collator(monkeypatch, blocks, grid):
    return reference(monkeypatch, "ijepa", "src/masks/multiblock.py").MaskCollator(
        input_size=(grid, grid),
        patch_size=1,
        enc_mask_scale=blocks.context_scale,
        pred_mask_scale=blocks.target_scale,
        aspect_ratio=blocks.target_aspect,
        nenc=1,
        npred=blocks.targets,
        min_keep=blocks.min_keep,
    )


@pytest.mark.parametrize("name", CASES)
def test_block_sizes_are_ijepas_for_the_same_number(monkeypatch, name):
    blocks, grid = CASES[name]
    theirs = collator(monkeypatch, blocks, grid)
    numbers = np.random.default_rng(0).random(3000)
    for scale, aspect in ((blocks.target_scale, blocks.target_aspect), (blocks.context_scale, (1.0, 1.0))):
        sizes = block_sizes(grid, scale, aspect)
        for u in numbers:
            monkeypatch.setattr(torch, "rand", lambda *_, generator, u=u: torch.tensor([u], dtype=torch.float64))
            i = np.searchsorted(sizes.upto, u, side="right")
            assert theirs._sample_block_size(None, scale, aspect) == (sizes.height[i], sizes.width[i])


@pytest.mark.parametrize("name", CASES)
def test_masks_are_ijepas_in_distribution(monkeypatch, caplog, name):
    """A view at a time, so that nothing is cut to the shortest of a batch: sizes, lengths, places."""
    blocks, grid = CASES[name]
    theirs = collator(monkeypatch, blocks, grid)
    torch.manual_seed(0)
    collated = [theirs([torch.zeros(1)])[1:] for _ in range(VIEWS)]
    masks = jax.jit(jax.vmap(lambda key: blocks.batch(grid, 1, key)))(jax.random.split(jax.random.key(0), VIEWS))
    masks = jax.device_get(jax.tree.map(lambda x: x[:, 0], masks))
    pairs = [(context[0][0].numpy(), [target[0].numpy() for target in targets]) for context, targets in collated]
    ours = [
        (context[valid], [t[w] for t, w in zip(targets, wanted, strict=True)])
        for context, valid, targets, wanted in zip(*masks, strict=True)
    ]
    measured = [figures(sample, grid) for sample in (pairs, ours)]
    for (what, a), b in zip(measured[0].items(), measured[1].values(), strict=True):
        error = np.sqrt((a.var(0) + b.var(0)) / VIEWS)
        assert (np.abs(a.mean(0) - b.mean(0)) <= 4.5 * error + 1e-9).all(), what
    shapes = [Counter(shape(targets[0], grid) for _, targets in sample) for sample in (pairs, ours)]
    for size in set(shapes[0]) | set(shapes[1]):
        share = (shapes[0][size] + shapes[1][size]) / (2 * VIEWS)
        assert abs(shapes[0][size] - shapes[1][size]) <= 4.5 * np.sqrt(2 * VIEWS * share * (1 - share)) + 1, size
    gives_way = "decreasing acceptable-regions" in caplog.text
    assert gives_way == (name == "crowded")


def shape(places, grid):
    return len(np.unique(places // grid)), len(np.unique(places % grid))


def figures(sample, grid):
    """Per view: lengths, their square, how often each patch is context and target, targets that are in the context."""
    held = lambda places: np.bincount(places, minlength=grid**2)
    contexts, targets = zip(*sample, strict=True)
    length = np.array([len(c) for c in contexts], float)
    return {
        "context": length,
        "context squared": length**2,
        "target": np.array([len(t[0]) for t in targets], float),
        "context by patch": np.array([held(c) for c in contexts]),
        "target by patch": np.array([held(np.concatenate(t)) for t in targets]),
        "overlap by target": np.array(
            [[len(np.intersect1d(c, t)) for t in ts] for c, ts in zip(contexts, targets, strict=True)]
        ),
    }
