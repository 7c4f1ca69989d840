"""SiLC (Naeem et al. 2024): CLIP's loss and DINO's self-distillation on one backbone."""

from dataclasses import dataclass, field, fields
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from abx.methods.clip import CLIP, CLIPModel
from abx.methods.dino import DINO, DINOCarry, DINOModel, Distillation
from abx.nn import DINOHead, Prototypes, TextConfig, ViT
from abx.types import Aux, Axis, PairsAndImages


class SiLCModel(eqx.Module):
    clip: CLIPModel
    head: DINOHead
    prototypes: Prototypes

    @property
    def backbone(self) -> ViT:
        return self.clip.backbone

    @property
    def dino(self) -> DINOModel:
        return DINOModel(self.backbone, self.head, self.prototypes)


@dataclass(frozen=True)
class SiLC(Distillation):
    """CLIP on pairs of image and text, DINO on multi-crops of other images.

    SiLC itself has SigLIP's loss, and on the global views, too; the paper's comparison says CLIP, as here.
    """

    text: TextConfig = field(default_factory=TextConfig)
    embed: int = 512
    """Width of the embedding in which images and texts are compared."""
    scale: float = 1 / 0.07
    """What similarities of images and texts are multiplied by before the softmax, at first; it is learned."""
    ssl_weight: float = 1.0
    """Weight of DINO's loss beside CLIP's."""

    @property
    def clip(self) -> CLIP:
        return CLIP(self.backbone, self.text, self.embed, self.scale)

    @property
    def dino(self) -> DINO:
        return DINO(*(getattr(self, f.name) for f in fields(Distillation)))

    def problems(self) -> list[str]:
        found = self.clip.problems() + [p for p in super().problems() if not p.startswith("backbone.")]
        return found + ([] if self.ssl_weight >= 0 else [f"ssl_weight must be at least 0, not {self.ssl_weight}"])

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[SiLCModel, DINOCarry]:
        kc, kd = jax.random.split(key)
        clip, _ = self.clip.init(kc)
        dino, carry = self.dino.init(kd)
        return SiLCModel(clip, dino.head, dino.prototypes), carry

    def loss(
        self,
        model: SiLCModel,
        target: SiLCModel,
        carry: DINOCarry,
        batch: PairsAndImages,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """CLIP's loss on the pairs + ssl_weight * DINO's on the images."""
        kc, kd = jax.random.split(key)
        clip_loss, aux = self.clip.loss(model.clip, target.clip, (), batch.pairs, kc, axis=axis)
        ssl_loss, ssl = self.dino.loss(model.dino, target.dino, carry, batch.images, kd, axis=axis)
        metrics = aux.metrics | {k.replace("reward/", "ssl/"): v for k, v in ssl.metrics.items()}
        return clip_loss + self.ssl_weight * ssl_loss, Aux(metrics, ssl.carry)
