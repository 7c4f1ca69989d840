# %% [markdown]
# # Add a reward
#
# Annotation bootstrapping asks one thing of what it is built on: how well does annotation l fit view x, as a probability?
# That is a *reward*, and a new one is a class in a cell. Here one is written, looked at, bootstrapped for a minute on two
# CPU cores, and measured. Nothing of the package is changed on the way.

# %%
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams |= {"figure.dpi": 70, "figure.constrained_layout.use": True}

# %% [markdown]
# ## The reward
#
# SimCLR asks of each view: which of all others is your partner? The probabilities are a softmax, and sum to 1. SigLIP
# judges each pair by itself: is it one, yes or no? This is SimCLR with SigLIP's question. Towers and heads are SimCLR's;
# what is new is the loss and the probability, and they go together.

# %%
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float

from abx import losses
from abx.methods.batches import pooled
from abx.methods.simclr import SimCLR, SimCLREncoded, SimCLRModel
from abx.nn import unit
from abx.types import Aux, Axis


@dataclass(frozen=True)
class SigmoidSimCLR(SimCLR):
    """Two augmented views of each image; logits cos / temperature + bias, of which the pairs alone are true."""

    bias: float = -5.0
    """About minus the logarithm of the batch."""

    def reward_loss(
        self,
        model: SimCLRModel,
        encoded: SimCLREncoded,
        target_encoded: Any,
        carry: Any,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        view1, view2 = model.head(encoded.features), model.head(encoded.annotations)
        loss = losses.siglip_loss(view1, view2, 1 / self.temperature, self.bias, axis=axis)
        return loss, Aux({"reward/loss": loss}, carry)

    def reward(
        self,
        target: SimCLRModel,
        carry: Any,
        tokens: Float[Array, "*b t d"],
        target_encoded: SimCLREncoded,
        *,
        axis: Axis = None,
    ) -> Float[Array, "*b l"]:
        """p(l | x), each by itself: they do not sum to 1."""
        psi = self.annotations(target.head, target_encoded, axis=axis)
        phi = unit(target.head(pooled(target.backbone, tokens)))
        return jax.nn.sigmoid(phi @ psi.T / self.temperature + self.bias)


# %% [markdown]
# ## Does it hold?
#
# `Reward` is a protocol: whatever has its functions is one. `AB` takes it like any other, and its shapes can be had
# without computing anything.

# %%
from abx.augment import GENTLE
from abx.data.layouts import ABData
from abx.data.streams import open_sources
from abx.data.views import RandomCrops
from abx.methods import AB, Reward
from abx.nn import DecoderConfig, ViTConfig

tiny = ViTConfig(width=64, depth=2, heads=2, mlp=128, patch=8, size=32)
base = SigmoidSimCLR(tiny, hidden=128, embed=64, photometric=GENTLE)
method = AB(
    base,
    reward_weight=1.0,  # 2 stands for the two directions of a contrastive loss; this one has one
    decoder=DecoderConfig(width=64, depth=1, heads=2, mlp=128, bins=64),
    value_embed=64,
    value_bias=-4.0,
)
assert isinstance(base, Reward)
assert not method.problems()

data = ABData(
    reward_batch=32,
    value_batch=24,
    reward_views=RandomCrops(n=2, size=32, scale=(0.3, 1.0)),
    value_views=RandomCrops(n=3, size=32, scale=(0.1, 0.5)),
)
batches = data.batches(open_sources(data), seed=0)
batch, key = batches[0].batch, jax.random.key(0)
model, carry = method.init(key, batch)
p = jax.eval_shape(method.predict, model, model, carry, batch, key)
print(f"reward b j l {p.reward.shape}, phi b i j e {p.phi.shape}, psi l e {p.psi.shape}")
assert p.reward.shape == (24, 3, 32)

# %% [markdown]
# What must hold of every reward: it is in [0, 1], and so are the targets that are made of it; its loss is finite. Of this
# one: its probabilities do not sum to 1, as a softmax's would. Nothing asks them to.

# %%
predicted = jax.jit(method.predict)(model, model, carry, batch, key)
reward = np.asarray(predicted.reward)
print(f"rewards from {reward.min():.3f} to {reward.max():.3f}; those of a view sum to {reward.sum(-1).mean():.1f}")
assert 0 <= reward.min() <= reward.max() <= 1
assert np.isfinite(predicted.reward_loss)
y = method.value_target(model, predicted, carry.step)
assert 0 <= y.min() <= y.max() <= 1
assert not np.allclose(reward.sum(-1), 1, atol=0.1)

# %% [markdown]
# ## A few steps of training
#
# Every 50 steps the value head is measured on scenes that it has not seen. *Explained* is the share of what there is to
# learn: 0 is to give every view the mean value of each annotation, 1 its targets. *Rotated* is how much worse it gets
# when it is told the boxes of other views: 0 means that it does not use them. Both mean little before the reward has
# left its beginning, at which, as was just seen, it says yes to nearly everything. The value loss itself is mostly the
# entropy of its targets, which move.

# %%
from dataclasses import replace

from abx.analysis.values import value_metrics
from abx.optim import EMA, AdamW
from abx.train import init, make_step

steps = 200
held = replace(data, reward="scenes:test", value="scenes:test")
unseen = [held.batches(open_sources(held), seed=1)[s].batch for s in range(4)]
tx = AdamW(lr=2e-3, warmup=0.1, beta2=0.98, weight_decay_end=0.04).build(steps)
state = init(method, tx, seed=0, batch=batch)
step = make_step(method, tx, EMA(0.01, "constant").schedule(steps), seed=0)


def measured(state):
    return value_metrics(method, state.model, state.target, state.carry, unseen)


history, looks = [], {}
for s in range(steps):
    state, metrics = step(state, batches[s].batch)
    history.append(jax.device_get(metrics))
    if (s + 1) % 50 == 0:
        looks[s + 1] = measured(state)

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 2.4))
later = range(25, steps)
left.plot(later, [history[s]["reward/loss"] for s in later])
left.axhline(np.log(32) + 31 * np.log(32 / 31), color="grey", ls=":")  # one of 32 is true, and each is judged alone
left.set(title="reward: its loss, and guessing", xlabel="step", ylim=(0, None))
middle.plot(later, [history[s]["value/loss"] for s in later])
middle.set(title="value loss", xlabel="step", ylim=(0, None))
right.plot(looks.keys(), [look["value/explained"] for look in looks.values()], "o-")
right.set(title="value/explained", xlabel="step", xlim=(0, steps), ylim=(0, 1));

# %%
for name, what in (
    ("value/explained", "explained, of what there is to learn"),
    ("value/rotated_rise", "rotated: its error rises by"),
    ("value/accuracy", "names the annotation that fits another view best"),
    ("value/copy_accuracy", "copying the one that fits its own view best"),
    ("value/chance", "guessing"),
):
    print(f"{what:50} {looks[steps][name]:6.1%}")
assert looks[steps]["value/explained"] > 0
assert history[-1]["reward/loss"] < history[0]["reward/loss"]

# %% [markdown]
# Two hundred steps are enough to see that the reward bears bootstrapping, and not to see whether it is a good one: the
# annotation that fits another view best is still named more often by copying, and the boxes are hardly used.
#
# ## To keep it
#
# The cell with the class, as it stands, is the file `abx/methods/sigmoid_simclr.py`. [Adding things](../docs/extend.md)
# says what else there is to do: a recipe for the command line, a line in the table that tests every method (the same on
# eight devices as on one, the same resumed as never stopped), and the same for a kind of data and a probe.
