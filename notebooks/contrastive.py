# %% [markdown]
# # Contrastive losses: who belongs to whom
#
# `clip_loss`, `siglip_loss` and `simclr_loss`: first as functions of arrays, then SimCLR and CLIP trained for a hundred
# steps on drawn pictures. That is enough to see them move and by far not enough for good features. Under a minute on two
# CPU cores.

# %%
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from abx.losses import clip_loss, siglip_loss, simclr_loss

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# ## On arrays
#
# All three take embeddings of shape `(b, e)`, and row i of the one belongs to row i of the other. They need not have unit
# length: the losses see to that. Here are 64 pairs, once unrelated, once nearly the same.

# %%
rng = np.random.default_rng(0)
b, e = 64, 256
image, noise, unrelated = rng.standard_normal((3, b, e)).astype(np.float32)
text = image + 2 * noise  # cosines of pairs are about 0.45, of all others about 0

for name, other in (("unrelated", unrelated), ("related", text)):
    print(f"clip_loss   {name:9}  {clip_loss(image, other, 10.0):.3f}")
print(f"            guessing   {np.log(b):.3f}   ln b\n")

for name, other in (("unrelated", unrelated), ("related", text)):
    print(f"simclr_loss {name:9}  {simclr_loss(image, other, 0.1):.3f}")
print(f"            guessing   {np.log(2 * b - 1):.3f}   ln (2b - 1): the other views of a batch, but oneself\n")

for name, other in (("unrelated", unrelated), ("related", text)):
    print(f"siglip_loss {name:9}  {siglip_loss(image, other, 10.0, -np.log(b - 1.0)):.3f}")
alone = np.log(b) + (b - 1) * np.log(b / (b - 1))
print(f"            guessing   {alone:.3f}   one of b pairs is true, and each is judged alone")

# %%
guess = np.log(b)
assert abs(clip_loss(jnp.ones((b, e)), jnp.ones((b, e)), 10.0) - guess) < 1e-4  # all alike: nothing to go by
assert clip_loss(image, text, 10.0) < guess < clip_loss(image, unrelated, 10.0)  # noise taken for a signal costs

# %% [markdown]
# **The scale** (CLIP learns it; SimCLR fixes one over the temperature) says how much a difference in cosine matters. At a
# low scale even a perfect match is worth little; at a high one, whoever is wrong pays for being sure.

# %%
scales = np.geomspace(1, 100, 25, dtype=np.float32)
fig, ax = plt.subplots(figsize=(5, 3))
for name, other in (("the same", image), ("related", text), ("unrelated", unrelated)):
    ax.plot(scales, jax.vmap(lambda s, other=other: clip_loss(image, other, s))(scales), label=name)
ax.axhline(guess, color="grey", ls=":", label="guessing, ln b")
ax.set(xscale="log", xlabel="scale", ylabel="clip_loss", ylim=(0, 12))
ax.legend();

# %% [markdown]
# **The gradient** pulls each view to its partner and pushes it off everyone else, most of all off those that it is taken
# for. Five pairs on a circle; an arrow is the way that a step of gradient descent would take.

# %%
angle = np.array([0.2, 1.3, 2.1, 3.8, 5.2])
view1, view2 = (np.stack([np.cos(a), np.sin(a)], 1).astype(np.float32) for a in (angle, angle + 0.5))
gradient = jax.grad(simclr_loss, argnums=(0, 1))(view1, view2, 0.5)

fig, ax = plt.subplots(figsize=(3.6, 3.6))
ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="lightgrey"))
for views, g, marker in ((view1, gradient[0], "o"), (view2, gradient[1], "s")):
    ax.scatter(*views.T, c=range(5), cmap="tab10", marker=marker, zorder=3)
    ax.quiver(*views.T, *(-np.asarray(g)).T, angles="xy", scale_units="xy", scale=0.3, width=0.006)
ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=[], yticks=[])

stepped = [views - 0.1 * g for views, g in zip((view1, view2), gradient, strict=True)]
assert simclr_loss(*stepped, 0.5) < simclr_loss(view1, view2, 0.5)

# %% [markdown]
# ## SimCLR on drawn scenes
#
# `scenes` are pictures that are drawn as one goes. The data say how views are cut; a batch is a function of seed and step.
# The method is a frozen dataclass; training is a step function, called in a loop.

# %%
from abx.augment import Photometric
from abx.data.layouts import PairData
from abx.data.streams import open_sources
from abx.data.views import RandomCrops
from abx.methods import CLIP, SimCLR
from abx.nn import TextConfig, ViTConfig
from abx.optim import EMA, AdamW
from abx.train import init, make_step


def train(method, batch, steps, warmup=0.05):
    """The state after so many steps, and the metrics of each; `batch` gives the batch of a step."""
    tx = AdamW(lr=2e-3, warmup=warmup, beta2=0.98, weight_decay_end=0.04).build(steps)
    state = init(method, tx, seed=0, batch=batch(0))
    step = make_step(method, tx, EMA(0.01, "constant").schedule(steps), seed=0)
    history = []
    for s in range(steps):
        state, metrics = step(state, batch(s))
        history.append(jax.device_get(metrics))
    return state, {k: np.array([row[k] for row in history]) for k in history[0]}


def curves(history, title):
    left, right = plt.subplots(1, 2, figsize=(7, 2.4))[1]
    left.plot(history["reward/loss"])
    left.plot(history["reward/chance"], color="grey", ls=":")
    left.set(title=f"{title}: loss, and guessing", xlabel="step")
    right.plot(history["reward/accuracy"])
    right.set(title="finds its partner in the batch", xlabel="step", ylim=(0, None))


TINY = ViTConfig(width=64, depth=2, heads=2, mlp=128, patch=8, size=32)
GENTLE = Photometric(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, grey=0.1, blur=0.0)

# %%
data = PairData(batch=64, views=RandomCrops(n=2, size=32, scale=(0.3, 1.0)))
batches = data.batches(open_sources(data), seed=0)
simclr = SimCLR(TINY, hidden=128, embed=64, photometric=GENTLE)
state, history = train(simclr, lambda s: batches[s].batch, steps=60)
curves(history, "SimCLR")

# %% [markdown]
# The same loss on scenes that it has not seen:

# %%
unseen = replace(data, train="scenes:test")
batch = unseen.batches(open_sources(unseen), seed=0)[0].batch
loss, aux = jax.jit(simclr.loss)(state.model, state.target, state.carry, batch, jax.random.key(0))
print(f"loss {loss:.2f}, guessing {aux.metrics['reward/chance']:.2f}")
print(f"finds its partner {aux.metrics['reward/accuracy']:.0%}, guessing {1 / 64:.0%}")
assert loss < 0.9 * aux.metrics["reward/chance"]

# %% [markdown]
# ## CLIP on drawn scenes
#
# CLIP needs a text for each image. The scenes have captions of their own, which take some hundred steps to get anywhere;
# to see something sooner, these say no more than what kind of place it is, one of twelve. Any list of `Sample`s is data.
# For the first half the loss hardly moves. With CLIP's own scale of 14 and a warm-up of a tenth of the run it stayed at
# chance for good: all embeddings had run together in the first steps.

# %%
from abx.data import loader
from abx.data.sources import Samples
from abx.data.specs import open_source
from abx.data.texts import Texts

scenes = open_source("scenes")
named = [s._replace(captions=(f"a {scenes.classes[s.label]}",)) for s in map(scenes.__getitem__, range(1024))]
texts = Texts(length=6)
batches = loader.batches(Samples(named), RandomCrops(n=1, size=32, scale=(0.5, 1.0)), 64, seed=0, texts=texts)
print([texts.decode(row) for row in batches[0].batch.text[:4]])

clip = CLIP(TINY, TextConfig(vocab=512, length=6, width=64, depth=1, heads=2, mlp=128), embed=64, scale=10.0)
state, history = train(clip, lambda s: batches[s].batch, steps=160, warmup=0.4)
curves(history, "CLIP")

# %% [markdown]
# Twelve texts for 64 images: of a batch's texts about five fit, so that the loss cannot go below ln 5 or so, and the
# partner itself is found once in five times at best. What counts is the kind of place. On scenes that it has not seen, each
# is compared with the twelve texts; a row of the picture is the mean over the scenes of one kind.

# %%
from abx.methods.batches import features, text_features
from abx.nn import unit

model = state.model
pictures, kind = loader.central(open_source("scenes:test"), 512, 32, labelled=True)
words = np.stack([texts.tokens(f"a {name}") for name in scenes.classes])
image = unit(model.head(features(model.backbone, pictures)))
text = unit(model.text_head(text_features(model.text, words)))
similarity = np.asarray(image @ text.T)

fig, ax = plt.subplots(figsize=(4.4, 3.8))
shown = ax.imshow([similarity[kind == k].mean(0) for k in range(12)])
ax.set_xticks(range(12), scenes.classes, rotation=90)
ax.set_yticks(range(12), scenes.classes)
ax.set(xlabel="text", ylabel="unseen scenes of a kind")
fig.colorbar(shown, label="mean cosine")

accuracy = (similarity.argmax(1) == kind).mean()
print(f"the right text of twelve is the nearest: {accuracy:.0%}, guessing {1 / 12:.0%}")
assert accuracy > 2 / 12

# %% [markdown]
# What comes next: `distillation.ipynb`, `prediction.ipynb`, and `bootstrapping.ipynb`, which builds on this one. The same on
# your own pictures: `python recipes/simclr.py small --data.train folder:~/Pictures`.
