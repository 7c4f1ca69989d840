# %% [markdown]
# # Prediction: what was taken away
#
# `mae_loss` (pixels) and `ijepa_loss` (features): first as functions of arrays, then MAE and I-JEPA for some dozen steps on
# drawn pictures. About a minute on two CPU cores.

# %%
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from abx.losses import ijepa_loss, mae_loss

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# ## MAE's loss on arrays
#
# What is to be predicted of a patch is its pixels less their own mean and over their own deviation, so that neither
# brightness nor contrast counts. The mean is over removed patches alone: mask 1 = removed.

# %%
rng = np.random.default_rng(0)
b, t, p = 4, 16, 48  # images, patches, pixels of a patch
patches = rng.standard_normal((b, t, p)).astype(np.float32)
mask = (np.arange(t) < 12).astype(np.float32) * np.ones((b, 1), np.float32)
nothing = np.zeros_like(patches)

print(f"predicting nothing:           {mae_loss(nothing, patches, mask):.4f}, 1 - 1 / p = {1 - 1 / p:.4f}")
normal = (patches - patches.mean(-1, keepdims=True)) / patches.std(-1, ddof=1, keepdims=True)
print(f"predicting the truth:         {mae_loss(normal, patches, mask):.4f}")
print(f"the same of a dark, dull one: {mae_loss(normal, 0.1 * patches - 0.5, mask):.4f}")
print(f"nothing removed:              {mae_loss(nothing, patches, 0 * mask):.4f}")

seen = mask[..., None] == 0
assert mae_loss(np.where(seen, 100, normal), patches, mask) < 1e-6  # what is said of patches that are seen is free
assert abs(mae_loss(nothing, patches, mask) - (1 - 1 / p)) < 1e-5

# %% [markdown]
# ## MAE on drawn scenes
#
# Three quarters of the patches are taken away; the backbone sees the rest, a small decoder paints the whole. The views
# are small parts of the scenes, a fiftieth to a twentieth: shades and edges go on from one patch of 4 x 4 pixels to the next,
# and there is something to guess within a hundred steps. (Of whole scenes it takes some hundred to get anywhere.)

# %%
from abx.data.layouts import ImageData
from abx.data.streams import open_sources
from abx.data.views import RandomCrops
from abx.methods import IJEPA, MAE
from abx.methods.mae import patchify
from abx.methods.masks import MultiBlock, random_mask
from abx.nn import PixelDecoderConfig, PredictorConfig, ViTConfig
from abx.optim import EMA, AdamW
from abx.train import init, make_step


def train(method, batches, steps, lr, beta2=0.95):
    """The state after so many steps, and the metrics of each."""
    tx = AdamW(lr=lr, warmup=0.1, beta2=beta2, weight_decay=0.05, weight_decay_end=0.05).build(steps)
    state = init(method, tx, seed=0)
    step = make_step(method, tx, EMA(0.01, "linear").schedule(steps), seed=0)
    history = []
    for s in range(steps):
        state, metrics = step(state, batches[s].batch)
        history.append(jax.device_get(metrics))
    return state, {name: np.array([row[name] for row in history]) for name in history[0]}


def curves(history, name):
    ax = plt.subplots(figsize=(5, 2.4))[1]
    ax.plot(history[f"{name}/loss"], label="loss")
    ax.plot(history[f"{name}/chance"], color="grey", ls=":", label="predicting the mean")
    ax.set(xlabel="step")
    ax.legend()


TINY = ViTConfig(width=96, depth=3, heads=3, mlp=384, patch=4, size=32)
data = ImageData(batch=64, views=RandomCrops(n=1, size=32, scale=(0.02, 0.05)))
sources = open_sources(data)
batches = data.batches(sources, seed=0)

mae = MAE(TINY, PixelDecoderConfig(width=64, depth=2, heads=2, mlp=256))
state, history = train(mae, batches, steps=100, lr=2e-3)
curves(history, "mae")
assert history["mae/loss"][-10:].mean() < 0.98 * history["mae/chance"][-10:].mean()

# %% [markdown]
# What it paints of views that it was not trained on. The model predicts normalised pixels; each patch is given the mean and
# deviation of the true one, as MAE's own pictures are. The baseline is to predict nothing: the mean of each patch. It
# has a quarter of the patches to go by, and after so few steps it gives broad shades, no edges.

# %%
views = batches[1000].batch.images[:4, 0]
images = jnp.asarray(views, jnp.float32) / 127.5 - 1
patches = jax.vmap(lambda image: patchify(image, 4))(images)
noise = jax.random.uniform(jax.random.key(2), patches.shape[:2])
places, mask = jax.vmap(lambda row: random_mask(row, mae.kept(64)))(noise)
painted = jax.jit(jax.vmap(state.model))(images, places)

mean, deviation = patches.mean(-1, keepdims=True), patches.std(-1, ddof=1, keepdims=True)
removed = mask[..., None] == 1


def picture(patches):
    """The inverse of `patchify`, for pixels in [-1, 1]."""
    whole = patches.reshape(8, 8, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)
    return np.clip((np.asarray(whole) + 1) / 2, 0, 1)


rows = {
    "the view": patches,
    "what is seen": jnp.where(removed, 0.9, patches),
    "patch means": jnp.where(removed, mean, patches),
    "the model": jnp.where(removed, painted * deviation + mean, patches),
}
fig, axes = plt.subplots(4, 4, figsize=(4.4, 4.4))
for line, (name, row) in zip(axes, rows.items(), strict=True):
    for ax, one in zip(line, row, strict=True):
        ax.imshow(picture(one))
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
print(f"loss of the model: {mae_loss(painted, patches, mask):.3f}")
print(f"of patch means:    {mae_loss(0 * painted, patches, mask):.3f}")

# %% [markdown]
# ## I-JEPA's loss on arrays
#
# Smooth L1: half the square of an error below 1, and beyond that the error less a half, so that no single feature pulls
# harder than 1. The features to predict come from the target network, each token's to mean 0 and variance 1.

# %%
error = np.linspace(-3, 3, 121, dtype=np.float32)
one = jax.vmap(lambda e: ijepa_loss(e[None, None], jnp.zeros((1, 1))))
slope = jax.vmap(jax.grad(lambda e: ijepa_loss(e[None, None], jnp.zeros((1, 1)))))
fig, ax = plt.subplots(figsize=(4.4, 2.6))
ax.plot(error, one(error), label="ijepa_loss")
ax.plot(error, slope(error), label="its gradient")
ax.plot(error, error**2 / 2, color="grey", ls=":", label="half the square")
ax.set(xlabel="error", ylim=(-1.2, 3))
ax.legend()

assert abs(ijepa_loss(jnp.full((1, 1), 0.5), jnp.zeros((1, 1))) - 0.125) < 1e-6
assert abs(ijepa_loss(jnp.full((1, 1), 3.0), jnp.zeros((1, 1))) - 2.5) < 1e-6
assert ijepa_loss(jnp.ones((2, 3, 4)), jnp.zeros((2, 3, 4)), jnp.zeros((2, 3))) == 0  # all padding

# %% [markdown]
# ## Context and targets
#
# Four target blocks, which may overlap, and a context: one large block less the targets. The online network sees the
# context and nothing else; the predictor is asked for the features at each target. Here is what I-JEPA draws on a grid of 14 x 14
# patches (a ViT-S/16 at 224 pixels). Its last row and column stay empty, by an off-by-one of the published code that the
# paper's run had, too; `MultiBlock(edges=True)` mends it.

# %%
draw = jax.jit(MultiBlock().batch, static_argnums=(0, 1))
masks = draw(14, 4, jax.random.key(3))  # patches along a side, views


def grid(places, valid):
    """Which patches of 14 x 14 these are; padding is none."""
    return np.isin(np.arange(14**2), np.asarray(places)[np.asarray(valid)]).reshape(14, 14)


fig, axes = plt.subplots(1, 4, figsize=(8, 2.2))
for row, ax in enumerate(axes):
    context = grid(masks.context[row], masks.context_valid[row])
    count = sum(grid(*block) for block in zip(masks.targets[row], masks.target_valid[row], strict=True))
    shown = np.ones((14, 14, 3))
    shown[context] = (0.34, 0.71, 0.91)
    for times in range(1, 5):
        shown[count == times] = np.array((0.9, 0.62, 0)) * (1 - 0.17 * (times - 1))
    ax.imshow(shown)
    ax.set(xticks=np.arange(14) - 0.5, yticks=np.arange(14) - 0.5, xticklabels=[], yticklabels=[])
    ax.grid(color="white", lw=0.5)
    ax.tick_params(length=0)
    assert not (context & (count > 0)).any()  # no target is seen
fig.suptitle("blue: context, orange: targets (darker where they overlap), white: neither");

# %% [markdown]
# ## I-JEPA on drawn scenes
#
# The loss beside that of predicting, whatever the view and the place, the mean of all targets. Both move, for the
# targets are made by a network that learns, too: what must not happen is that all tokens become alike
# (`ijepa/target_std`, 0 = collapsed), for then both are 0. These views are large parts of the scenes.

# %%
whole = ImageData(batch=32, views=RandomCrops(n=1, size=32, scale=(0.3, 1.0)))
batches = whole.batches(sources, seed=0)
small = replace(TINY, depth=2, mlp=192)
ijepa = IJEPA(small, PredictorConfig(width=48, depth=1, heads=3, mlp=96), MultiBlock(min_keep=4))
state, history = train(ijepa, batches, steps=110, lr=2e-3, beta2=0.98)
curves(history, "ijepa")
end = {name: float(row[-10:].mean()) for name, row in history.items()}
print(f"loss {end['ijepa/loss']:.3f}, predicting the mean {end['ijepa/chance']:.3f}")
print(f"targets deviate by {end['ijepa/target_std']:.2f}; {end['ijepa/context']:.0f} patches of 64 are context")
assert end["ijepa/loss"] < end["ijepa/chance"]
assert end["ijepa/target_std"] > 0.05

# %% [markdown]
# The same on your own pictures: `python recipes/mae.py small --data.train folder:~/Pictures`, and `recipes/ijepa.py`.
