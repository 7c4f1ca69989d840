"""SimCLR (Chen et al. 2020): two augmented views of an image find each other. A Reward: views are the annotations."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx import losses, parallel
from abx.augment import Photometric
from abx.methods.batches import features, pooled
from abx.nn import Projector, ViT, ViTConfig, unit
from abx.types import Aux, Axis, Views


class SimCLRModel(eqx.Module):
    backbone: ViT
    head: Projector


class SimCLREncoded(NamedTuple):
    features: Float[Array, "b d"] | None
    """Pooled features of the first view; the target network does not need them."""
    annotations: Float[Array, "b d"]
    """Pooled features of the second view."""


@dataclass(frozen=True)
class SimCLR:
    """Two augmented views of each image, NT-Xent over the batch."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    hidden: int = 4096
    """Hidden width of the projection head."""
    embed: int = 256
    """Width of the embedding in which views are compared: the projection head's output."""
    temperature: float = 0.1
    """What cosine similarities are divided by before the softmax."""
    photometric: Photometric = field(default_factory=Photometric)
    """Augmentation of the two views."""

    @property
    def width(self) -> int:
        return self.backbone.width

    def problems(self) -> list[str]:
        found = self.backbone.problems() + self.photometric.problems()
        for name in ("hidden", "embed"):
            if getattr(self, name) < 1:
                found.append(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.temperature > 0:
            found.append(f"temperature must be above 0, not {self.temperature}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[SimCLRModel, Any]:
        kb, kh = jax.random.split(key)
        return SimCLRModel(ViT(self.backbone, key=kb), self.annotation_head(self.embed, kh)), ()

    def annotation_count(self, batch: Views) -> int:
        return len(batch.images)

    def annotation_head(self, e: int, key: PRNGKeyArray) -> Projector:
        return Projector(self.width, self.hidden, e, key=key)

    def prepare(self, batch: Views, key: PRNGKeyArray | None, *, axis: Axis = None) -> Views:
        """Two uint8 views of each image to two augmented float views in [-1, 1]; without a key as they are."""
        if key is None:
            return batch
        return batch._replace(images=self.photometric.batch(batch.images, key, axis=axis)[0])

    def encode(self, model: SimCLRModel, batch: Views) -> SimCLREncoded:
        found = features(model.backbone, batch.images)
        return SimCLREncoded(found[:, 0], found[:, 1])

    def encode_target(self, target: SimCLRModel, batch: Views) -> SimCLREncoded:
        return SimCLREncoded(None, features(target.backbone, batch.images[:, 1]))

    def annotations(self, head: Projector, encoded: SimCLREncoded, *, axis: Axis = None) -> Float[Array, "l e"]:
        return parallel.gather(unit(head(encoded.annotations)), axis)

    def reward_loss(
        self,
        model: SimCLRModel,
        encoded: SimCLREncoded,
        target_encoded: Any,
        carry: Any,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        assert encoded.features is not None
        view1, view2 = model.head(encoded.features), model.head(encoded.annotations)
        loss = losses.simclr_loss(view1, view2, self.temperature, axis=axis)
        # Who finds its partner among the other view's rows: easier to read than the loss, and free.
        everyone = parallel.gather(unit(view2), axis)
        found = (unit(view1) @ everyone.T).argmax(1) == parallel.positives(len(view1), axis)
        chance = jnp.log(jnp.float32(2 * len(everyone) - 1))
        metrics = {"reward/loss": loss, "reward/chance": chance, "reward/accuracy": found.mean(dtype=jnp.float32)}
        return loss, Aux(metrics, carry)

    def reward(
        self,
        target: SimCLRModel,
        carry: Any,
        tokens: Float[Array, "*b t d"],
        target_encoded: SimCLREncoded,
        *,
        axis: Axis = None,
    ) -> Float[Array, "*b l"]:
        """p(l | x) = softmax over everyone's second views of cos(g(x), g(l)) / temperature (METHODS §2.2)."""
        psi = self.annotations(target.head, target_encoded, axis=axis)
        phi = unit(target.head(pooled(target.backbone, tokens)))
        # As exactly as the loss, whose products are.
        return jax.nn.softmax(jnp.matmul(phi, psi.T, precision="highest") / self.temperature)

    def loss(
        self,
        model: SimCLRModel,
        target: SimCLRModel,
        carry: Any,
        batch: Views,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """`batch`: two crops of each image. SimCLR has no targets; the EMA copy is kept for evaluation alone."""
        return self.reward_loss(model, self.encode(model, self.prepare(batch, key, axis=axis)), None, carry, axis=axis)
