"""Do two losses pull the backbone the same way? Cosine of their gradients over its weights (paper, Figure 8 left)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from abx.methods.ab import AB
from abx.methods.base import Method
from abx.methods.silc import SiLC
from abx.methods.slip import SLIP


class Alignment(NamedTuple):
    """Of two gradients."""

    cosine: Float[Array, ""]
    """NaN where one of them is zero."""
    first: Float[Array, ""]
    second: Float[Array, ""]
    """Their norms."""


def alignment(losses: Callable[[Any], tuple[Array, Array]], at: Any) -> Alignment:
    """Of the gradients of two scalars that are computed together from the arrays `at`, which is taken as one vector."""
    _, pull = jax.vjp(losses, at)
    one, zero = jnp.float32(1), jnp.float32(0)
    first, second = (jax.tree.leaves(pull(weights)[0]) for weights in ((one, zero), (zero, one)))
    norms = jnp.sqrt(_dot(first, first)), jnp.sqrt(_dot(second, second))
    return Alignment(_dot(first, second) / (norms[0] * norms[1]), *norms)


def two_losses(method: Method) -> tuple[str, str] | None:
    """What the two losses of a method are called, that of annotations and the other; None where it has but one."""
    if isinstance(method, AB):
        return type(method.base).__name__, "value"
    return {SLIP: ("CLIP", "SimCLR"), SiLC: ("CLIP", "DINO")}.get(type(method))


@partial(jax.jit, static_argnums=0)
def loss_alignment(method: Method, model: Any, target: Any, carry: Any, batch: Any, key: Array) -> Alignment:
    """Of the gradients of a method's two losses (see `two_losses`) on its backbone; heads are left out.

    Args:
        batch: as in training. Its two parts should be of the same images and equally many (METHODS §5.5): noise of a
            batch pulls cosines to 0, more so the smaller it is. Each loss has its own augmentation.

    Raises: ValueError for a method with one loss.
    """

    def both(backbone: Any) -> tuple[Array, Array]:
        if isinstance(method, AB):
            whole = eqx.tree_at(lambda m: m.base.backbone, model, backbone)
            p = method.predict(whole, target, carry, batch, key)
            return p.reward_loss, method.value_loss(whole, p, method.value_target(target, p, carry.step))
        whole, (kc, ks) = eqx.tree_at(lambda m: m.clip.backbone, model, backbone), jax.random.split(key)
        if isinstance(method, SLIP):
            ssl, _ = method.simclr.loss(whole.simclr, target.simclr, (), batch.images, ks)
        elif isinstance(method, SiLC):
            ssl, _ = method.dino.loss(whole.dino, target.dino, carry, batch.images, ks)
        else:
            raise ValueError(f"{type(method).__name__} has one loss: there is nothing to align")
        return method.clip.loss(whole.clip, target.clip, (), batch.pairs, kc)[0], ssl

    return alignment(both, model.backbone)


def _dot(a: list[Array], b: list[Array]) -> Float[Array, ""]:
    products = [jnp.vdot(x.astype(jnp.float32), y.astype(jnp.float32)) for x, y in zip(a, b, strict=True)]
    return jnp.stack(products).sum()
