"""Annotation bootstrapping: algorithm 2 of the paper, with one hole for the reward."""

import math
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from abx import boxes, losses
from abx.augment import Photometric
from abx.methods.base import Reward
from abx.methods.batches import tokens_of
from abx.methods.value_head import ValueHead, bias_for_unit_sum
from abx.nn import ActionDecoder, DecoderConfig
from abx.nn.layers import Linear
from abx.types import ABBatch, Aux, Axis, Views

R = TypeVar("R", bound=Reward)

DENSE = 256 * 2**20
"""Bytes that the value logits of one device may take before annotations are scored in chunks."""


class ABModel(eqx.Module):
    base: Any
    value: ValueHead

    @property
    def backbone(self) -> Any:
        return self.base.backbone


class ABCarry(NamedTuple):
    base: Any
    step: Int[Array, ""]
    """Steps taken, for the gamma warm-up."""


class Prediction(NamedTuple):
    """Everything algorithm 2 computes on the way to its two losses, for analyses. Axes as in `abx.types`."""

    reward_loss: Float[Array, ""]
    aux: Aux
    tokens: Float[Array, "b n t d"]
    actions: Float[Array, "b i j 4"]
    phi: Float[Array, "b i j e"]
    psi: Float[Array, "l e"]
    target_phi: Float[Array, "b j k e"]
    target_psi: Float[Array, "l e"]
    reward: Float[Array, "b j l"]


@dataclass(frozen=True)
class AB(Generic[R]):
    """Annotation bootstrapping: from each view of an image, predict the annotations of every other view."""

    base: R
    """The method whose reward is bootstrapped."""
    gamma: float = 0.5
    """Discount in [0, 1): the share of the target that is bootstrapped rather than rewarded (paper: 0.5)."""
    gamma_warmup: int = 0
    """Steps over which gamma rises linearly from 0; 0 = none (paper). An untrained Q inflates the first targets."""
    value_weight: float = 1.0
    """Weight of the value loss (paper: 1). 0 = the ablation "no propagation loss"."""
    reward_weight: float = 2.0
    """Weight of the base's own loss. 2 = the sum of both contrastive directions, as the paper's algorithms have it; 0 =
    the ablation "no annotation loss"."""
    actions: bool = True
    """Tell the decoder which box it moves to. Off = the ablation "removing action tokens": all targets look alike."""
    self_pairs: bool = True
    """Count the pairs i = j in the value loss and k = j in the target's maximum, as algorithm 2 does. Off: only what
    moves counts (A-2)."""
    oracle: bool = False
    """Take the largest reward of the image's crops for the discounted term of the target, max_k p(l|x_k), in place of
    the values that the network predicts: a control without bootstrapping, which sees those crops. Not in the paper."""
    annotation_gradient: bool = True
    """Let the value loss train what embeds the annotations (text tower, backbone), as algorithm 2 does. Off: of that
    side only the value head's own psi learns (A-13). Over DINO that psi is all there is anyway."""
    augment_value: bool = False
    """Photometric augmentation and flips on the value crops: the ablation "adding augmentations"."""
    photometric: Photometric = field(default_factory=Photometric)
    """Augmentation of the value crops; unused without --method.augment-value."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    value_embed: int = 256
    """Width of the value head's embedding space. The paper gives none; 256 is our choice."""
    value_scale: float = 10.0
    """Initial scale t of the value head (equation 4); 10 is SigLIP's."""
    value_bias: float | Literal["auto", "first-batch"] = "auto"
    """Initial bias b of the value head (equation 4): a number; auto = -10 for 4096 to 16383 annotations, else minus the
    logarithm of their count; first-batch = such that values sum to 1 over the annotations of the first batch."""
    chunk: int = 0
    """Annotations scored at a time, to save memory; 0 = as many as fit in 256 MB per device."""

    def problems(self) -> list[str]:
        found = [f"base.{p}" for p in self.base.problems()] + self.decoder.problems() + self.photometric.problems()
        if not 0 <= self.gamma < 1:
            found.append(f"gamma must be in [0, 1), not {self.gamma}")
        for name in ("gamma_warmup", "value_weight", "reward_weight", "chunk"):
            if not getattr(self, name) >= 0:
                found.append(f"{name} must be at least 0, not {getattr(self, name)}")
        if not self.value_weight and not self.reward_weight:
            found.append("value_weight must be above 0 where reward_weight is 0: there is nothing else to learn from")
        if self.value_embed < 1:
            found.append(f"value_embed must be at least 1, not {self.value_embed}")
        if not isinstance(self.value_bias, str) and not math.isfinite(self.value_bias):
            found.append(f"value_bias must be a finite number, auto or first-batch, not {self.value_bias}")
        if not self.value_scale > 0:
            found.append(f"value_scale must be above 0, not {self.value_scale}")
        return found

    def init(self, key: PRNGKeyArray, batch: ABBatch | None = None) -> tuple[ABModel, ABCarry]:
        """A fresh model and carry. Without a first batch the number of annotations is unknown and the bias -10."""
        kb, kd, kh, ka, _ = jax.random.split(key, 5)
        base, carry = self.base.init(kb, None if batch is None else batch.reward)
        value = ValueHead(
            decoder=ActionDecoder(self.decoder, self.base.width, key=kd),
            head=Linear(self.decoder.width, self.value_embed, bias=False, key=kh),
            annotation_head=self.base.annotation_head(self.value_embed, ka),
            log_scale=jnp.log(jnp.float32(self.value_scale)),
            bias=jnp.float32(self._bias(batch)),
        )
        model, start = ABModel(base, value), ABCarry(carry, jnp.zeros((), jnp.int32))
        if self.value_bias == "first-batch":
            if batch is None:
                raise ValueError('value_bias="first-batch" needs one: init(key, batch)')
            model = eqx.tree_at(lambda m: m.value.bias, model, self.first_bias(model, start, batch, key))
        return model, start

    def first_bias(self, model: ABModel, carry: ABCarry, batch: ABBatch, key: PRNGKeyArray) -> Float[Array, ""]:
        """The bias with which this model's values sum to 1 over the annotations of a batch; `key` as for `init`."""
        p = self.predict(model, model, carry, batch, jax.random.split(key, 5)[4])
        return bias_for_unit_sum(model.value.scale * (p.phi @ p.psi.T))

    def _bias(self, batch: ABBatch | None) -> float:
        if not isinstance(self.value_bias, str):
            return self.value_bias
        if batch is None:
            return -10.0
        count = self.base.annotation_count(batch.reward)
        return -10.0 if 4096 <= count < 16384 else -math.log(count)

    def predict(
        self,
        model: ABModel,
        target: ABModel,
        carry: ABCarry,
        batch: ABBatch,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> Prediction:
        """Algorithm 2 up to the embeddings of the value head: each network runs once over each part of the batch."""
        base, (reward_key, value_key) = self.base, jax.random.split(key)
        annotated = base.prepare(batch.reward, reward_key, axis=axis)
        encoded = base.encode(model.base, annotated)
        target_encoded = base.encode_target(target.base, annotated)
        reward_loss, aux = base.reward_loss(model.base, encoded, target_encoded, carry.base, axis=axis)

        valued = encoded if self.annotation_gradient else jax.lax.stop_gradient(encoded)
        images, actions = self._views(batch.value, value_key, axis)
        tokens = tokens_of(model.backbone, images)  # b n t d
        target_tokens = tokens_of(target.backbone, images)  # b n t d
        return Prediction(
            reward_loss=reward_loss,
            aux=aux,
            tokens=tokens,
            actions=actions,
            phi=model.value.phi(tokens, actions),  # b i j e
            psi=base.annotations(model.value.annotation_head, valued, axis=axis),  # l e
            target_phi=target.value.phi(target_tokens, actions),  # b j k e
            target_psi=base.annotations(target.value.annotation_head, target_encoded, axis=axis),  # l e
            reward=base.reward(target.base, carry.base, target_tokens, target_encoded, axis=axis),  # b j l
        )

    def loss(
        self,
        model: ABModel,
        target: ABModel,
        carry: ABCarry,
        batch: ABBatch,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """reward_weight * base loss + value_weight * value loss."""
        p = self.predict(model, target, carry, batch, key, axis=axis)
        y = self.value_target(target, p, carry.step)
        value_loss = self.value_loss(model, p, y)
        metrics = p.aux.metrics | {
            "value/loss": value_loss,
            "value/target_sum": y.sum(-1).mean(),
            "value/scale": model.value.scale,
            "value/bias": model.value.bias,
            "value/gamma": self.discount(carry.step),
        }
        total = self.reward_weight * p.reward_loss + self.value_weight * value_loss
        return total, Aux(metrics, ABCarry(p.aux.carry, carry.step + 1))

    def value_target(self, target: ABModel, p: Prediction, step: Int[Array, ""]) -> Float[Array, "b j l"]:
        """What Q should say of each view, whichever view it is expected from: equation 5."""
        v, gamma, pairs, chunk = target.value, self.discount(step), self.pairs(p.phi.shape[1]), self._chunk(p)
        if self.oracle or not chunk:
            return losses.value_target(p.reward, self.next_q(target, p), gamma, pairs)
        return losses.chunked_value_target(
            p.reward, p.target_phi, p.target_psi, v.scale, v.bias, gamma, pairs, chunk=chunk
        )

    def next_q(self, target: ABModel, p: Prediction) -> Float[Array, "b j k l"]:
        """Logits of what can be had from each view by each move: of values, or under `oracle` of the rewards there."""
        if self.oracle:
            b, n, l = p.reward.shape
            return jnp.broadcast_to(jax.scipy.special.logit(p.reward)[:, None], (b, n, n, l))
        return target.value.logits(p.target_phi, p.target_psi)

    def value_loss(self, model: ABModel, p: Prediction, y: Float[Array, "b j l"]) -> Float[Array, ""]:
        """Cross-entropy of Q to what it should say, over all pairs of views."""
        v, pairs, chunk = model.value, self.pairs(p.phi.shape[1]), self._chunk(p)
        if not chunk:
            return losses.value_loss(v.logits(p.phi, p.psi), y, pairs)
        return losses.chunked_value_loss(p.phi, p.psi, v.scale, v.bias, y, pairs, chunk=chunk)

    def discount(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """gamma at this step."""
        share = jnp.minimum(1.0, step.astype(jnp.float32) / self.gamma_warmup) if self.gamma_warmup else jnp.float32(1)
        return self.gamma * share

    def _views(self, views: Views, key: PRNGKeyArray, axis: Axis) -> tuple[Array, Float[Array, "b n n 4"]]:
        """The value crops as the towers take them, and the action from each to each."""
        images, actions = jnp.asarray(views.images), jnp.asarray(boxes.relative_boxes(views.boxes))
        if self.augment_value:
            images, flipped = self.photometric.batch(images, key, axis=axis)
            # From a mirrored view the world is mirrored. That the target may be too, no box can tell.
            actions = jnp.where(flipped[:, :, None, None], jnp.asarray(boxes.flip(actions)), actions)
        if not self.actions:
            # Every action carries the same four tokens, which training is free to make the mask's.
            # Made from the actions, so that under shard_map it varies over devices as they do.
            actions = 0 * actions + jnp.array([0.0, 0.0, 1.0, 1.0])
        return images, actions

    def pairs(self, n: int) -> Bool[np.ndarray, "n n"] | None:
        """Which of the n² pairs of n views count; None = all."""
        if self.self_pairs:
            return None
        if n == 1:
            raise ValueError("without self_pairs there must be two views or more of an image: from one, nothing moves")
        return ~np.eye(n, dtype=bool)

    def _chunk(self, p: Prediction) -> int:
        """Annotations to be scored at a time; 0 = all."""
        if self.chunk:
            return self.chunk
        row = 4 * p.phi.size // p.phi.shape[-1]
        return 0 if row * len(p.psi) <= DENSE else max(DENSE // row, 128)
