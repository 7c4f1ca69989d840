# %% [markdown]
# # Self-distillation: say of one view what a lagging copy says of another
#
# `dino_loss` and `update_center`: first as functions of arrays, then on a toy of three numbers an image, where one sees what
# the center and the temperatures are for, then DINO itself for a few dozen steps on drawn pictures. Under a minute on
# two CPU cores.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from abx.losses import dino_loss, update_center

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# ## On arrays
#
# Every view is given logits over k prototypes. The copy (the *target network*, DINO's teacher) sees the g global views;
# the online network all v, the global ones first. The loss is a cross-entropy, averaged over pairs of two *different*
# views of an image.

# %%
rng = np.random.default_rng(0)
v, g, b, k = 6, 2, 8, 16
center = np.zeros(k, np.float32)
flat = np.zeros((v, b, k), np.float32)
print(f"all logits equal: {dino_loss(flat, flat[:g], center):.4f}, ln k = {np.log(k):.4f}")

online = rng.standard_normal((v, b, k)).astype(np.float32)
print(f"noise:            {dino_loss(online, online[:g], center):.4f}, for the copy is sure and views do not agree")

agreed = np.broadcast_to(online[:1], (v, b, k))
print(f"all views agree:  {dino_loss(agreed, agreed[:g], center):.4f}")

assert abs(dino_loss(flat, flat[:g], center) - np.log(k)) < 1e-5
assert not np.any(jax.grad(dino_loss, argnums=1)(online, online[:g], center))  # no gradient reaches the copy

# %% [markdown]
# **Temperature and center.** The copy's logits are centered, divided by a low temperature, and softmaxed. The lower the
# temperature, the surer it is; the center is the running mean of its logits, and what all images have in common goes.

# %%
logits = 0.15 * rng.standard_normal((b, k)).astype(np.float32)
logits[:, 3] += 0.4  # what every image likes
mean = update_center(center, logits[None], momentum=0.0)

fig, axes = plt.subplots(1, 4, figsize=(9, 2.2), sharey=True)
for ax, (title, c, temperature) in zip(
    axes,
    (
        ("T = 0.1, no center", center, 0.1),
        ("T = 0.04, no center", center, 0.04),
        ("T = 0.04, centered", mean, 0.04),
        ("T = 0.4, centered", mean, 0.4),
    ),
    strict=True,
):
    ax.imshow(jax.nn.softmax((logits - c) / temperature), vmin=0, vmax=1, cmap="magma")
    ax.set(title=title, xlabel="prototype", xticks=[], yticks=[])
axes[0].set_ylabel("image");


# %% [markdown]
# ## What happens without
#
# An image is a point on a circle, a view of it that point a little shifted; the network is a matrix of 3 x 16 numbers
# (cosine, sine, and a constant that lets it ignore the image). How many prototypes does it use? For one image: e to the
# power of the mean entropy of the copy's distributions. For all images together: e to the power of the entropy of their
# mean. Good is few for one and many for all.

# %%
def entropy(p):
    return -(p * jnp.log(p + 1e-12)).sum(-1)


def toy(momentum, temperature, steps=400):
    """Prototypes used by one image and by all, at each step."""
    tx = optax.adam(0.02)
    w = 0.3 * jax.random.normal(jax.random.key(0), (3, k))

    def step(carry, key):
        w, copy, center, opt = carry
        k1, k2 = jax.random.split(key)
        angle = jax.random.uniform(k1, (128,), maxval=2 * jnp.pi) + 0.3 * jax.random.normal(k2, (2, 128))
        views = jnp.stack([jnp.cos(angle), jnp.sin(angle), 2 * jnp.ones_like(angle)], -1)
        target = views @ copy
        updates, opt = tx.update(jax.grad(lambda w: dino_loss(views @ w, target, center, 0.1, temperature))(w), opt)
        w = w + updates
        p = jax.nn.softmax((target - center) / temperature)
        used = jnp.exp(entropy(p).mean()), jnp.exp(entropy(p.mean((0, 1))))
        return (w, copy + 0.02 * (w - copy), update_center(center, target, momentum), opt), used

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, (w, w, jnp.zeros(k), tx.init(w)), keys)[1]


settings = {
    "without a center": (1.0, 0.04),
    "center, but T = 0.3": (0.9, 0.3),
    "center and T = 0.04": (0.9, 0.04),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.4), sharey=True)
ends = {}
for ax, (name, setting) in zip(axes, settings.items(), strict=True):
    one, everyone = toy(*setting)
    ends[name] = float(one[-1]), float(everyone[-1])
    ax.plot(one, label="one image")
    ax.plot(everyone, label="all images")
    ax.axhline(k, color="grey", ls=":")
    ax.set(title=name, xlabel="step", ylim=(0, k + 1))
axes[0].set_ylabel("prototypes in use")
axes[2].legend(loc="center right");

# %% [markdown]
# Without a center what all images share takes over and few prototypes are ever used: every view agrees, and nothing is
# learnt. With a center but without sharpening the copy's answers flatten until all images use all prototypes alike. With
# both, one image uses few and all together use many.

# %%
for name, (one, everyone) in ends.items():
    print(f"{name:20}  one image {one:4.1f}   all images {everyone:4.1f}   of {k}")
assert ends["without a center"][1] < 0.5 * ends["center and T = 0.04"][1]
assert ends["center, but T = 0.3"][0] > 0.9 * k
assert ends["center and T = 0.04"][0] < 0.5 * ends["center and T = 0.04"][1]

# %% [markdown]
# ## Multi-crop
#
# Two large crops of each picture for both networks, several small ones at a lower resolution for the online one alone.
# From what a small view shows it must say what a large one looks like to the copy.

# %%
from abx.analysis.pictures import draw_views
from abx.data.layouts import MultiCropData
from abx.data.specs import open_source
from abx.data.streams import open_sources
from abx.data.views import MultiCrops, RandomCrops, cut

crops = MultiCrops(RandomCrops(2, 32, (0.4, 1.0)), RandomCrops(4, 16, (0.1, 0.4)))
data = MultiCropData(batch=32, views=crops)
batches = data.batches(open_sources(data), seed=0)

picture = open_source("scenes")[1].image
views = crops.join([v._replace(images=v.images[None], boxes=v.boxes[None]) for v in cut(crops, picture, rng)])
draw_views([picture], views.globals, views.locals).quantize(64)  # fewer colours, a smaller notebook

# %% [markdown]
# ## DINO on drawn scenes
#
# A backbone, a projection head, 128 prototypes. The loss lies between the entropy of the copy's answers, where it would be
# if both networks agreed, and ln k, where guessing is. It begins low and *rises*: at first all views look alike to the copy,
# which is easy to agree on, until the center takes away what they have in common.

# %%
from abx.augment import Photometric
from abx.methods import DINO
from abx.nn import ViTConfig
from abx.optim import EMA, AdamW
from abx.train import init, make_step

GENTLE = Photometric(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, grey=0.1, blur=0.0)
dino = DINO(
    ViTConfig(width=64, depth=2, heads=2, mlp=128, patch=8, size=32),
    prototypes=128,
    hidden=128,
    bottleneck=32,
    teacher_temperature=0.04,
    global1=GENTLE,
    global2=GENTLE,
    local=GENTLE,
)
steps = 80
tx = AdamW(lr=1e-3, warmup=0.1, beta2=0.98, weight_decay_end=0.04, clip=1.0).build(steps)
state = init(dino, tx, seed=0)
step = make_step(dino, tx, EMA(0.01, "constant").schedule(steps), seed=0)
history = []
for s in range(steps):
    state, metrics = step(state, batches[s].batch)
    history.append(jax.device_get(metrics))
history = {name: np.array([row[name] for row in history]) for name in history[0]}

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6))
left.plot(history["reward/loss"], label="loss")
left.plot(history["reward/target_entropy"], label="entropy of the copy's answers")
left.plot(history["reward/chance"], color="grey", ls=":", label="guessing, ln k")
left.set(xlabel="step", ylim=(0, None))
left.legend()
right.plot(np.exp(history["reward/target_entropy"]), label="one view")
right.plot(np.exp(history["reward/mean_target_entropy"]), label="all views of the batch")
right.set(xlabel="step", title="prototypes in use, of 128", ylim=(0, None))
right.legend();

# %%
end = {name: float(row[-10:].mean()) for name, row in history.items()}
print(f"loss {end['reward/loss']:.2f}, guessing {end['reward/chance']:.2f}")
one, everyone = (np.exp(end[f"reward/{name}"]) for name in ("target_entropy", "mean_target_entropy"))
print(f"the surest prototype of one large view is the copy's of the other: {end['reward/accuracy']:.0%}")
print(f"prototypes in use: by one view {one:.0f}, by all {everyone:.0f}, of {dino.prototypes}")
assert end["reward/loss"] < end["reward/chance"]
assert end["reward/target_entropy"] < end["reward/mean_target_entropy"]  # not all views are the same to it

# %% [markdown]
# The two entropies are what to watch in a run: `reward/target_entropy` near ln k is one collapse,
# `reward/mean_target_entropy` near 0 the other. The same on your own pictures:
# `python recipes/dino.py small --data.train folder:~/Pictures`.
