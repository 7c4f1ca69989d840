"""What a file of weights offers a network: whose names it has, the backbone's sizes, and the parts beside it."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from abx.checksum import by_path
from abx.data.sources import SpecError, printable
from abx.experiment.saved import from_json
from abx.experiment.weights import File, open_file
from abx.nn import ViT, ViTConfig, timm
from abx.nn.foreign import big_vision, dino, fitting
from abx.nn.foreign.stored import Named, Stored, Unfit

Pixels = Literal["auto", "half", "imagenet"]


class Offer(NamedTuple):
    path: Path
    named: Named
    config: ViTConfig
    """The backbone's sizes."""
    told: bool
    """By a header of ours, so that nothing of it is a guess."""

    def pixels(self, given: Pixels) -> Pixels:
        """How it wants pictures; auto = the file does not tell."""
        known: dict[str, Pixels] = {"big_vision": "half", "DINOv2": "imagenet"}
        return given if given != "auto" else "half" if self.told else known.get(self.named.family, "auto")

    def backbone(self, want: ViTConfig, pixels: Pixels) -> ViT:
        """Read, as a ViT of the wanted sizes; an attention pool that the file has not is zeros.

        Raises: SpecError.
        """
        try:
            return fitting.build(fitting.fitted(self.named.arrays, self.config, want, self.pixels(pixels)), want)
        except Unfit as wrong:
            raise SpecError(f"{self.path}: {wrong}") from wrong


def offer(path: Path, like: ViTConfig = ViTConfig(), heads: int = 0) -> Offer:
    """Reads headers alone and touches no device. `like` and `heads`: for what a file does not tell (see
    `fitting.sizes_of`).

    Raises: SpecError, one sentence that begins with the path.
    """
    file = open_file(path)
    try:
        return _ours(path, file) if file.header else _theirs(path, file, like, heads)
    except Unfit as wrong:
        raise SpecError(f"{path}: {wrong}") from wrong


def problems_of_pixels(found: Offer, pixels: Pixels) -> list[str]:
    """Where neither the file nor the flag says how pictures are to be shown."""
    if found.pixels(pixels) != "auto":
        return []
    return [
        f"--init-pixels must be given for --init {found.path}, as files with {found.named.family} names do not tell: "
        "imagenet for DINO, MAE and most of timm, half for what was trained on pictures in [-1, 1], as AugReg"
    ]


def problems_of_heads(found: Offer, heads: int) -> list[str]:
    """Where neither the file nor the flag says how many attention heads there are, and its width is no usual one; or
    where both say it."""
    width, known = found.config.width, found.config.heads if found.told else found.named.heads
    if heads < 0:
        return [f"--init-heads must be at least 0, not {heads}"]
    if heads and known and heads != known:
        return [f"--init-heads must be 0 or {known}, as --init {found.path} has them, not {heads}"]
    if heads and width % heads:
        return [f"--init-heads must divide the width of --init {found.path}, {width}, not be {heads}"]
    if not (heads or known or width in fitting.HEADS):
        return [
            f"--init-heads must be given for --init {found.path}, whose names do not tell: "
            f"{width} is the width of no usual ViT"
        ]
    return []


def short(name: str) -> str:
    """A part's name in a model, whether annotation bootstrapping or SLIP is around it or not."""
    return re.sub(r"^(base\.)?(clip\.(?=backbone\.|text))?", "", name)


def _theirs(path: Path, file: File, like: ViTConfig, heads: int) -> Offer:
    for family in (dino, big_vision):
        if family.recognised(file.arrays):
            named = family.named(file.arrays)
            gelu: Any = "tanh" if named.family == "big_vision" else "exact"
            known = ViTConfig(size=like.size, gelu=gelu)
            return Offer(path, named, fitting.sizes_of(named.arrays, named.heads or heads, known), told=False)
    if "visual.ln_pre.weight" in file.arrays:
        raise Unfit("visual.ln_pre.weight: a norm before the blocks, as CLIP has, is not among this ViT's layers")
    first = printable(min(file.arrays))
    raise Unfit(f"{first} and the like are not names that timm, DINO, big_vision or abx export gives a ViT's weights")


def _ours(path: Path, file: File) -> Offer:
    try:
        config = from_json(file.header["backbone"])
    except (KeyError, ValueError) as wrong:
        raise SpecError(f"{path}: its header says no backbone that this version of abx has: {wrong}") from wrong
    if not isinstance(config, ViTConfig) or (found := config.problems()):
        what = found[0] if isinstance(config, ViTConfig) else "it is none"
        raise SpecError(f"{path}: its header says no backbone that there can be: {what}")
    if dino.recognised(file.arrays):
        named = dino.named(file.arrays)
        fitting.check(named.arrays, config)
    else:
        named_alike = {short(name): x for name, x in file.arrays.items()}
        own = {name.removeprefix("backbone."): x for name, x in named_alike.items() if name.startswith("backbone.")}
        others = {name: x for name, x in named_alike.items() if not name.startswith("backbone.")}
        named = Named("abx", _as_timm(own, config), others, [])
    if config.position == "sincos":  # which is no array of ours
        arrays = {name: x for name, x in named.arrays.items() if name != "pos_embed"}
        named = named._replace(arrays=arrays)
    return Offer(path, named._replace(family="abx"), config, told=True)


def _as_timm(own: Mapping[str, Stored], config: ViTConfig) -> dict[str, Stored]:
    """By timm's names what is stored by ours. Raises: Unfit."""
    like = jax.eval_shape(lambda: ViT(config, key=jax.random.key(0)))
    wanted = by_path(like)
    for name in sorted(wanted.keys() | own.keys()):
        if name not in own or name not in wanted:
            raise Unfit(f"backbone.{printable(name)} is {'missing' if name in wanted else 'unexpected'}")
        if own[name].shape != wanted[name].shape:
            raise Unfit(f"backbone.{name} has shape {own[name].shape}, not {wanted[name].shape}")

    @cache
    def whole() -> dict[str, np.ndarray]:
        return timm.to_timm(jax.tree.unflatten(jax.tree.structure(like), [own[name].read() for name in wanted]))

    return {name: Stored(shape, lambda name=name: whole()[name]) for name, shape in timm.shapes(config).items()}  # type: ignore[misc]  # name is bound
