"""Self-distillation (DINO, Caron et al. 2021): the student says of one view what the teacher says of another."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from abx import parallel
from abx.types import AnyArray, Axis


def dino_loss(
    student: Float[AnyArray, "v b k"],
    teacher: Float[AnyArray, "g b k"],
    center: Float[AnyArray, " k"],
    student_temperature: float | int | Float[Array, ""] = 0.1,
    teacher_temperature: float | int | Float[Array, ""] = 0.04,
) -> Float[Array, ""]:
    """Cross-entropy of the student's prototypes to the teacher's, over pairs of two different views of an image.

    The mean is over images and pairs; 18 pairs for 2 global views and 8 local ones. No gradient reaches the teacher or
    the center.

    Args:
        student: logits over k prototypes; the first g of the v views are the teacher's views, in its order.
        teacher: logits of the target network for the g global views.
        center: running mean of the teacher's logits (`update_center`), taken off before its softmax.
        student_temperature, teacher_temperature: logits are divided by them; the lower, the sharper.

    Returns: a scalar; at least the teacher's mean entropy, ln k when all logits are equal.

    Raises: ValueError where there is no pair of different views (v = g = 1).
    """
    views, same = len(student), min(len(student), len(teacher))
    pairs = len(teacher) * views - same
    if not pairs:
        raise ValueError("dino_loss needs two different views of an image: the student's only view is the teacher's")
    centered = jnp.asarray(teacher).astype(jnp.float32) - jnp.asarray(center).astype(jnp.float32)
    wanted = jax.lax.stop_gradient(jax.nn.softmax(centered / teacher_temperature))
    log_p = jax.nn.log_softmax(jnp.asarray(student).astype(jnp.float32) / student_temperature)
    # Linear in the teacher: its views are added up first, and nothing of size g v b k is ever held.
    per_image = (wanted[:same] * log_p[:same]).sum((0, 2)) - (wanted.sum(0) * log_p).sum((0, 2))
    return per_image.mean() / pairs


def update_center(
    center: Float[AnyArray, " k"],
    teacher: Float[AnyArray, "g b k"],
    momentum: float | int | Float[Array, ""] = 0.9,
    *,
    axis: Axis = None,
) -> Float[Array, " k"]:
    """The center after this batch: momentum center + (1 - momentum) mean of the teacher's logits; stops the gradient.

    It is a carry, not a parameter: it starts at zero and is the same on all devices.

    Args:
        teacher: logits of the target network for the g global views, as `dino_loss` takes them.
        axis: mesh axis over which the batch is split.
    """
    mean = parallel.mean(jnp.asarray(teacher).astype(jnp.float32).mean((0, 1)), axis)
    return jax.lax.stop_gradient(momentum * jnp.asarray(center).astype(jnp.float32) + (1 - momentum) * mean)
