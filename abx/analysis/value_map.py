"""The value of moving from one view of a picture to every box of a grid, for a few annotations."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from abx import boxes
from abx.analysis.value_grid import logits_from
from abx.methods.ab import AB, ABCarry, ABModel


class ValueMap(NamedTuple):
    """What `pictures.draw_value_map` draws."""

    boxes: Float[np.ndarray, "g 4"]
    """Target boxes in the picture's frame."""
    values: Float[np.ndarray, "l g"]
    """Q(x, a, l): value of moving to each, for each chosen annotation."""
    rewards: Float[np.ndarray, " l"]
    """p(l | x): the reward of staying."""
    chosen: Int[np.ndarray, " l"]
    """Which annotations of the batch these are."""


def box_grid(sides: tuple[float, ...] = (0.35, 0.55), places: int = 7) -> Float[np.ndarray, "g 4"]:
    """Square boxes of a few sizes at places x places positions each, inside the picture."""
    found = []
    for side in sides:
        corners = np.linspace(0, 1 - side, places)
        found += [(y, x, y + side, x + side) for y in corners for x in corners]
    return np.array(found, np.float32)


def value_map(
    method: AB[Any],
    model: ABModel,
    carry: ABCarry,
    view: UInt8[np.ndarray, "h w 3"],
    source: Float[np.ndarray, "4"],
    annotated: Any,
    *,
    targets: Float[np.ndarray, "g 4"] | None = None,
    count: int = 4,
) -> ValueMap:
    """Look around from `view`, which was cut at `source`, and ask for every target box what each annotation is worth.

    Chosen are the annotations whose best value is highest, at most `count`, of those that the reward batch
    `annotated` holds; `model` answers for itself (give the target network to see what targets are made of).
    """
    where = box_grid() if targets is None else targets
    pair = np.stack([np.broadcast_to(source, where.shape), where], 1)
    actions = boxes.relative_boxes(pair)[:, 0, 1]
    values, rewards = _values(method, model, carry, view, actions, annotated)
    values, rewards = np.asarray(values), np.asarray(rewards)
    chosen = np.argsort(-values.max(1), kind="stable")[:count]
    return ValueMap(where, values[chosen], rewards[chosen], chosen)


@partial(jax.jit, static_argnums=0)
def _values(
    method: AB[Any], model: ABModel, carry: ABCarry, view: Array, actions: Array, annotated: Any
) -> tuple[Float[Array, "l g"], Float[Array, " l"]]:
    base = method.base
    encoded = base.encode_target(model.base, base.prepare(annotated, None))  # not augmented, as they are shown
    tokens = model.backbone(view)
    psi = base.annotations(model.value.annotation_head, encoded)
    values = jax.nn.sigmoid(logits_from(method, model, tokens, actions, psi)).T
    return values, base.reward(model.base, carry.base, tokens[None], encoded)[0]
