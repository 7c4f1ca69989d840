# %% [markdown]
# # Losses in five minutes
#
# Every loss of `abx.losses` is a function of arrays: no model, no configuration, nothing to set up. Here each of them is
# called on numbers for which the answer is known. Seconds on two CPU cores; reading takes the five minutes. Each family
# has a notebook of its own, in which it trains: [contrastive](contrastive.ipynb), [distillation](distillation.ipynb),
# [prediction](prediction.ipynb), [bootstrapping](bootstrapping.ipynb).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from abx.losses import (
    clip_loss,
    dino_loss,
    ijepa_loss,
    mae_loss,
    siglip_loss,
    simclr_loss,
    value_loss,
    value_target,
)

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


# %% [markdown]
# ## What they take, and what guessing costs
#
# A loss says little beside nothing. So first, for each, what somebody pays who knows nothing and admits it. `b` images,
# `e` numbers in an embedding, `k` prototypes, `t` tokens, `p` pixels of a patch, `l` annotations, of which one fits; all
# in nats but the two that predict.
#
# | function | takes | guessing costs |
# | --- | --- | --- |
# | `clip_loss(image, text, scale)` | `b e`, `b e` | ln b: which of b texts is it? |
# | `siglip_loss(image, text, scale, bias)` | `b e`, `b e` | ln b + (b - 1) ln(b / (b - 1)): b questions, one yes |
# | `simclr_loss(view1, view2, temperature)` | `b e`, `b e` | ln(2b - 1): all other views but oneself |
# | `dino_loss(student, teacher, center)` | `v b k`, `g b k`, `k` | ln k, if the teacher does not know either |
# | `mae_loss(pred, patches, mask)` | `b t p`, `b t p`, `b t` | 1 - 1/p, the variance of a normalised patch |
# | `ijepa_loss(pred, target, mask)` | `b t d`, `b t d`, `b t` | 1/8, where the target is 1/2 away |
# | `value_loss(q, target)` | `b i j l`, `b j l` | ln l + (l - 1) ln(l / (l - 1)): l questions, one yes |

# %%
b, e, v, g, k, t, p, l = 64, 128, 6, 2, 32, 16, 48, 64
alike, flat = np.ones((b, e), np.float32), np.zeros((v, b, k), np.float32)
patches, center = normal(b, t, p), np.zeros(k, np.float32)
everywhere = np.ones((b, t), np.float32)
one_in = lambda n: np.log(n) + (n - 1) * np.log(n / (n - 1))
rare = np.full((2, 3, 3, l), -np.log(l - 1), np.float32)  # logits of 1 / l

guesses = {
    "clip_loss": (clip_loss(alike, alike, 10.0), np.log(b)),
    "siglip_loss": (siglip_loss(alike, alike, 10.0, -10.0 - np.log(b - 1)), one_in(b)),
    "simclr_loss": (simclr_loss(alike, alike, 0.1), np.log(2 * b - 1)),
    "dino_loss": (dino_loss(flat, flat[:g], center), np.log(k)),
    "mae_loss": (mae_loss(0 * patches, patches, everywhere), 1 - 1 / p),
    "ijepa_loss": (ijepa_loss(0 * patches, 0 * patches + 0.5), 1 / 8),
    "value_loss": (value_loss(rare, np.full((2, 3, l), 1 / l, np.float32)), one_in(l)),
}
for name, (found, known) in guesses.items():
    print(f"{name:12} {found:8.5f}   known {known:8.5f}")
    assert abs(found - known) < 1e-4 * known, name

# %% [markdown]
# ## From noise to knowledge
#
# The same with a share of the truth in what is predicted, from none to all. Above 1 is worse than guessing: noise that is
# taken for a signal costs. Two do not end at 0, though all is known: the targets of DINO and of the value are
# distributions, and their entropy is the least that there can be. Read these two as what they have above that.

# %%
shares = np.linspace(0, 1, 21, dtype=np.float32)
image, noise = normal(b, e), normal(b, e)
teacher, guess = 0.3 * normal(g, b, k), 0.3 * normal(v, b, k)
same = np.concatenate([teacher.mean(0, keepdims=True)] * v)
seen = (patches - patches.mean(-1, keepdims=True)) / patches.std(-1, ddof=1, keepdims=True)
fits = np.array(jax.nn.softmax(3 * normal(2, 3, l)))
logits = np.broadcast_to((np.log(fits) - np.log1p(-fits))[:, None], (2, 3, 3, l))
mixed = lambda share, truth, other: share * truth + (1 - share) * other
losses = {
    "clip_loss": lambda s: clip_loss(image, mixed(s, image, noise), 10.0),
    "siglip_loss": lambda s: siglip_loss(image, mixed(s, image, noise), 20.0, -10.0),
    "simclr_loss": lambda s: simclr_loss(image, mixed(s, image, noise), 0.1),
    "dino_loss": lambda s: dino_loss(mixed(s, same, guess), teacher, center),
    "mae_loss": lambda s: mae_loss(mixed(s, seen, normal(b, t, p)), patches, everywhere),
    "ijepa_loss": lambda s: ijepa_loss(mixed(s, 0.5, -0.5) + 0 * patches, 0 * patches + 0.5),
    "value_loss": lambda s: value_loss(mixed(s, logits, rare), fits),
}
fig, ax = plt.subplots(figsize=(6.4, 3))
for name, loss in losses.items():
    course = np.array([loss(s) for s in shares]) / float(guesses[name][1])
    ax.plot(shares, course, label=name)
    assert course[-1] < min(1, course[0]), name
ax.axhline(1, color="grey", ls=":")
ax.set(xlabel="share of the truth", ylabel="loss / that of guessing", ylim=(0, 3))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# ## The two functions of the paper
#
# What a view is worth, for an annotation: what it has of it, and what the best place to go on to is expected to have.
#
#     y_j(l) = (1 - gamma) p(l | x_j) + gamma max_k Q(x_j, a_jk, l)
#
# By hand, for one annotation and two views: the first shows a tenth of it, the second six tenths, and from either the
# best move is expected to end at eight tenths.

# %%
reward = np.array([[0.1], [0.6]], np.float32)  # j l
expected = np.array([[[0.3], [0.8]], [[0.8], [0.2]]], np.float32)  # j k l: Q(x_j, a_jk, l)
y = value_target(reward, np.log(expected) - np.log1p(-expected), gamma=0.5)
print(y.ravel(), "= half of 0.1 and half of 0.8; half of 0.6 and half of 0.8")
assert np.allclose(y.ravel(), [0.45, 0.7])

# %% [markdown]
# `value_loss` is a cross-entropy to that, *summed* over annotations and averaged over images and pairs of views. So it
# grows with the number of annotations, and its gradient for one of them does not shrink.

# %%
for count in (1, 10, 100):
    q, target = jnp.zeros((1, 2, 2, count)), jnp.full((1, 2, count), 0.7)
    slope = jax.grad(value_loss)(q, target)
    print(f"{count:3} annotations: loss {value_loss(q, target):6.2f}, gradient of one value {slope[0, 0, 0, 0]:.3f}")
assert abs(value_loss(q, target) - 100 * np.log(2)) < 1e-3
assert np.allclose(slope, (0.5 - 0.7) / 4)

# %% [markdown]
# ## Where no gradient goes
#
# Whoever sets the target must not be moved towards whoever aims at it. The losses see to it themselves.

# %%
stopped = {
    "the teacher of dino_loss": jax.grad(dino_loss, argnums=1)(guess, teacher, center),
    "the target of ijepa_loss": jax.grad(ijepa_loss, argnums=1)(patches, 2 * patches),
    "the values in value_target": jax.grad(lambda q: value_target(reward, q, 0.5).sum())(expected),
}
for name, gradient in stopped.items():
    print(f"{name}: {abs(gradient).max():.0f}")
    assert not np.any(gradient)

# %% [markdown]
# ## What a contrastive loss keeps
#
# They are functions of JAX: `jit`, `grad` and `vmap` are all there is to know. Here is a training run in a dozen lines.
# An image has 24 numbers. Two views of it share the first 8; the other 16 are drawn anew for each view, and larger. A
# linear map to 4 numbers is trained to find partners. It keeps what views share, and throws away the rest: that is why
# the choice of views and augmentations is the choice of what is learnt.

# %%
tx = optax.adam(0.01)


def views(key):
    shared, own = jax.random.split(key)
    own = 2 * jax.random.normal(own, (2, b, 16))
    return jnp.concatenate([jnp.broadcast_to(jax.random.normal(shared, (b, 8)), (2, b, 8)), own], -1)


def step(carry, key):
    w, opt = carry
    one, two = views(key)
    loss, slope = jax.value_and_grad(lambda w: simclr_loss(one @ w, two @ w, 0.2))(w)
    updates, opt = tx.update(slope, opt)
    return (w + updates, opt), loss


start = 0.2 * jax.random.normal(jax.random.key(0), (24, 4))
(w, _), course = jax.lax.scan(step, (start, tx.init(start)), jax.random.split(jax.random.key(1), 500))

fig, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.4))
left.plot(course)
left.axhline(np.log(2 * b - 1), color="grey", ls=":")
left.set(title="simclr_loss, and guessing", xlabel="step")
for weights, label in ((start, "at the start"), (w, "at the end")):
    right.plot(np.linalg.norm(weights, axis=1), "o-", ms=3, label=label)
right.axvspan(-0.5, 7.5, alpha=0.15, label="shared by views")
right.set(title="weight of each of the 24 numbers", ylim=(0, None))
right.legend(fontsize=8)
size = np.linalg.norm(w, axis=1)
assert size[:8].min() > 3 * size[8:].max()

# %% [markdown]
# What next: [train on your folder](your_folder.ipynb), [read a value map](value_map.ipynb), [add a
# reward](new_reward.ipynb). Every argument of every loss: [abx.losses](../docs/reference/losses.md).
