"""SLIP (Mu et al. 2022): CLIP's loss and SimCLR's on one backbone."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from abx.augment import Photometric
from abx.methods.clip import CLIP, CLIPModel
from abx.methods.simclr import SimCLR, SimCLRModel
from abx.nn import Projector, TextConfig, ViT, ViTConfig
from abx.types import Aux, Axis, PairsAndImages


class SLIPModel(eqx.Module):
    clip: CLIPModel
    head: Projector

    @property
    def backbone(self) -> ViT:
        return self.clip.backbone

    @property
    def simclr(self) -> SimCLRModel:
        return SimCLRModel(self.backbone, self.head)


@dataclass(frozen=True)
class SLIP:
    """CLIP on pairs of image and text, SimCLR on two augmented views of other images."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed: int = 512
    """Width of the embedding in which images and texts are compared."""
    scale: float = 1 / 0.07
    """What similarities of images and texts are multiplied by before the softmax, at first; it is learned."""
    ssl_weight: float = 1.0
    """Weight of SimCLR's loss beside CLIP's."""
    ssl_hidden: int = 4096
    """Hidden width of SimCLR's projection head."""
    ssl_embed: int = 256
    """Width of the embedding in which views are compared."""
    temperature: float = 0.1
    """What similarities of views are divided by before the softmax."""
    photometric: Photometric = field(default_factory=Photometric)
    """Augmentation of the two views. CLIP's have none."""

    @property
    def clip(self) -> CLIP:
        return CLIP(self.backbone, self.text, self.embed, self.scale)

    @property
    def simclr(self) -> SimCLR:
        return SimCLR(self.backbone, self.ssl_hidden, self.ssl_embed, self.temperature, self.photometric)

    def problems(self) -> list[str]:
        found = self.clip.problems() + self.photometric.problems()
        for name in ("ssl_hidden", "ssl_embed"):
            if getattr(self, name) < 1:
                found.append(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.temperature > 0:
            found.append(f"temperature must be above 0, not {self.temperature}")
        if not self.ssl_weight >= 0:
            found.append(f"ssl_weight must be at least 0, not {self.ssl_weight}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[SLIPModel, Any]:
        kc, kh = jax.random.split(key)
        clip, _ = self.clip.init(kc)
        return SLIPModel(clip, self.simclr.annotation_head(self.ssl_embed, kh)), ()

    def loss(
        self,
        model: SLIPModel,
        target: SLIPModel,
        carry: Any,
        batch: PairsAndImages,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """CLIP's loss on the pairs + ssl_weight * SimCLR's on the images."""
        kc, ks = jax.random.split(key)
        clip_loss, aux = self.clip.loss(model.clip, target.clip, (), batch.pairs, kc, axis=axis)
        ssl_loss, ssl = self.simclr.loss(model.simclr, target.simclr, (), batch.images, ks, axis=axis)
        metrics = aux.metrics | {k.replace("reward/", "ssl/"): v for k, v in ssl.metrics.items()}
        return clip_loss + self.ssl_weight * ssl_loss, Aux(metrics, ())
