"""AdamW with a linear warm-up, a cosine to the end, and a weight decay that only kernels feel."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from abx.nn.heads import Scale
from abx.nn.layers import Linear


@dataclass(frozen=True)
class AdamW:
    """AdamW; the learning rate rises linearly, then falls along a half cosine."""

    lr: float = 1e-3
    """Peak learning rate."""
    lr_start: float = 0.0
    """Learning rate at the first step."""
    lr_end: float = 0.0
    """Learning rate at the last step."""
    warmup: float = 0.05
    """Length of the linear warm-up, as a share of the run."""
    weight_decay: float = 0.04
    """Weight decay at the first step, of linear layers' weights only; multiplied by the learning rate, as in torch."""
    weight_decay_end: float = 0.4
    """Weight decay at the last step; a half cosine in between."""
    beta1: float = 0.9
    """Decay of Adam's first moment."""
    beta2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's epsilon."""
    clip: float = 0.0
    """Largest global gradient norm; 0 = no clipping."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        found = []
        for name in ("lr", "eps"):
            if not getattr(self, name) > 0:
                found.append(f"optim.{name} must be above 0, not {getattr(self, name)}")
        for name in ("lr_start", "lr_end", "weight_decay", "weight_decay_end", "clip"):
            if not getattr(self, name) >= 0:
                found.append(f"optim.{name} must be at least 0, not {getattr(self, name)}")
        for name in ("warmup", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"optim.{name} must be in [0, 1), not {getattr(self, name)}")
        return found

    def learning_rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step, for a run of so many."""
        warm = round(self.warmup * steps)
        return optax.warmup_cosine_decay_schedule(self.lr_start, self.lr, warm, max(steps, warm + 1), self.lr_end)

    def decay(self, steps: int) -> optax.Schedule:
        """Weight decay by step, for a run of so many."""
        return half_cosine(self.weight_decay, self.weight_decay_end, steps)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a run of `steps`."""
        clip = [optax.clip_by_global_norm(self.clip)] if self.clip else []
        return optax.chain(
            *clip,
            optax.scale_by_adam(self.beta1, self.beta2, self.eps),
            optax.add_decayed_weights(self.decay(steps), mask=is_kernel),
            optax.scale_by_learning_rate(self.learning_rate(steps)),
            optax.stateless(bound_scales),
        )


@dataclass(frozen=True)
class EMA:
    """The target network: a moving average of the trained (online) one. It makes the value's targets."""

    tau: float = 0.004
    """Step of the target network towards the trained one, at the start (paper: 0.004, what others call momentum 0.996).
    1 = the ablation "no target network", and stays 1."""
    shape: Literal["constant", "cosine", "linear"] = "cosine"
    """Keep tau (the paper's AB over CLIP), or shrink it to 0: along a half cosine (its AB over SimCLR and DINO; DINO)
    or a straight line (I-JEPA)."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        return [] if 0 <= self.tau <= 1 else [f"ema.tau must be in [0, 1], not {self.tau}"]

    def schedule(self, steps: int) -> optax.Schedule:
        """tau by step, for a run of so many."""
        # A target network that is the trained one must not turn into a frozen one on the way.
        if self.shape == "constant" or self.tau == 1:
            return optax.constant_schedule(self.tau)
        return (half_cosine if self.shape == "cosine" else straight)(self.tau, 0.0, steps)


def straight(start: float, end: float, steps: int) -> optax.Schedule:
    """From start at step 0 to end at step `steps` along a straight line; stays there."""

    def schedule(step: Any) -> Any:
        return start + (end - start) * jnp.minimum(jnp.asarray(step, jnp.float32) / max(steps, 1), 1.0)

    return schedule


def half_cosine(start: float, end: float, steps: int) -> optax.Schedule:
    """From start at step 0 to end at step `steps` along half a cosine; stays there."""

    def schedule(step: Any) -> Any:
        share = jnp.minimum(jnp.asarray(step, jnp.float32) / max(steps, 1), 1.0)
        return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return schedule


def bound_scales(updates: Any, params: Any) -> Any:
    """Updates cut to leave every `Scale` in [1, highest]; last in the chain, for nothing to move it afterwards.

    By type, as in `is_kernel`. The parameter itself is bounded, so it leaves the bound as soon as its updates turn.
    """

    def cut(update: Any, now: Any) -> Any:
        if not isinstance(update, Scale):
            return update
        log = jnp.clip(now.log + update.log, 0.0, math.log(now.highest)) - now.log
        return eqx.tree_at(lambda scale: scale.log, update, log)

    return jax.tree.map(cut, updates, params, is_leaf=lambda x: isinstance(x, Scale))


def is_kernel(params: Any) -> Any:
    """A tree of booleans: True for the weights of Linear layers, False for everything else.

    By type, not by rank: a bias of a stacked layer has two axes too. Biases, norms, positions, token tables, scale and
    bias of the value head are never decayed.
    """
    linear = lambda x: isinstance(x, Linear)

    def mark(x: Any) -> Any:
        if isinstance(x, Linear):
            rest = jax.tree.map(lambda _: False, x)
            return eqx.tree_at(lambda layer: layer.weight, rest, True)
        return False

    return jax.tree.map(mark, params, is_leaf=linear)
