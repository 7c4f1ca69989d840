"""The part of a method, its model and its carry that says how well an annotation fits a view."""

from typing import Any, NamedTuple

from abx.methods.ab import AB
from abx.methods.base import Method, Reward
from abx.methods.clip_aug import CLIPAug
from abx.methods.silc import SiLC
from abx.methods.slip import SLIP


class Rewarding(NamedTuple):
    method: Reward
    model: Any
    carry: Any


def reward_of(method: Method) -> Reward | None:
    """Of AB its base, of SLIP, SiLC and CLIP+Aug their CLIP, else the method itself; None where there is no reward
    (MAE, I-JEPA)."""
    if isinstance(method, AB):
        base: Reward = method.base
        return base
    if isinstance(method, SLIP | SiLC | CLIPAug):
        return method.clip
    return method if isinstance(method, Reward) else None


def rewarding(method: Method, model: Any, carry: Any) -> Rewarding:
    """Raises: ValueError for a method without rewards."""
    found = reward_of(method)
    if found is None:
        raise ValueError(f"{type(method).__name__} has no rewards")
    if isinstance(method, AB):
        return Rewarding(found, model.base, carry.base)
    if isinstance(method, SLIP | SiLC):
        return Rewarding(found, model.clip, ())
    return Rewarding(found, model, carry)
