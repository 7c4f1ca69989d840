"""The numbers of the value explorer: from every box of one grid to every box of another, on one picture."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from abx import boxes
from abx.data.images import Picture
from abx.methods.ab import AB, ABCarry, ABModel

SOURCE_AREAS, TARGET_AREAS = (0.12, 0.25, 0.5), (0.06, 0.12, 0.25, 0.5)
"""Shares of the picture's area, within those of the crops that the paper trains on (0.05 to 0.5)."""


class BoxGrid(NamedTuple):
    """Boxes of a few areas, each at places x places positions; flattened, the position varies fastest along x."""

    boxes: Float[np.ndarray, "s p p 4"]
    areas: tuple[float, ...]
    """Shares of the picture's area, to the nearest pixels; a box is square in pixels where one of its area fits."""

    @property
    def flat(self) -> Float[np.ndarray, "g 4"]:
        return self.boxes.reshape(-1, 4)


class ValueGrid(NamedTuple):
    """What a network says of a picture, for l annotations."""

    logits: Float[np.ndarray, "s g l"]
    """Of the value of moving from each source box to each target box: Q = sigmoid(logit), equation 4."""
    here: Float[np.ndarray, "s l"]
    """p(l | x): the reward in each source box."""
    there: Float[np.ndarray, "g l"]
    """p(l | x): the reward in each target box, which the value has to foretell without seeing it."""


def pixel_grid(hw: tuple[int, int], areas: Sequence[float], places: int) -> BoxGrid:
    """Boxes whose edges lie on those of pixels, so that what is seen is exactly the box.

    Args:
        hw: height and width of the picture in pixels.
        areas: shares of its area, each in (0, 1].
        places: positions along each side, evenly spaced from edge to edge; 1 = the middle alone.
    """
    height, width = hw
    found = []
    for area in areas:
        side = math.sqrt(area * height * width)
        h = min(max(round(min(side, height) * max(1.0, side / width)), 1), height)
        w = min(max(round(min(side, width) * max(1.0, side / height)), 1), width)
        tops, lefts = (_corners(room, places) for room in (height - h, width - w))
        found.append([[(y / height, x / width, (y + h) / height, (x + w) / width) for x in lefts] for y in tops])
    return BoxGrid(np.array(found, np.float32), tuple(areas))


def both_grids(hw: tuple[int, int], places: tuple[int, int]) -> tuple[BoxGrid, BoxGrid]:
    """Of source and of target boxes, with so many places along each side."""
    return pixel_grid(hw, SOURCE_AREAS, places[0]), pixel_grid(hw, TARGET_AREAS, places[1])


def _corners(room: int, places: int) -> list[float]:
    return [float(np.rint(room / 2))] if places == 1 else np.rint(np.linspace(0, room, places)).tolist()


def value_grid(
    method: AB[Any],
    model: ABModel,
    carry: ABCarry,
    picture: UInt8[np.ndarray, "h w 3"],
    sources: Float[np.ndarray, "s 4"],
    targets: Float[np.ndarray, "g 4"],
    annotated: Any,
    chosen: Int[np.ndarray, " l"],
    *,
    size: int,
) -> ValueGrid:
    """Values and rewards of the annotations `chosen` among those that the reward batch `annotated` holds.

    Args:
        annotated: as the base takes it. Where the base's reward is a softmax, p(l | x) is shared out over all of its
            annotations, not the chosen alone.
        size: side of a view in pixels, as the network was trained on.

    `model` answers for itself, rewards included (give the target network to see what targets are made of).
    """
    look = Picture(picture)
    encoded, psi = _annotations(method, model, annotated)
    psi = psi[chosen]
    tokens = _tokens(model, look.crops(sources, size))
    logits = _logits(method, model, tokens, _actions(sources, targets), psi)
    seen = _tokens(model, look.crops(targets, size))
    here, there = (_rewards(method, model, carry, x, encoded)[:, chosen] for x in (tokens, seen))
    return ValueGrid(np.asarray(logits), np.asarray(here), np.asarray(there))


def most_valued(
    method: AB[Any],
    model: ABModel,
    picture: UInt8[np.ndarray, "h w 3"],
    sources: Float[np.ndarray, "s 4"],
    targets: Float[np.ndarray, "g 4"],
    annotated: Any,
    count: int,
    *,
    size: int,
) -> Int[np.ndarray, " l"]:
    """The `count` annotations whose value is highest somewhere, the best first."""
    _, psi = _annotations(method, model, annotated)
    tokens = _tokens(model, Picture(picture).crops(sources, size))
    highest = np.asarray(_highest(method, model, tokens, _actions(sources, targets), psi))
    return np.argsort(-highest, kind="stable")[:count]


def rewards(
    method: AB[Any], model: ABModel, carry: ABCarry, views: UInt8[np.ndarray, "v h w 3"], annotated: Any
) -> Float[np.ndarray, "v l"]:
    """p(l | x) of views for all annotations of a reward batch."""
    encoded, _ = _annotations(method, model, annotated)
    return np.asarray(_rewards(method, model, carry, _tokens(model, views), encoded))


def _actions(sources: Float[np.ndarray, "s 4"], targets: Float[np.ndarray, "g 4"]) -> Float[np.ndarray, "s g 4"]:
    """Each target in the frame of each source."""
    shape = (len(sources), len(targets), 4)
    pair = np.stack([np.broadcast_to(sources[:, None], shape), np.broadcast_to(targets, shape)], 2)
    return np.asarray(boxes.relative_boxes(pair))[:, :, 0, 1]


@partial(jax.jit, static_argnums=0)
def _annotations(method: AB[Any], model: ABModel, annotated: Any) -> tuple[Any, Float[Array, "l e"]]:
    """As they are shown, not augmented."""
    encoded = method.base.encode_target(model.base, method.base.prepare(annotated, None))
    return encoded, method.base.annotations(model.value.annotation_head, encoded)


@jax.jit
def _tokens(model: ABModel, views: UInt8[np.ndarray | Array, "v h w 3"]) -> Float[Array, "v t d"]:
    """One view at a time: there may be hundreds, of the paper's size."""
    return jax.lax.map(model.backbone, jnp.asarray(views), batch_size=16)


@partial(jax.jit, static_argnums=0)
def _rewards(
    method: AB[Any], model: ABModel, carry: ABCarry, tokens: Float[Array, "v t d"], encoded: Any
) -> Float[Array, "v l"]:
    return method.base.reward(model.base, carry.base, tokens, encoded)


@partial(jax.jit, static_argnums=0)
def _logits(
    method: AB[Any], model: ABModel, tokens: Float[Array, "s t d"], actions: Array, psi: Float[Array, "l e"]
) -> Float[Array, "s g l"]:
    """One source at a time, as for `_tokens`."""
    each = (tokens, jnp.asarray(actions))
    return jax.lax.map(lambda source: logits_from(method, model, source[0], source[1], psi), each)


@partial(jax.jit, static_argnums=0)
def _highest(
    method: AB[Any], model: ABModel, tokens: Float[Array, "s t d"], actions: Array, psi: Float[Array, "l e"]
) -> Float[Array, " l"]:
    """Over all moves, never holding the values of all."""

    def higher(so_far: Array, source: tuple[Array, Array]) -> tuple[Array, None]:
        return jnp.maximum(so_far, logits_from(method, model, source[0], source[1], psi).max(0)), None

    return jax.lax.scan(higher, jnp.full(len(psi), -jnp.inf), (tokens, jnp.asarray(actions)))[0]


def logits_from(
    method: AB[Any],
    model: ABModel,
    tokens: Float[Array, "t d"],
    actions: Float[Array, "g 4"],
    psi: Float[Array, "l e"],
) -> Float[Array, "g l"]:
    """Value logits of every action that leaves one view."""
    if not method.actions:
        actions = 0 * actions + jnp.array([0.0, 0.0, 1.0, 1.0])  # the only one that it has been trained on
    phi = model.value.phi(tokens[None, None], actions[None, None])
    return model.value.logits(phi, psi)[0, 0]
