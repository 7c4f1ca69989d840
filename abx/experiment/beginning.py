"""What a run begins with in place of random numbers: --init."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from abx import nn, train
from abx.checksum import by_path
from abx.data.sources import SpecError, printable
from abx.experiment.offering import Offer, Pixels, offer, problems_of_pixels, short
from abx.methods.ab import AB
from abx.nn import ViT, ViTConfig
from abx.train import TrainState

SHOWN = 6
"""Names in a line of what was loaded and what not."""


def problems(init: str, pixels: Pixels, want: ViTConfig, flag: str) -> list[str]:
    """Why a recipe's backbone cannot begin with a file's, one sentence each, with the flag that makes it fit. Reads the
    file's header and touches no device.

    Args:
        flag: what the backbone's flags begin with, --method.backbone.
    """
    try:
        found = offer(Path(init), want)
    except SpecError as wrong:
        return [f"--init {wrong}"]
    return problems_of_pixels(found, pixels) + _unlike(found, want, flag)


def _unlike(found: Offer, want: ViTConfig, flag: str) -> list[str]:
    have, told = found.config, found.told
    of = f"for --init {found.path}"
    names = ["width", "depth", "mlp"]
    if told or found.named.heads:
        names.append("heads")
    unlike = [name for name in names if getattr(have, name) != getattr(want, name)]
    usual = {size: getattr(nn, size) for size in ("Ti", "S", "B", "L", "H")}
    same = [size for size, each in usual.items() if all(getattr(each, n) == getattr(have, n) for n in names)]
    if unlike and same:
        sizes = ", ".join(f"{name} {getattr(have, name)}" for name in names)
        said = [f"--size must be {same[0]} {of}, whose backbone has {sizes}"]
    else:
        said = [f"{flag}.{name} must be {getattr(have, name)} {of}, not {getattr(want, name)}" for name in unlike]
    more = ["patch", "registers"] + (["gelu"] if told else [])
    if "token" in (have.pool, want.pool):  # a [CLS] changes every token; an attention pool none
        more.append("pool")
    if want.position == "sincos":
        more += ["position"] if have.position == "learned" else ["size"]
    return said + [
        f"{flag}.{name} must be {getattr(have, name)} {of}, not {getattr(want, name)}"
        for name in more
        if getattr(have, name) != getattr(want, name)
    ]


def sha256(file: Path) -> str:
    """Of a file's bytes; "" where it is not there."""
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def begin(state: TrainState, init: str, pixels: Pixels, want: ViTConfig) -> tuple[TrainState, str]:
    """A fresh state whose networks, the online and the target one, have the file's numbers where it offers some; and
    what was loaded, skipped and missing, as text.

    Raises: SpecError.
    """
    found = offer(Path(init), want)
    given: dict[str, Any] = {f"backbone.{name}": x for name, x in by_path(found.backbone(want, pixels)).items()}
    if found.config.pool != "map":
        given = {name: x for name, x in given.items() if not name.startswith("backbone.attn_pool.")}
    wanted = {short(name): x for name, x in by_path(state.model).items()}
    taken, unfit = _parts(found, wanted)
    given |= {name: found.named.others[name].read() for name in taken}

    def fill(tree: Any) -> Any:
        leaves = [_placed(leaf, given.get(short(name))) for name, leaf in by_path(tree).items()]
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    # Each a copy of its own: a state is given away, and none of it may be given twice.
    begun = state._replace(model=fill(state.model), target=fill(state.target))
    return begun, describe(found, pixels, want, given, wanted, unfit)


def biased(state: TrainState, method: AB[Any], seed: int, batch: Any) -> TrainState:
    """A fresh state after `begin`, with the value bias of `first-batch`: `train.init` found that of the random network.

    Args:
        seed, batch: as `train.init` had them.
    """
    find = jax.jit(method.first_bias, out_shardings=state.model.value.bias.sharding)
    bias = np.asarray(find(state.model, state.carry, batch, train.init_key(seed)))

    def put(tree: Any) -> Any:
        return eqx.tree_at(lambda model: model.value.bias, tree, _placed(tree.value.bias, bias))

    return state._replace(model=put(state.model), target=put(state.target))


def backbone_of(init: str, pixels: Pixels, size: int = 0, heads: int = 0) -> tuple[ViT, str]:
    """The backbone of a file alone, with its own sizes, and what was loaded as text.

    Args:
        size: side of the views in pixels, for a file without a table of positions; 0 = 224.
        heads: of attention, for a file that does not tell; 0 = those of the usual ViT of its width.

    Raises: SpecError.
    """
    found = offer(Path(init), ViTConfig(size=size or 224), heads)
    backbone = found.backbone(found.config, pixels)
    names = {f"backbone.{name}": x for name, x in by_path(backbone).items()}
    return backbone, describe(found, pixels, found.config, names, names, list(found.named.others))


def _parts(found: Offer, wanted: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Names of what is beside the backbone and fits, and of what does not. A tower or a head is taken whole or not."""
    others, taken, unfit = found.named.others, list[str](), list[str]()
    for part in dict.fromkeys(name.partition(".")[0] for name in others):
        theirs = {name: x.shape for name, x in others.items() if name.partition(".")[0] == part}
        ours = {name: tuple(x.shape) for name, x in wanted.items() if name.partition(".")[0] == part}
        (taken if theirs == ours else unfit).extend(theirs)
    return taken, unfit


def describe(
    found: Offer,
    pixels: Pixels,
    want: ViTConfig,
    given: Mapping[str, Any],
    wanted: Mapping[str, Any],
    unfit: list[str],
) -> str:
    """What was loaded, changed, assumed, skipped and missing, a line each."""
    have, family = found.config, found.named.family
    lines = {"loaded": _counted(given)}
    changed, assumed = [], []
    grids = [config.size // config.patch for config in (have, want)]
    if grids[0] != grids[1] and want.position == "learned":
        changed.append(f"positions {grids[0]} x {grids[0]} -> {grids[1]} x {grids[1]}, bicubic")
    if found.pixels(pixels) == "imagenet":
        changed.append("ImageNet's mean and deviation are in the patch embedding now")
    if not found.told and not found.named.heads:
        assumed.append(f"{want.heads} heads")
    if not found.told and have.gelu != want.gelu:
        assumed.append(f"GELU {want.gelu}, where {family} usually has {have.gelu}: backbone.gelu")
    elif not found.told:
        assumed.append(f"GELU {want.gelu}")
    lines |= {"changed": "; ".join(changed), "assumed": "; ".join(assumed)}
    lines["skipped"] = _listed([*found.named.skipped, *unfit])
    lines["missing"] = _counted({name: None for name in wanted if name not in given})
    shown = [f"  {what:<8} {said}" for what, said in lines.items() if said]
    names = "of abx export" if found.told else f"with {family}'s names"
    sizes = f"{have.width} wide, {have.depth} blocks, patch {have.patch}, {have.pool}"
    return "\n".join([f"--init {found.path}, {names}: {sizes}", *shown])


def _counted(names: Mapping[str, Any]) -> str:
    """ "backbone (18 arrays), text (14)" """
    parts: dict[str, int] = {}
    for name in names:
        parts[name.partition(".")[0]] = parts.get(name.partition(".")[0], 0) + 1
    return ", ".join(f"{part} ({count} array{'s' if count > 1 else ''})" for part, count in parts.items())


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(printable, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _placed(leaf: Any, array: Any) -> Any:
    """As the fresh array lies on the devices, whose process may hold only a part of it."""
    if array is None:
        return leaf
    whole = np.asarray(array)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: whole[index])
