"""SigLIP (Zhai et al. 2023): each pair of image and text is judged alone. A Reward: texts are the annotations."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from abx import losses
from abx.methods.clip import CLIP, CLIPEncoded, CLIPModel, retrieval
from abx.types import Aux, Axis


class SigLIPModel(CLIPModel):
    bias: Float[Array, ""]


@dataclass(frozen=True)
class SigLIP(CLIP):
    """CLIP's towers and heads under a sigmoid: logits scale * cos(x, l) + bias, of which the pairs alone are true."""

    scale: float = 10.0
    bias: float = -10.0
    """Initial bias, SigLIP's for large batches. About minus the logarithm of the batch suits small ones."""

    def problems(self) -> list[str]:
        wrong = [] if math.isfinite(self.bias) else [f"bias must be a finite number, not {self.bias}"]
        return super().problems() + wrong

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[SigLIPModel, Any]:
        m, carry = super().init(key, batch)
        return SigLIPModel(m.backbone, m.head, m.text, m.text_head, m.scale, jnp.float32(self.bias)), carry

    def reward_loss(  # type: ignore[override]  # its model has a bias, too
        self, model: SigLIPModel, encoded: CLIPEncoded, target_encoded: Any, carry: Any, *, axis: Axis = None
    ) -> tuple[Float[Array, ""], Aux]:
        assert encoded.features is not None
        image, text = model.head(encoded.features), model.text_head(encoded.annotations)
        loss = losses.siglip_loss(image, text, model.scale(), model.bias, axis=axis)
        metrics = retrieval(loss, image, text, axis)
        # Guessing: each of the l pairs of an image is the true one with probability 1 / l.
        l = jnp.exp(metrics["reward/chance"])
        metrics["reward/chance"] = jnp.log(l) - (l - 1) * jnp.log1p(-1 / l)
        return loss, Aux(metrics | {"reward/scale": model.scale(), "reward/bias": model.bias}, carry)

    def reward(  # type: ignore[override]
        self,
        target: SigLIPModel,
        carry: Any,
        tokens: Float[Array, "*b t d"],
        target_encoded: CLIPEncoded,
        *,
        axis: Axis = None,
    ) -> Float[Array, "*b l"]:
        """p(l | x) = sigmoid((scale * cos(x, l) + bias) / reward_temperature), each by itself: they do not sum to 1."""
        logits = self.scores(target, tokens, target_encoded, axis) + target.bias
        return jax.nn.sigmoid(logits / self.reward_temperature)
