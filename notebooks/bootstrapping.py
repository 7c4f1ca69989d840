# %% [markdown]
# # Annotation bootstrapping: what would fit another view?
#
# `value_target` and `value_loss` on a table, where the answer is known; what an action is; then the method itself over
# SimCLR, for a hundred steps on drawn pictures. About a minute on two CPU cores.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from abx.losses import value_loss, value_target

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# ## On a table
#
# A picture has n views and there are l annotations. The reward p(l | x_j) says how well annotation l fits view j. The value
# Q(x_i, a_ij, l) is what to expect of going from view i to view j: the reward there, and of the best view after it,
#
#     y_j(l) = (1 - gamma) p(l | x_j) + gamma max_k Q(x_j, a_jk, l)
#
# As one can go from any view to any, the only Q that agrees with itself is (1 - gamma) p_j + gamma max_k p_k. Feeding
# targets back as values gets there from any start, and each time the error is multiplied by gamma.

# %%
n, l, gamma = 4, 6, 0.5
rng = np.random.default_rng(0)
reward = jax.nn.softmax(2 * rng.standard_normal((n, l)).astype(np.float32))  # j l
wanted = (1 - gamma) * reward + gamma * reward.max(0)

fig, ax = plt.subplots(figsize=(4.4, 2.6))
for start in (0.01, 0.99):
    y, errors = jnp.full((n, l), start), []
    for _ in range(12):
        q = jnp.broadcast_to(jnp.log(y) - jnp.log1p(-y), (n, n, l))  # logits of Q(x_j, a_jk, l), were it perfect
        errors.append(abs(y - wanted).max())
        y = value_target(reward, q, gamma)
    ax.plot(errors, "o-", label=f"from {start}")
    assert abs(y - wanted).max() < gamma**11
ax.set(yscale="log", xlabel="times", ylabel="largest error")
ax.legend();

# %% [markdown]
# In training nothing is fed back: Q is fitted to the target by `value_loss`, a cross-entropy *summed* over annotations, and
# the target is made by a slowly moving copy of Q. On the table, with free logits for a network:

# %%
tx = optax.adam(0.02)


def step(carry, _):
    q, copy, opt = carry
    y = value_target(reward, copy, gamma)  # j l
    updates, opt = tx.update(jax.grad(value_loss)(q, y), opt)
    q = q + updates
    return (q, copy + 0.02 * (q - copy), opt), abs(jax.nn.sigmoid(q) - wanted).max()


q = jnp.zeros((n, n, l))  # i j l
(q, *_), errors = jax.lax.scan(step, (q, q, tx.init(q)), length=1500)

fig, axes = plt.subplots(1, 4, figsize=(9, 2.2), width_ratios=(1, 1, 1, 1.6))
for ax, (title, table) in zip(
    axes, (("reward p", reward), ("wanted", wanted), ("learnt, from view 0", jax.nn.sigmoid(q[0]))), strict=False
):
    ax.imshow(table, vmin=0, vmax=1)
    ax.set(title=title, xlabel="annotation", xticks=[], yticks=[])
axes[0].set_ylabel("view j")
axes[3].plot(errors)
axes[3].set(yscale="log", xlabel="step", title="largest error")
print(f"largest error at the end: {errors[-1]:.4f}")
assert errors[-1] < 0.01

# %% [markdown]
# ## Views and actions
#
# A picture is cut into views. The action from view i to view j is the box of j *in the frame of i*: (0, 0, 1, 1) is view i
# itself, and what lies outside it has coordinates below 0 or above 1. That is the usual case.

# %%
from abx.analysis.pictures import draw_views
from abx.boxes import relative_boxes
from abx.data.specs import open_source
from abx.data.views import RandomCrops
from abx.types import Views

picture = open_source("scenes:test")[5].image
crops = RandomCrops(n=3, size=32, scale=(0.1, 0.5))
views = crops(picture, rng)
print("from view 0 to each:")
print(relative_boxes(views.boxes)[0].round(2))
assert np.allclose(relative_boxes(views.boxes)[0, 0], [0, 0, 1, 1])
draw_views([picture], Views(views.images[None], views.boxes[None])).quantize(64)  # fewer colours

# %% [markdown]
# ## One value loss over any reward
#
# `AB` takes a base method and leaves it as it is. Another reward is another base, on one line; the value head, its actions
# and its loss are the same. Shapes say it all: there are as many annotations as the base has, be they views or texts.

# %%
from abx.augment import Photometric
from abx.data.layouts import ABCaptionData, ABData
from abx.data.texts import Texts
from abx.methods import AB, CLIP, SimCLR
from abx.nn import DecoderConfig, TextConfig, ViTConfig

TINY = ViTConfig(width=64, depth=2, heads=2, mlp=128, patch=8, size=32)
DECODER = DecoderConfig(width=64, depth=1, heads=2, mlp=128, bins=64)
GENTLE = Photometric(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, grey=0.1, blur=0.0)

simclr = SimCLR(TINY, hidden=128, embed=64, photometric=GENTLE)
clip = CLIP(TINY, TextConfig(vocab=512, length=24, width=64, depth=1, heads=2, mlp=128), embed=64)

# A bias at which, at first, the values of the 32 annotations sum to about 1; value_bias="first-batch" looks for it.
over_simclr = AB(simclr, decoder=DECODER, value_embed=64, value_bias=-5.0)
over_clip = AB(clip, decoder=DECODER, value_embed=64)

cut = {"reward_batch": 32, "value_batch": 24, "value_views": crops}
simclr_data = ABData(reward_views=RandomCrops(n=2, size=32, scale=(0.3, 1.0)), **cut)
clip_data = ABCaptionData(reward_views=RandomCrops(n=1, size=32), reward_text=Texts(length=24), **cut)

for method, data in ((over_simclr, simclr_data), (over_clip, clip_data)):
    batch, key = data.blank(), jax.random.key(0)
    model, carry = jax.eval_shape(lambda: method.init(key, batch))  # noqa: B023
    p = jax.eval_shape(method.predict, model, model, carry, batch, key)
    print(f"AB over {type(method.base).__name__}:", end=" ")
    print(f"reward b j l {p.reward.shape}, phi b i j e {p.phi.shape}, psi l e {p.psi.shape}")

# %% [markdown]
# ## AB over SimCLR on drawn scenes
#
# Two independent streams: pictures that define the reward (two augmented views each; the second ones are the annotations),
# and pictures on which the value is learnt (three crops each).

# %%
from abx.data.streams import open_sources
from abx.optim import EMA, AdamW
from abx.train import init, make_step

batches = simclr_data.batches(open_sources(simclr_data), seed=0)
steps = 100
tx = AdamW(lr=2e-3, warmup=0.1, beta2=0.98, weight_decay_end=0.04).build(steps)
state = init(over_simclr, tx, seed=0, batch=batches[0].batch)
step = make_step(over_simclr, tx, EMA(0.01, "constant").schedule(steps), seed=0)
history = []
for s in range(steps):
    state, metrics = step(state, batches[s].batch)
    history.append(jax.device_get(metrics))

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4))
left.plot([row["reward/loss"] for row in history])
left.plot([row["reward/chance"] for row in history], color="grey", ls=":")
left.set(title="reward: SimCLR's loss, and guessing", xlabel="step")
right.plot([row["value/loss"] for row in history])
right.set(title="value loss", xlabel="step")
assert np.mean([row["reward/loss"] for row in history[-10:]]) < 0.95 * history[0]["reward/chance"]

# %% [markdown]
# The value loss alone says little: its floor is the entropy of the targets, which move. Beside what does the value head look
# good? **Agreement**: the best annotation by Q is the one with the highest reward in the view moved to. Copying the best
# annotation of the view one stands in needs no box, and views of a picture look alike: that is the baseline. **Explained**:
# the share of the excess over the floor that is left by the best constant per annotation and taken away by Q.

# %%
from abx.analysis.values import value_metrics

unseen = [batches[s].batch for s in range(1000, 1006)]
found = value_metrics(over_simclr, state.model, state.target, state.carry, unseen)
for name, what in (
    ("value/accuracy", "agreement of Q, of two different views"),
    ("value/copy_accuracy", "of copying the view one stands in"),
    ("value/chance", "of guessing"),
    ("value/explained", "explained, of the constant's excess"),
    ("value/over_copy", "removed of the best shrunk copy's excess"),
):
    print(f"{what:42} {found[name]:6.1%}")
assert found["value/accuracy"] > 2 * found["value/chance"]
assert found["value/explained"] > 0

# %% [markdown]
# A hundred steps are where copying is still the better guess: the value head has to learn first what copying has for
# nothing, and only then what a box is for (`value/rotated_rise` in a run's log: how much worse it gets when boxes are handed
# round).
#
# ## A value map
#
# From one view of a picture, what is each box worth? Annotations are the second views of a reward batch; shown are the two with the
# highest values.

# %%
from abx.analysis.pictures import draw_value_map
from abx.analysis.value_map import value_map

annotated = batches[1000].batch.reward
where = value_map(over_simclr, state.target, state.carry, views.images[0], views.boxes[0], annotated, count=2)
looks = [annotated.images[chosen, 1] for chosen in where.chosen]
drawn = draw_value_map(picture, views.boxes[0], where.boxes, where.values, looks, where.rewards, title="A value map")
drawn.quantize(64)

# %%
assert np.all((where.values > 0) & (where.values < 1))
assert where.values.std() > 1e-4  # it is not the same everywhere

# %% [markdown]
# Longer, with figures, maps and a verdict: `python recipes/ab_simclr.py`, which takes two to three minutes. On your own pictures:
# `python recipes/ab_simclr.py small --data.reward folder:~/Pictures --data.value folder:~/Pictures`.
