"""CLIP (Radford et al. 2021): an image and its text find each other. A Reward: texts are the annotations."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx import losses, parallel
from abx.methods.batches import features, pooled, text_features
from abx.nn import Scale, TextConfig, TextEncoder, ViT, ViTConfig, unit
from abx.nn.layers import Linear
from abx.types import Aux, Axis, Pairs


class CLIPModel(eqx.Module):
    backbone: ViT
    head: Linear
    text: TextEncoder
    text_head: Linear
    scale: Scale


class CLIPEncoded(NamedTuple):
    features: Float[Array, "b d"] | None
    """Features of the images; the target network does not need them."""
    annotations: Float[Array, "b c"]
    """Features of the texts."""


@dataclass(frozen=True)
class CLIP:
    """One view of each image and a text, InfoNCE over the batch in both directions."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed: int = 512
    """Width of the embedding in which images and texts are compared (SLIP's, OpenAI's for a B/32; A-48)."""
    scale: float = 1 / 0.07
    """What cosine similarities are multiplied by before the softmax, at first; it is learned."""
    highest_scale: float = 100.0
    """Where the scale is held if it would grow beyond."""
    reward_temperature: float = 1.0
    """What the scaled similarities are divided by to be the reward of annotation bootstrapping, not in CLIP's own loss.
    At a scale near 100 the reward names little but the best text; above 1 it is softer. The paper has none (A-53)."""

    @property
    def width(self) -> int:
        return self.backbone.width

    def problems(self) -> list[str]:
        found = self.backbone.problems() + self.text.problems()
        if self.embed < 1:
            found.append(f"embed must be at least 1, not {self.embed}")
        if not self.highest_scale >= 1:
            found.append(f"highest_scale must be at least 1, not {self.highest_scale}")
        if not 1 <= self.scale <= max(self.highest_scale, 1):
            found.append(f"scale must be from 1 to highest_scale, {self.highest_scale}, not {self.scale}")
        if not self.reward_temperature > 0:
            found.append(f"reward_temperature must be above 0, not {self.reward_temperature}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[CLIPModel, Any]:
        kb, kh, kt, ka = jax.random.split(key, 4)
        model = CLIPModel(
            backbone=ViT(self.backbone, key=kb),
            head=projection(self.width, self.embed, kh),
            text=TextEncoder(self.text, key=kt),
            text_head=self.annotation_head(self.embed, ka),
            scale=Scale(self.scale, highest=self.highest_scale),
        )
        return model, ()

    def annotation_count(self, batch: Pairs) -> int:
        return len(batch.text)

    def annotation_head(self, e: int, key: PRNGKeyArray) -> Linear:
        return projection(self.text.width, e, key)

    def prepare(self, batch: Pairs, key: PRNGKeyArray | None, *, axis: Axis = None) -> Pairs:
        """As it is: CLIP's only augmentation is its crop."""
        return batch

    def encode(self, model: CLIPModel, batch: Pairs) -> CLIPEncoded:
        return CLIPEncoded(features(model.backbone, batch.views.images[:, 0]), text_features(model.text, batch.text))

    def encode_target(self, target: CLIPModel, batch: Pairs) -> CLIPEncoded:
        return CLIPEncoded(None, text_features(target.text, batch.text))

    def annotations(self, head: Linear, encoded: CLIPEncoded, *, axis: Axis = None) -> Float[Array, "l e"]:
        return parallel.gather(unit(head(encoded.annotations)), axis)

    def reward_loss(
        self, model: CLIPModel, encoded: CLIPEncoded, target_encoded: Any, carry: Any, *, axis: Axis = None
    ) -> tuple[Float[Array, ""], Aux]:
        assert encoded.features is not None
        image, text = model.head(encoded.features), model.text_head(encoded.annotations)
        loss = losses.clip_loss(image, text, model.scale(), axis=axis)
        return loss, Aux(retrieval(loss, image, text, axis) | {"reward/scale": model.scale()}, carry)

    def reward(
        self,
        target: CLIPModel,
        carry: Any,
        tokens: Float[Array, "*b t d"],
        target_encoded: CLIPEncoded,
        *,
        axis: Axis = None,
    ) -> Float[Array, "*b l"]:
        """p(l | x) = softmax over everyone's texts of scale * cos(x, l) / reward_temperature (METHODS §2.2)."""
        return jax.nn.softmax(self.scores(target, tokens, target_encoded, axis) / self.reward_temperature)

    def scores(
        self, model: CLIPModel, tokens: Float[Array, "*b t d"], encoded: CLIPEncoded, axis: Axis = None
    ) -> Float[Array, "*b l"]:
        """scale * cos(x, l), in float32."""
        psi = self.annotations(model.text_head, encoded, axis=axis)
        phi = unit(model.head(pooled(model.backbone, tokens)))
        # As exactly as the loss: an accelerator's quick product is off by 0.1 at a scale of 100.
        return model.scale() * jnp.matmul(phi, psi.T, precision="highest")

    def loss(
        self,
        model: CLIPModel,
        target: CLIPModel,
        carry: Any,
        batch: Pairs,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """`batch`: one view of each image. CLIP has no targets; the EMA copy is kept for evaluation alone."""
        return self.reward_loss(model, self.encode(model, batch), None, carry, axis=axis)


def projection(width: int, e: int, key: PRNGKeyArray) -> Linear:
    """CLIP's head of either tower: without bias, N(0, 1 / width)."""
    return Linear(width, e, bias=False, init=jax.nn.initializers.normal(width**-0.5), key=key)


def retrieval(
    loss: Float[Array, ""], image: Float[Array, "b e"], text: Float[Array, "b e"], axis: Axis
) -> dict[str, Float[Array, ""]]:
    """The loss, beside what guessing gives and how often the right text is the nearest to an image."""
    everyone = parallel.gather(unit(text), axis)
    found = (unit(image) @ everyone.T).argmax(1) == parallel.positives(len(image), axis)
    chance = jnp.float32(math.log(len(everyone)))
    return {"reward/loss": loss, "reward/chance": chance, "reward/accuracy": found.mean(dtype=jnp.float32)}
