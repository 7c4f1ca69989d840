# %% [markdown]
# # Train on your folder
#
# From a folder of pictures to features: look at what is there, train, stop, go on, and see what was learnt. No labels are
# needed. The pictures below are drawn, so that it runs anywhere; change one path to have your own. The network is tiny
# and so is the run: about a minute on two CPU cores, which shows how everything works and is far too short for good
# features.

# %%
import os
import signal
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# Everything is written to a folder that is gone when the kernel ends. To keep a run, leave the first two lines out, and
# name your pictures: `Path("~/Pictures").expanduser()`.

# %%
workplace = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(workplace.name)

PICTURES = Path("pictures")
RUN = Path("runs/mine")

# %% [markdown]
# Where there is no such folder, one is made of 400 drawn pictures, with a sub-folder for each kind of place.

# %%
from abx.data.specs import open_source

if not PICTURES.exists():
    scenes = open_source("scenes")
    for i in range(400):
        scene = scenes[i]
        place = PICTURES / scenes.classes[scene.label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(place / f"{i:03}.jpg", quality=90)

# %% [markdown]
# ## What is there
#
# Data is one string, the same here as for every flag that takes data. All pictures under a folder are found, and looked
# at one by one; files that cannot be read are named here with the reason. They need not be taken away: a run puts another
# picture in their place, counts that, and lists them in `rejected.jsonl`. `abx data inspect folder:pictures` says more,
# and writes a page with views.

# %%
from abx.analysis.survey import lines
from abx.data.survey import survey

data = f"folder:{PICTURES}"
source = open_source(data)
seen = survey(source)
for line in lines(seen)[:6]:
    print(f"{line.heading:10} {line.text}")
for name, reason in seen.rejected.items():
    print(f"{name}: {reason}")
assert seen.readable > 0

# %% [markdown]
# ## The settings
#
# A recipe is a dataclass: the method, its data, and how long. This is AB over SimCLR, with two streams of pictures, which
# may be the same: those that annotations are made of, and those that are moved about in. Reading and cutting is done by
# threads beside the training; their number changes no batch.

# %%
from abx.augment import GENTLE
from abx.data.layouts import ABData
from abx.data.views import RandomCrops
from abx.experiment import Checkpointing, Evaluation, Logging, Recipe
from abx.methods import AB, SimCLR
from abx.nn import DecoderConfig, ViTConfig
from abx.optim import EMA, AdamW

backbone = ViTConfig(width=64, depth=3, heads=2, mlp=192, patch=8, size=32)
recipe = Recipe(
    method=AB(
        SimCLR(backbone, hidden=128, embed=64, photometric=GENTLE),
        decoder=DecoderConfig(width=64, depth=1, heads=2, mlp=128, bins=64),
        value_embed=64,
        value_bias="first-batch",
        gamma_warmup=50,
    ),
    data=ABData(
        reward=data,
        value=data,
        reward_batch=48,
        value_batch=16,
        reward_views=RandomCrops(n=2, size=32, scale=(0.2, 1.0)),
        value_views=RandomCrops(n=3, size=32, scale=(0.1, 0.5)),
        workers=2,
        worker="thread",
    ),
    steps=150,
    optim=AdamW(lr=1e-3, beta2=0.98, weight_decay=0.05, weight_decay_end=0.05),
    ema=EMA(tau=0.01, shape="constant"),
    eval=Evaluation(every=75, train_images=300, test_images=100),
    ckpt=Checkpointing(every=50),
    log=Logging(every=10),
    out=RUN,
)
assert not recipe.problems()

# %% [markdown]
# What cannot be is told before anything is done, all of it at once, by the flags of the command line:

# %%
wrong = replace(recipe, steps=0, data=replace(recipe.data, value_batch=0), optim=AdamW(lr=-1.0))
for problem in wrong.problems():
    print(problem)
assert len(wrong.problems()) == 3

# %% [markdown]
# ## Train, and stop
#
# `run` makes the folder. While it runs, the stop button of the notebook is what Ctrl-C is in a terminal: it saves and
# ends with exit code 130. Below a thread presses it, once 50 steps are logged.

# %%
from abx.experiment.run import run
from abx.log import read_metrics


def press_stop(after):
    while max((row["step"] for row in read_metrics(RUN / "metrics.jsonl")), default=0) < after:
        time.sleep(0.05)
    signal.raise_signal(signal.SIGINT)


threading.Thread(target=press_stop, args=(50,), daemon=True).start()
try:
    run(recipe)
except SystemExit as stopped:
    print(f"exit code {stopped.code}")

# %% [markdown]
# From the first step on there is `views.png`: the pictures of the first batch, where their views were cut, and what the
# network gets of them. Look at it before you wait for anything: at 32 pixels, would you know what it is? Here is its
# first row.

# %%
views = Image.open(RUN / "views.png")
views.crop((0, 0, views.width, min(views.height, 400))).quantize(64)

# %% [markdown]
# ## Go on
#
# The same call again goes on from the step that was saved, with the pictures that would have come next; it ends as if it
# had never been stopped, bit for bit. Other settings in the same folder are refused, with a list of what differs.

# %%
saved = sorted(int(path.name) for path in (RUN / "checkpoints").iterdir() if path.name.isdecimal())
state = run(recipe)
assert state.step == recipe.steps
assert saved[-1] >= 50

# %% [markdown]
# It ends with the verdict of `report.txt`, each line with the figures that it rests on. `abx report runs/mine` gives it
# at any time, also while it trains. Look at the lines with `!` and `?` first: in a run as short as this one, where the
# value head moves to is the last thing that it learns.
#
# ## The curves
#
# `metrics.jsonl` is read with a line of Python, and drawn by `abx plot runs/mine`. A loss says something beside what
# guessing costs; k-NN accuracy says something beside where it was before the first step.

# %%
rows = read_metrics(RUN / "metrics.jsonl")
fig, axes = plt.subplots(1, 3, figsize=(9, 2.4))
for ax, name, chance in (
    (axes[0], "reward/loss", "reward/chance"),
    (axes[1], "value/loss", None),
    (axes[2], "eval/knn_top1", "eval/chance"),
):
    for what, style in ((name, "o-"), (chance, ":")):
        points = [(row["step"], row[what]) for row in rows if what in row]
        if points:
            ax.plot(*zip(*points, strict=True), style, ms=3, color="grey" if what == chance else None)
    ax.set(title=name, xlabel="step", ylim=(0, None))
losses = [row["reward/loss"] for row in rows if "reward/loss" in row]
assert losses[-1] < losses[0]

# %% [markdown]
# ## The features
#
# What all this is for: a vector for each picture. `abx embed runs/mine --data folder:pictures` writes them to a file.
# Here are three pictures, on the left, each with the five whose features are most like its own: by the trained network in
# the upper row, by the same network before its first step in the lower one.

# %%
import jax.numpy as jnp

from abx.analysis.page import page, under
from abx.experiment.loading import load_subject, untrained
from abx.nn import unit
from abx.probes.features import Look, extract


def features(backbone):
    return extract(backbone, source, Look(backbone.config.size), tokens=False, batch=100)


trained, before = features(load_subject(RUN).backbone), features(untrained(str(RUN)).backbone)
print(f"{trained.pooled.shape[0]} pictures x {trained.pooled.shape[1]}; could not be read: {len(trained.rejected)}")


def nearest(found, i, count=5):
    directions = np.asarray(unit(jnp.asarray(found.pooled)))
    return np.argsort(-(directions @ directions[i]), kind="stable")[: count + 1]


def strip(indices):
    tiles = [Image.fromarray(source[int(trained.places[j])].image).resize((56, 56)) for j in indices]
    return Image.fromarray(np.concatenate(tiles, axis=1))


networks = {"trained": trained, "before": before}
page([under([strip(nearest(found, i)) for found in networks.values()], 2) for i in (10, 120, 250)]).quantize(48)

# %% [markdown]
# Where the folders are classes, they can be used to ask how good the features are, though no training has seen them:
# every other picture votes for the class of those in between. `abx probe --run runs/mine` has this and better probes.

# %%
from abx.probes.knn import knn

labels = np.array([fact.label for fact in trained.facts])
if source.classes:
    for name, found in networks.items():
        guess = knn(found.pooled[::2], labels[::2], found.pooled[1::2])
        print(f"{name:9} {(guess == labels[1::2]).mean():.0%} right")
    print(f"{'guessing':9} {np.bincount(labels[1::2]).max() / len(labels[1::2]):.0%}")
assert np.isfinite(trained.pooled).all()

# %% [markdown]
# The same from a terminal, with a network and a length that are worth the wait:
#
#     python recipes/ab_simclr.py small --data.reward folder:~/Pictures --data.value folder:~/Pictures --out runs/mine
#
# [The first ten minutes](../docs/start.md) goes on from there; [what a run leaves](../docs/output.md) explains every
# file and figure; the next notebook is about [what the value head knows](value_map.ipynb).
