# %% [markdown]
# # From a checkpoint to timm
#
# A trained backbone leaves the package as one file: to timm and so to PyTorch, back into a run or a probe here, or as a
# program that needs neither. On the way every number is checked. About a minute on two CPU cores; timm and torch are
# wanted by one cell, which says so where they are not installed.

# %%
import json
import os
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

workplace = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # gone when the kernel ends
os.chdir(workplace.name)
plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

RUN = Path("runs/short")
FILE = Path("mine.safetensors")

# %% [markdown]
# ## A checkpoint
#
# SimCLR on drawn scenes, for a moment: what leaves is the same after 30 steps as after 30,000.

# %%
from abx.augment import GENTLE
from abx.data.layouts import PairData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe
from abx.experiment.run import run
from abx.methods import SimCLR
from abx.nn import ViTConfig
from abx.optim import AdamW

recipe = Recipe(
    method=SimCLR(
        ViTConfig(width=64, depth=3, heads=2, mlp=192, patch=4, size=32), hidden=128, embed=64, photometric=GENTLE
    ),
    data=PairData(batch=32, views=RandomCrops(n=2, size=32, scale=(0.2, 1.0))),
    steps=30,
    optim=AdamW(lr=1e-3, beta2=0.98),
    eval=Evaluation(every=0),
    ckpt=Checkpointing(every=0),
    log=Logging(every=15),
    out=RUN,
)
if not RUN.exists():
    run(recipe)

# %% [markdown]
# ## One file
#
# What `abx export runs/short --format timm --out mine.safetensors` does: the backbone of a checkpoint under timm's names,
# and a header that says what it is. The optimiser, heads and the other network stay behind.

# %%
from abx.experiment.elsewhere import loaders, timm_call
from abx.experiment.exporting import about, safetensors_of, timm_arrays, write
from abx.experiment.loading import load_subject

subject = load_subject(RUN, network="online", step="newest")
config = subject.backbone.config
header = about(subject, "backbone") | {"timm": timm_call(config)}
write(FILE, lambda: safetensors_of(timm_arrays(subject.backbone), header))
print(f"{FILE}: {FILE.stat().st_size / 1e6:.2f} MB")

# %% [markdown]
# Read back from the file as anybody would, with safetensors alone. `run` and `config`, left out here, say where it is
# from, with every setting.

# %%
from safetensors import safe_open

with safe_open(FILE, "numpy") as file:
    arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    told = json.loads(file.metadata()["abx"])
for name in ("format", "abx", "parts", "network", "step", "views_seen", "pixels", "preprocessing", "backbone"):
    print(f"{name:13} {json.dumps(told[name])}")
print()
for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "norm.weight"):
    print(f"{name:26} {arrays[name].dtype} {arrays[name].shape}")
assert (told["step"], told["views_seen"]) == (30, 30 * 64)

# %% [markdown]
# ## In timm
#
# Two lines load it, after an import; `abx export` prints them. The call has every size, so that timm builds this very
# network, and says how pictures are shown to it.

# %%
lines = loaders("timm", FILE, config)
print(*lines, sep="\n")

# %% [markdown]
# Tokens of four pictures, here and there. Pictures are in [-1, 1] for both: timm's mean and deviation are 0.5.

# %%
from abx.data import loader
from abx.data.specs import open_source

pictures, _ = loader.central(open_source("scenes:test"), 4, config.size, labelled=True)
tokens_of = jax.jit(jax.vmap(lambda backbone, image: backbone(image), (None, 0)))
ours = np.asarray(tokens_of(subject.backbone, pictures))

if find_spec("timm") and find_spec("torch"):
    import timm
    import torch

    made = {}
    exec("\n".join(lines), made)
    with torch.no_grad():
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
        theirs = made["model"].eval().forward_features(pixels).numpy()
    print(f"timm {timm.__version__}: tokens {theirs.shape}, which differ by {abs(theirs - ours).max():.1e} at most")
    assert np.allclose(theirs, ours, atol=1e-4)
else:
    print("timm and torch are not installed here, so nothing was compared: pip install timm. The rest needs neither.")

# %% [markdown]
# ## And back
#
# The names lead back as well: the same tokens, to the last bit. The picture shows them, one row as they left and one as
# they came back: the first three principal components of all tokens as red, green and blue.

# %%
from abx.nn.timm import from_timm

back = from_timm(arrays, config)
returned = np.asarray(tokens_of(back, pictures))
assert np.array_equal(returned, ours)

side = config.size // config.patch
mean = ours.mean((0, 1))
axes3 = np.linalg.svd((ours - mean).reshape(-1, config.width), full_matrices=False)[2][:3]
fig, axes = plt.subplots(2, 8, figsize=(7, 1.9))
for row, tokens in zip(axes, (ours, returned), strict=True):
    colours = (tokens - mean) @ axes3.T
    colours = (colours - colours.min((0, 1))) / np.ptp(colours, axis=(0, 1))
    for i in range(4):
        row[2 * i].imshow(pictures[i])
        row[2 * i + 1].imshow(colours[i].reshape(side, side, 3))
for ax in axes.flat:
    ax.axis("off")

# %% [markdown]
# ## To begin a run with it
#
# `--init FILE` in every recipe, `init=` in a notebook: what the file has of the backbone goes into both networks, and what
# was loaded and what not is said at the start. Before its first step this run gives the tokens that the other ended
# with.

# %%
from abx.experiment.loading import untrained


def began(recipe):
    """The backbone of a run as it was before its first step, after two of them."""
    run(recipe)
    return untrained(str(recipe.out)).backbone


second = replace(recipe, init=str(FILE), seed=1, steps=2, log=Logging(every=1), out=Path("runs/second"))
assert not second.problems()
assert np.array_equal(np.asarray(tokens_of(began(second), pictures)), ours)

# %% [markdown]
# ## Files of others
#
# The same flag takes ViTs by the names of timm, DINO, DINOv2 and big_vision. Their files do not say how pictures are to
# be shown or what else cannot be seen in names and shapes, so it is asked. Here are our own numbers without the header,
# as a file from elsewhere would come: with the positions as an array.

# %%
from safetensors.numpy import save_file

save_file(arrays, "theirs.safetensors")
foreign = replace(second, init="theirs.safetensors", out=Path("runs/third"))
for problem in foreign.problems():
    print(problem)
assert any("--init-pixels" in problem for problem in foreign.problems())

# %% [markdown]
# With both said it is the same network again. What is assumed is said, too: the number of heads and the kind of GELU
# are the recipe's, since no array tells.

# %%
method = replace(recipe.method, backbone=replace(config, position="learned"))
foreign = replace(foreign, init_pixels="half", method=method)
assert not foreign.problems()
assert np.allclose(np.asarray(tokens_of(began(foreign), pictures)), ours, atol=1e-5)

# %% [markdown]
# Pickles (`.pt`, `.pth`) may run anything when they are opened, so none is; the sentence has the lines that convert one.

# %%
Path("model.pth").write_bytes(b"")
print(*replace(second, init="model.pth", out=Path("runs/fourth")).problems(), sep="\n")

# %% [markdown]
# ## A program
#
# Where there is to be no framework but an XLA runtime: StableHLO with the numbers inside, uint8 pixels in, features out,
# for any number of pictures. `abx export runs/short --out mine.stablehlo` writes it into an archive with the same header.

# %%
if find_spec("flatbuffers"):
    from abx.experiment.stablehlo import program_of

    network = jax.export.deserialize(bytearray(program_of(subject.backbone)))
    pooled = np.asarray(jax.vmap(subject.backbone.pool)(ours))
    for count in (1, 4):
        print(f"{count} in, {network.call(pictures[:count]).shape} out")
        assert np.allclose(network.call(pictures[:count]), pooled[:count], atol=1e-4)
else:
    print("flatbuffers is not installed: pip install 'annotation-bootstrapping[export]'")

# %% [markdown]
# [Weights out and in](../docs/weights.md) has every field of the header, all names, and what is refused and why.
