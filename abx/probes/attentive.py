"""The attentive probe, also MAP: one learned query reads the tokens, a linear layer tells the class (METHODS §5.1)."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from abx.nn import AttentionPool
from abx.nn.layers import Dtype, Linear, compute_dtype
from abx.optim import AdamW
from abx.probes.batches import Labelled
from abx.probes.standard import Standard
from abx.types import AnyArray, Aux, Axis

OPTIM = AdamW(lr=1e-3, warmup=0.1, weight_decay=1e-4, weight_decay_end=1e-4)
"""METHODS §5.1: for batches of 1,024 and 30 epochs."""


class AttentiveModel(eqx.Module):
    standard: Standard
    pool: AttentionPool
    linear: Linear
    dtype: Dtype = eqx.field(static=True)

    def __call__(self, tokens: Float[AnyArray, "t d"]) -> Float[Array, " c"]:
        """Logits of one picture's classes, in float32."""
        x = self.standard(tokens).astype(compute_dtype(self.dtype))
        return self.linear(self.pool(x).astype(jnp.float32))


@dataclass(frozen=True)
class AttentiveProbe:
    """Multi-head attention pooling and a linear layer over the tokens of a frozen backbone."""

    classes: int = 1000
    """Number of classes."""
    heads: int = 0
    """Attention heads, which must divide the tokens' width; 0 = one for every 64 of it."""
    mlp: int = 0
    """Hidden width of the MLP after the pooling; 0 = four times the tokens' width."""
    dtype: Dtype = "auto"
    """Dtype of the activations; auto is bfloat16 on an accelerator, float32 on a CPU."""

    def problems(self) -> list[str]:
        found = []
        if self.classes < 2:
            found.append(f"classes must be at least 2, not {self.classes}")
        for name in ("heads", "mlp"):
            if getattr(self, name) < 0:
                found.append(f"{name} must be at least 0, not {getattr(self, name)}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[AttentiveModel, Any]:
        """`batch`: `Labelled` tokens, of as many pictures as one can afford: tokens are standardised by these.

        Raises: ValueError when the heads do not divide the tokens' width.
        """
        kp, kl = jax.random.split(key)
        d = batch.features.shape[-1]
        heads = self.heads or next(h for h in range(max(1, d // 64), 0, -1) if d % h == 0)
        if d % heads:
            raise ValueError(f"heads must divide the tokens' width, {d}, which {heads} does not")
        pool = AttentionPool(d, heads, self.mlp or 4 * d, key=kp)
        return AttentiveModel(Standard(batch.features), pool, Linear(d, self.classes, key=kl), self.dtype), ()

    def loss(
        self,
        model: AttentiveModel,
        target: AttentiveModel,
        carry: Any,
        batch: Labelled,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        logits, labels = jax.vmap(model)(batch.features), jnp.asarray(batch.labels, jnp.int32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        right = (logits.argmax(-1) == labels).mean(dtype=jnp.float32)
        return loss, Aux({"probe/loss": loss, "probe/top1": right}, carry)
