"""AdamW with a linear warm-up, a cosine to the end, and a weight decay that only kernels feel."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from abx.nn.layers import Linear


@dataclass(frozen=True)
class AdamW:
    """AdamW; the learning rate rises linearly, then falls along a half cosine."""

    lr: float = 1e-3
    """Peak learning rate."""
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
        for name in ("lr_end", "weight_decay", "weight_decay_end", "clip"):
            if not getattr(self, name) >= 0:
                found.append(f"optim.{name} must be at least 0, not {getattr(self, name)}")
        for name in ("warmup", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"optim.{name} must be in [0, 1), not {getattr(self, name)}")
        return found

    def learning_rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step, for a run of so many."""
        warm = round(self.warmup * steps)
        return optax.warmup_cosine_decay_schedule(0.0, self.lr, warm, max(steps, warm + 1), self.lr_end)

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
        )


@dataclass(frozen=True)
class EMA:
    """The target network: a moving average of the trained (online) one. It makes the value's targets."""

    tau: float = 0.004
    """Step of the target network towards the trained one, at the start (paper: 0.004, what others call momentum 0.996).
    1 = the ablation "no target network", and stays 1."""
    cosine: bool = True
    """Shrink tau to 0 along a half cosine (the paper's AB over SimCLR and DINO) or keep it (its AB over CLIP)."""

    def problems(self) -> list[str]:
        """What is wrong with these numbers, each with the field to change."""
        return [] if 0 <= self.tau <= 1 else [f"ema.tau must be in [0, 1], not {self.tau}"]

    def schedule(self, steps: int) -> optax.Schedule:
        """tau by step, for a run of so many."""
        # A target network that is the trained one must not turn into a frozen one on the way.
        shrinks = self.cosine and self.tau < 1
        return half_cosine(self.tau, 0.0, steps) if shrinks else optax.constant_schedule(self.tau)


def half_cosine(start: float, end: float, steps: int) -> optax.Schedule:
    """From start at step 0 to end at step `steps` along half a cosine; stays there."""

    def schedule(step: Any) -> Any:
        share = jnp.minimum(jnp.asarray(step, jnp.float32) / max(steps, 1), 1.0)
        return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return schedule


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
