# %% [markdown]
# # Read a value map
#
# The value Q(x, a, l) says, from one view of a picture and without looking, how well annotation l will fit another box,
# and the best box after that. A map of it looks convincing long before it knows anything. So here is how to read one:
# what part of it is about the place, what copying would have given for nothing, and what happens with the boxes of
# others. The run is one of a minute on two CPU cores; name one of yours, and the rest can stay as it is.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

workplace = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # gone when the kernel ends
os.chdir(workplace.name)
plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

RUN = Path("runs/short")  # any run of AB over SimCLR

# %% [markdown]
# ## A short run
#
# AB over SimCLR on drawn scenes, a smaller network than that of `python recipes/ab_simclr.py`.

# %%
from abx.augment import GENTLE
from abx.data.layouts import ABData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe
from abx.experiment.run import run
from abx.methods import AB, SimCLR
from abx.nn import DecoderConfig, ViTConfig
from abx.optim import EMA, AdamW

recipe = Recipe(
    method=AB(
        SimCLR(
            ViTConfig(width=64, depth=3, heads=2, mlp=192, patch=8, size=32),
            hidden=128,
            embed=64,
            photometric=GENTLE,
        ),
        decoder=DecoderConfig(width=64, depth=1, heads=2, mlp=128, bins=64),
        value_embed=64,
        value_bias="first-batch",
        gamma_warmup=50,
    ),
    data=ABData(
        reward_batch=48,
        value_batch=24,
        reward_views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)),
        value_views=RandomCrops(n=3, size=32, scale=(0.1, 0.5)),
        workers=2,
        worker="thread",
    ),
    steps=200,
    optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
    ema=EMA(tau=0.01, shape="constant"),
    eval=Evaluation(every=0),
    ckpt=Checkpointing(every=0),
    log=Logging(every=50),
    out=RUN,
)
if not RUN.exists():
    run(recipe)

# %% [markdown]
# ## One map
#
# `explore_run` computes what the page of `abx explore` is made of: from 75 boxes of a picture to 324, for a few
# annotations. SimCLR's annotations are views of other pictures; these are the four of a batch that are worth most
# somewhere on this scene, which the run has not seen.

# %%
from abx.data.specs import open_source
from abx.experiment.exploring import explore_run

scene = open_source("scenes:test")[3].image
Image.fromarray(scene).save("scene.png")
page = explore_run(RUN, Path("scene.png"), count=4)
[(step, found)] = page.values.items()
value = 1 / (1 + np.exp(-found.logits))
print(f"step {step}: values of {value.shape[0]} x {value.shape[1]} moves for {value.shape[2]} annotations")
print(page.note)

# %% [markdown]
# One box to stand in, the middle one of a quarter of the picture (orange), and all target boxes of that size. The value
# of each is painted at its middle. Of a map, first read the scale: these are probabilities shared out over a batch of
# annotations, so a level of one in their number is what guessing gives. What counts is by how much the map rises and
# falls, as a share of its mean: below each map.

# %%
places = page.sources.boxes.shape[1], page.targets.boxes.shape[1]
here = 1 * places[0] ** 2 + places[0] ** 2 // 2  # the second size, the place in the middle
there = slice(2 * places[1] ** 2, 3 * places[1] ** 2)  # the third size, all places
maps = value[here, there].reshape(places[1], places[1], -1)
height, width = scene.shape[:2]

fig, axes = plt.subplots(2, 5, figsize=(8, 3.8))
y0, x0, y1, x1 = page.sources.flat[here] * [height, width, height, width]
axes[0, 0].imshow(scene)
axes[0, 0].add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="orange", lw=2))
axes[0, 0].set_title("here", fontsize=9)
for k, (look, above, below) in enumerate(zip(page.annotations, axes[0, 1:], axes[1, 1:], strict=True)):
    above.imshow(look.look)
    above.set_title(f"annotation {k + 1}", fontsize=9)
    drawn = below.imshow(maps[..., k], vmin=maps.min(), vmax=maps.max())
    mean = maps[..., k].mean()
    below.set_title(
        f"{mean:.3f}, {maps[..., k].min() / mean - 1:+.0%} {maps[..., k].max() / mean - 1:+.0%}", fontsize=9
    )
fig.colorbar(drawn, ax=axes[1, 0], location="left", fraction=0.9)
for ax in axes.flat:
    ax.axis("off")
assert ((value > 0) & (value < 1)).all()

# %% [markdown]
# ## How much of it is about this annotation in this place?
#
# The four maps look alike. A logit can be taken apart into four sums: a level for all, what the annotation adds wherever
# one goes, what the place adds for whatever annotation, and the rest. Only the rest answers the question that one has in
# mind with a map, *where would this annotation fit?* The first is no knowledge of the picture's places, and the second
# is, say, that the middle shows more than a corner.

# %%
logits = found.logits[here, there]  # g l
level = logits.mean()
annotation = logits.mean(0, keepdims=True) - level
place = logits.mean(1, keepdims=True) - level
rest = logits - level - annotation - place
parts = {"annotation": annotation, "place": place, "annotation in its place": rest}
total = sum(np.broadcast_to(part, logits.shape).var() for part in parts.values())
for name, part in parts.items():
    print(f"{name:24} {np.broadcast_to(part, logits.shape).var() / total:6.1%} of the variance")
assert np.isclose(total, logits.var(), rtol=1e-3)

# %% [markdown]
# ## What copying gives
#
# Views of a picture look alike. Whoever names the annotation that fits the view it *stands in* is often right about
# another view, and has not moved at all. As a map, copying is one colour. So an accuracy of the value head is read beside
# that of copying, and both by how far away the other view is (IoU of the boxes: disjoint up to 0.05, then 0.2, 0.4).

# %%
from abx.analysis.values import value_metrics
from abx.experiment.heldout import Held

held = Held.open(RUN)
method, [state] = held.recipe.method, list(held.states(newest=True))
batches = [loaded.batch for loaded in held.batches(6)]
figures = value_metrics(method, state.model, state.target, state.carry, batches)

bins = [name for name in ("disjoint", "far", "mid", "near") if f"value/accuracy_{name}" in figures]
fig, ax = plt.subplots(figsize=(4.8, 2.4))
for shift, (name, label) in zip((-0.2, 0.2), (("accuracy", "value head"), ("copy_accuracy", "copying")), strict=True):
    ax.bar(np.arange(len(bins)) + shift, [figures[f"value/{name}_{bin}"] for bin in bins], 0.38, label=label)
ax.axhline(figures["value/chance"], color="grey", ls=":", label="guessing")
ax.set(title="names what fits the other view best", xlabel="how near the other view is", ylim=(0, None))
ax.set_xticks(range(len(bins)), bins)
ax.legend();

# %% [markdown]
# Copying mostly wins in a short run. That does not mean that nothing was learnt: an accuracy asks for the first choice
# alone, and the value says how sure one can be. *Explained* asks for all of it: the share of the distance between the
# mean value of each annotation (0) and the targets themselves (1). *Over copy* is how much of what the best mixture of
# copy and mean leaves is removed: above 0, the head knows more than how far away a view is.

# %%
for name, what in (("value/explained", "explained"), ("value/over_copy", "over copy")):
    print(f"{what:10} {figures[name]:+.0%}")
assert figures["value/explained"] > 0

# %% [markdown]
# ## The boxes of others
#
# Does the head look at where it goes? Tell it the way to another view than the one that it is asked about, and see how
# much worse it gets. This is the one figure that a head without any use for boxes cannot have.

# %%
print(f"told the wrong boxes, its error rises by {figures['value/rotated_rise']:.1%}")

# %% [markdown]
# The same question of maps. The rewards of all target boxes are known, for the network can be shown them: do the maps
# rise where the reward does? On 32 scenes, with 16 annotations: the correlation of the rest of above, the annotation in
# its place, with the same part of the reward's logarithm; and, to compare with, with that of the next scene.

# %%
from abx.analysis.value_grid import value_grid

sources, targets = page.sources.flat[here][None], page.targets.flat[there]
test, chosen, size = open_source("scenes:test"), np.arange(16), page.view


def own_part(x):
    return x - x.mean(0, keepdims=True) - x.mean(1, keepdims=True) + x.mean()


expects, has = [], []
for i in range(32):
    grid = value_grid(
        method, state.model, state.carry, test[i].image, sources, targets, batches[0].reward, chosen, size=size
    )
    expects.append(own_part(grid.logits[0]).ravel())
    has.append(own_part(np.log(grid.there)).ravel())
for name, shift in (("its own rewards", 0), ("the next scene's", 1)):
    found = np.array([np.corrcoef(expects[i], has[(i + shift) % 32])[0, 1] for i in range(32)])
    print(f"{name:17} {found.mean():+.3f}, standard error {found.std(ddof=1) / np.sqrt(32):.3f}")
    assert np.isfinite(found).all()

# %% [markdown]
# 1 would be a map that knows where each annotation fits; what is in both lines has nothing to do with this picture.
#
# ## Move about by hand
#
# The page behind these numbers has two boxes that can be dragged. `abx explore RUN PICTURE` writes it; in a notebook
# `page`, alone on the last line of a cell, shows it in a frame.

# %%
Path("explorer.html").write_text(page.html)
print(f"explorer.html: {len(page.html) / 1e6:.1f} MB, nothing else is needed to open it")

# %% [markdown]
# ## What a short run knows
#
# How sure one can be, for the most part: which annotations fit this picture at all, and that what is far away is less
# certain. Of places little, and it shows first in the error with rotated boxes, long before a map can be believed. After
# the 300 steps of `python recipes/ab_simclr.py` it is [still little](../docs/explorer.md#what-a-short-run-knows-of-places).
# Whatever you conclude from a map, ask first whether copying, or the map of another picture, would have said the same.
#
# [The value explorer](../docs/explorer.md) and [what the value function knows](../docs/analyses.md) have the rest.
