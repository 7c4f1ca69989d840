"""CLIP+Aug (after Fini et al. 2023, "Improved baselines for vision-language pre-training"): CLIP on augmented views.

Of their recipe this has: a weak and two strongly augmented views of each image, each against the text; label smoothing
on the strong ones; the mean of the three losses. It has not: augmented texts and text dropout, projectors of their own
(3-layer MLPs) and a scale of their own for strong views. The paper says neither how much of it its row "CLIP + Aug" has
nor with which numbers (METHODS §1.9): this is the smallest reading.
"""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx import losses
from abx.augment import Photometric
from abx.methods.batches import features, text_features
from abx.methods.clip import CLIP, CLIPModel, retrieval
from abx.nn import TextConfig, ViTConfig
from abx.types import Aux, Axis, Pairs


@dataclass(frozen=True)
class CLIPAug:
    """One weak and several strong views of each image, all against one text."""

    backbone: ViTConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed: int = 512
    """Width of the embedding in which images and texts are compared."""
    scale: float = 1 / 0.07
    """What cosine similarities are multiplied by before the softmax, at first; it is learned."""
    smoothing: float = 0.1
    """Label smoothing of the strong views' losses: the share of the label that all others have together."""
    photometric: Photometric = field(default_factory=Photometric)
    """Augmentation of the strong views. The weak one has none."""

    @property
    def clip(self) -> CLIP:
        return CLIP(self.backbone, self.text, self.embed, self.scale)

    def problems(self) -> list[str]:
        found = self.clip.problems() + self.photometric.problems()
        return found + ([] if 0 <= self.smoothing < 1 else [f"smoothing must be in [0, 1), not {self.smoothing}"])

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[CLIPModel, Any]:
        return self.clip.init(key)

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
        """`batch`: both kinds of views (`WeakStrong`) and a text of each image. CLIP's loss, averaged over views."""
        text = model.text_head(text_features(model.text, batch.text))
        weak = model.head(features(model.backbone, batch.views.weak.images[:, 0]))
        images, _ = self.photometric.batch(batch.views.strong.images, key, axis=axis)
        strong = jnp.moveaxis(model.head(features(model.backbone, images)), 1, 0)  # v b e
        weak_loss = losses.clip_loss(weak, text, model.scale(), axis=axis)
        strong_losses = jnp.stack(
            [losses.clip_loss(view, text, model.scale(), smoothing=self.smoothing, axis=axis) for view in strong]
        )
        loss = jnp.append(strong_losses, weak_loss).mean()
        learned = {"reward/strong_loss": strong_losses.mean(), "reward/scale": model.scale()}
        return loss, Aux(retrieval(weak_loss, weak, text, axis) | learned, carry)
