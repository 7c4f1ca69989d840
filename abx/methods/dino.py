"""DINO (Caron et al. 2021): one view's prototypes from another's. A Reward: prototypes are the annotations."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from abx import losses, parallel
from abx.augment import DINO_GLOBAL, DINO_GLOBAL2, DINO_LOCAL, Photometric
from abx.methods.batches import features, pooled
from abx.nn import DINOHead, Prototypes, ViT, ViTConfig
from abx.types import Aux, Axis, MultiCrop


class DINOModel(eqx.Module):
    backbone: ViT
    head: DINOHead
    prototypes: Prototypes

    def outputs(self, x: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        """Products of features with all prototypes."""
        return self.prototypes(self.head(x))


class DINOCarry(NamedTuple):
    center: Float[Array, " k"]
    """Running mean of the target network's outputs."""
    step: Int[Array, ""]
    """Steps taken, for the target's temperature and the freezing of prototypes."""


class DINOPrepared(NamedTuple):
    views: tuple[Array, ...]
    """Of each size, "b v h w 3": the global views, then the local ones if there are any."""
    keys: tuple[Array, ...] | None
    """For stochastic depth, "b v"; None where nothing is left out."""


class DINOEncoded(NamedTuple):
    embedded: Float[Array, "v b e"]
    """Unit vectors of all views, before the prototypes."""


class DINOTarget(NamedTuple):
    outputs: Float[Array, "g b k"]
    """Of the global views."""


@dataclass(frozen=True)
class Distillation:
    """What one chooses of self-distillation; shared by DINO and SiLC."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    prototypes: int = 65_536
    """Number of prototypes. DINO's; the paper gives none (A-34)."""
    hidden: int = 2048
    """Hidden width of the projection head."""
    bottleneck: int = 256
    """Width of the embedding in which views and prototypes are compared."""
    norm_last_layer: bool = True
    """Prototypes are unit vectors (DINO's default). Off: each has a learned length too, its advice for a ViT-S."""
    student_temperature: float = 0.1
    """What the online network's outputs are divided by before the softmax."""
    teacher_temperature: float = 0.07
    """The same for the target network, after the warm-up. DINO's advice for long runs; 0.04 for short ones (A-34)."""
    teacher_temperature_start: float = 0.04
    """And at the first step; unused without a warm-up."""
    temperature_warmup: int = 0
    """Steps over which the one becomes the other, linearly; 0 = none. DINO: a tenth of the run."""
    center_momentum: float = 0.9
    """Share of the old center in the new."""
    freeze_prototypes: int = 0
    """Steps in which the prototypes are not trained. DINO: the first epoch."""
    global1: Photometric = DINO_GLOBAL
    """Augmentation of the first global view."""
    global2: Photometric = DINO_GLOBAL2
    """Augmentation of the second."""
    local: Photometric = DINO_LOCAL
    """Augmentation of the local views."""

    def problems(self) -> list[str]:
        found = self.backbone.problems()
        for name in ("prototypes", "hidden", "bottleneck"):
            if getattr(self, name) < 1:
                found.append(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("student_temperature", "teacher_temperature", "teacher_temperature_start"):
            if not getattr(self, name) > 0:
                found.append(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("temperature_warmup", "freeze_prototypes"):
            if getattr(self, name) < 0:
                found.append(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.center_momentum <= 1:
            found.append(f"center_momentum must be in [0, 1], not {self.center_momentum}")
        for name in ("global1", "global2", "local"):
            found += getattr(self, name).problems(name)
        return found


@dataclass(frozen=True)
class DINO(Distillation):
    """Two large views of each image to the target network, these and small ones to the online one."""

    @property
    def width(self) -> int:
        return self.backbone.width

    @property
    def embed(self) -> int:
        return self.bottleneck

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[DINOModel, DINOCarry]:
        kb, kh, kp = jax.random.split(key, 3)
        model = DINOModel(
            ViT(self.backbone, key=kb),
            DINOHead(self.width, self.hidden, self.bottleneck, key=kh),
            Prototypes(self.bottleneck, self.prototypes, gain=not self.norm_last_layer, key=kp),
        )
        return model, DINOCarry(jnp.zeros(self.prototypes), jnp.zeros((), jnp.int32))

    def annotation_count(self, batch: Any) -> int:
        return self.prototypes

    def annotation_head(self, e: int, key: PRNGKeyArray) -> Prototypes:
        """Vectors of their own: prototypes have no features that a head could read (A-7)."""
        return Prototypes(e, self.prototypes, key=key)

    def prepare(self, batch: MultiCrop, key: PRNGKeyArray | None, *, axis: Axis = None) -> DINOPrepared:
        """uint8 views to augmented float views in [-1, 1], each kind its own way; without a key as they are."""
        large, small = jnp.asarray(batch.globals.images), jnp.asarray(batch.locals.images)
        if key is None:
            return DINOPrepared((large, small) if small.shape[1] else (large,), None)
        k1, k2, kl, kd = jax.random.split(key, 4)
        first, _ = self.global1.batch(large[:, :1], k1, axis=axis)
        second, _ = self.global2.batch(large[:, 1:], k2, axis=axis)
        views: tuple[Array, ...] = (jnp.concatenate([first, second], 1),)
        if small.shape[1]:
            views += (self.local.batch(small, kl, axis=axis)[0],)
        if not self.backbone.drop_path:
            return DINOPrepared(views, None)
        return DINOPrepared(views, tuple(_view_keys(jax.random.fold_in(kd, i), x, axis) for i, x in enumerate(views)))

    def encode(self, model: DINOModel, batch: DINOPrepared) -> DINOEncoded:
        """The backbone once per resolution, the head once."""
        keys = batch.keys or (None,) * len(batch.views)
        parts = [features(model.backbone, x, k) for x, k in zip(batch.views, keys, strict=True)]  # b v d
        return DINOEncoded(model.head(jnp.concatenate(parts, 1).swapaxes(0, 1)))

    def encode_target(self, target: DINOModel, batch: DINOPrepared) -> DINOTarget:
        return DINOTarget(target.outputs(features(target.backbone, batch.views[0]).swapaxes(0, 1)))

    def annotations(self, head: Prototypes, encoded: Any, *, axis: Axis = None) -> Float[Array, "l e"]:
        return head.vectors()

    def reward_loss(
        self,
        model: DINOModel,
        encoded: DINOEncoded,
        target_encoded: DINOTarget,
        carry: DINOCarry,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        prototypes = model.prototypes
        if self.freeze_prototypes:
            frozen = carry.step < self.freeze_prototypes
            prototypes = jax.tree.map(lambda w: jnp.where(frozen, jax.lax.stop_gradient(w), w), prototypes)
        online = prototypes(encoded.embedded)  # v b k
        teacher = target_encoded.outputs  # g b k
        warm = self.temperature(carry.step)
        loss = losses.dino_loss(online, teacher, carry.center, self.student_temperature, warm)
        center = losses.update_center(carry.center, teacher, self.center_momentum, axis=axis)
        metrics = self._metrics(loss, online, teacher, carry.center, warm, axis)
        return loss, Aux(metrics, DINOCarry(center, carry.step + 1))

    def reward(
        self,
        target: DINOModel,
        carry: DINOCarry,
        tokens: Float[Array, "*b t d"],
        target_encoded: Any,
        *,
        axis: Axis = None,
    ) -> Float[Array, "*b l"]:
        """p(l | x): the distribution over prototypes that DINO trains against, centered and sharpened.

        The paper does not say which softmax. The online one, at temperature 0.1 and without center, is the other
        candidate: softer, and not what the base's own loss aims at (A-6).
        """
        outputs = target.outputs(pooled(target.backbone, tokens))
        return jax.nn.softmax((outputs - carry.center) / self.temperature(carry.step))

    def loss(
        self,
        model: DINOModel,
        target: DINOModel,
        carry: DINOCarry,
        batch: MultiCrop,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """`batch`: two global views of each image, and any number of local ones."""
        prepared = self.prepare(batch, key, axis=axis)
        encoded, target_encoded = self.encode(model, prepared), self.encode_target(target, prepared)
        return self.reward_loss(model, encoded, target_encoded, carry, axis=axis)

    def temperature(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The target's, at this step."""
        if not self.temperature_warmup:
            return jnp.float32(self.teacher_temperature)
        share = jnp.minimum(step.astype(jnp.float32) / self.temperature_warmup, 1.0)
        start = self.teacher_temperature_start
        return start + (self.teacher_temperature - start) * share

    def _metrics(
        self,
        loss: Float[Array, ""],
        online: Float[Array, "v b k"],
        teacher: Float[Array, "g b k"],
        center: Float[Array, " k"],
        temperature: Float[Array, ""],
        axis: Axis,
    ) -> dict[str, Float[Array, ""]]:
        """The loss between ln k (guessing) and the targets' entropy (perfect); and the two ways to collapse."""
        wanted = jax.nn.softmax((teacher - center) / temperature)
        entropy = lambda p: -(p * jnp.log(p + 1e-12)).sum(-1)
        agree = online[0].argmax(-1) == wanted[1].argmax(-1)
        return {
            "reward/loss": loss,
            "reward/chance": jnp.float32(math.log(self.prototypes)),
            "reward/accuracy": agree.mean(dtype=jnp.float32),
            # Near ln k all targets are flat; near 0 each is one prototype.
            "reward/target_entropy": entropy(wanted).mean(),
            # Of the mean target: near 0 all images have the same prototype, whatever the entropy of each.
            "reward/mean_target_entropy": entropy(parallel.mean(wanted.mean((0, 1)), axis)),
            "reward/temperature": temperature,
        }


def _view_keys(key: PRNGKeyArray, views: Float[Array, "b v h w 3"], axis: Axis) -> Key[Array, "b v"]:
    """A key for each view, the same however many devices share the batch."""
    b, v = views.shape[:2]
    return jax.vmap(lambda row: jax.random.split(row, v))(parallel.row_keys(key, b, axis))
