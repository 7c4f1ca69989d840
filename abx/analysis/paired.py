"""Does the value head know which annotation is a picture's own? (paper, Figure 8 right)

Each of N held-out images has an annotation; N-way, which is the one of this image? Asked are the reward of its centre,
the values of moving from there, and the rewards of several crops together, which the values distil.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from abx import boxes
from abx.analysis.rewards import rewarding
from abx.data.views import Crops, RandomCrops
from abx.methods.ab import AB
from abx.methods.base import Method
from abx.methods.batches import tokens_of
from abx.types import Views

TOGETHER = 32
"""Images that are looked at in one call."""


class Paired(NamedTuple):
    """Images and what each is annotated with."""

    centre: Views
    """One view of each image: its central square."""
    moves: Views
    """Where one may go: crops of the same image."""
    annotated: Any
    """The views of a reward batch of these images, in this order."""


@dataclass(frozen=True)
class PairedCrops:
    """`Paired`, as `Crops` that a loader cuts."""

    moves: RandomCrops
    annotated: Crops
    """How the base's images are cut."""

    def kinds(self) -> dict[str, RandomCrops]:
        own = {f".annotated{name}": kind for name, kind in self.annotated.kinds().items()}
        return {".centre": RandomCrops(1, self.moves.size), ".moves": self.moves, **own}

    def place(self, hw: tuple[int, int], rng: np.random.Generator) -> list[Float[np.ndarray, "_ 4"]]:
        return [central(hw)[None], *self.moves.place(hw, rng), *self.annotated.place(hw, rng)]

    def join(self, views: Sequence[Views]) -> Paired:
        return Paired(views[0], views[1], self.annotated.join(views[2:]))

    def problems(self, name: str) -> list[str]:
        return self.moves.problems(f"{name}.moves") + self.annotated.problems(f"{name}.annotated")


def central(hw: tuple[int, int]) -> Float[np.ndarray, "4"]:
    """The box of the largest central square of an image of `hw` pixels; its edges lie on pixel boundaries."""
    height, width = hw
    side = min(hw)
    y, x = (height - side) // 2, (width - side) // 2
    return np.array([y / height, x / width, (y + side) / height, (x + side) / width], np.float32)


def paired_accuracy(method: Method, model: Any, carry: Any, paired: Paired, annotated: Any) -> dict[str, float]:
    """Shares of the N images whose own annotation gets the highest score, among those of all.

    The paper does not say which action the value is of: here the best of staying and all `moves` (our choice).

    Args:
        annotated: the reward batch of the same images, not augmented.

    Returns:
        `chance`, 1 / N; `reward` of the centre; `multi_crop` of the mean reward of the moves' views, and
        `multi_crop_best` of the highest; of AB also `value` (best move), `value_staying` (the action (0, 0, 1, 1)
        alone) and the baselines: `rotated` (with the moves of the next image: where values care for boxes as such and
        not for which ones, the same) and `shrunk_copy` (rewards of the centre mixed with their mean over images, by the
        best share of all tenths). Copying is what `reward` does.

    Raises: ValueError for a method without rewards.
    """
    count, parts = len(paired.centre.images), []
    asked = _encode(method, model, carry, annotated)
    turned = np.roll(np.asarray(paired.moves.boxes), 1, axis=0)
    for start in range(0, count, TOGETHER):
        some = jax.tree.map(lambda x, start=start: x[start : start + TOGETHER], (paired.centre, paired.moves, turned))
        parts.append(jax.device_get(_scores(method, model, carry, asked, *some)))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    own = np.arange(count)
    right = lambda score: float((score.argmax(1) == own).mean())
    found = {"chance": 1 / count} | {name: right(score) for name, score in scores.items()}
    if isinstance(method, AB):
        reward = scores["reward"]
        mixed = [share * reward + (1 - share) * reward.mean(0) for share in np.linspace(0, 1, 11)]
        found["shrunk_copy"] = max(map(right, mixed))
    return found


class _Asked(NamedTuple):
    encoded: Any
    """What rewards are of."""
    psi: Float[Array, "l e"] | None
    """What values are of."""


@partial(jax.jit, static_argnums=0)
def _encode(method: Method, model: Any, carry: Any, annotated: Any) -> _Asked:
    base = rewarding(method, model, carry)
    encoded = base.method.encode_target(base.model, base.method.prepare(annotated, None))
    if not isinstance(method, AB):
        return _Asked(encoded, None)
    return _Asked(encoded, base.method.annotations(model.value.annotation_head, encoded))


@partial(jax.jit, static_argnums=0)
def _scores(
    method: Method, model: Any, carry: Any, asked: _Asked, centre: Views, moves: Views, turned: Float[Array, "b m 4"]
) -> dict[str, Float[Array, "b l"]]:
    """How well each annotation fits each image, by what is asked."""
    base = rewarding(method, model, carry)
    tokens = tokens_of(model.backbone, centre.images)  # b 1 t d
    several = base.method.reward(base.model, base.carry, tokens_of(model.backbone, moves.images), asked.encoded)
    found = {
        "reward": base.method.reward(base.model, base.carry, tokens, asked.encoded)[:, 0],
        "multi_crop": several.mean(1),
        "multi_crop_best": several.max(1),
    }
    if isinstance(method, AB):
        here = jnp.asarray(centre.boxes)
        actions = jnp.concatenate(
            [_actions(here, to) for to in (here, jnp.asarray(moves.boxes), turned)], 1
        )  # b 1+2m 4
        if not method.actions:
            actions = 0 * actions + jnp.array([0.0, 0.0, 1.0, 1.0])
        q = model.value.logits(model.value.phi(tokens, actions[:, None]), asked.psi)[:, 0]
        m = turned.shape[1]
        found |= {
            "value": q[:, : 1 + m].max(1),
            "value_staying": q[:, 0],
            "rotated": jnp.maximum(q[:, 0], q[:, 1 + m :].max(1)),
        }
    return found


def _actions(here: Float[Array, "b 1 4"], to: Float[Array, "b m 4"]) -> Float[Array, "b m 4"]:
    """Boxes in the frame of another one."""
    both = jnp.stack([jnp.broadcast_to(here, to.shape), to], 2)  # b m 2 4
    return jnp.asarray(boxes.relative_boxes(both))[:, :, 0, 1]
