"""A ViT's parameters under the names and in the layouts of timm's VisionTransformer, and back.

Names and layouts only, as numpy arrays: files are the business of others. The counterpart in timm is
`VisionTransformer(**arguments(config))` with pictures in [-1, 1] (mean and deviation 0.5).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from abx.nn.vit import ViT, ViTConfig, sincos

State = dict[str, Float[np.ndarray, "..."]]


def to_timm(vit: ViT) -> State:
    """timm's `state_dict()` of this ViT. A fixed position table becomes an ordinary one, for the native size."""
    state: State = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(vit):
        for name, array in _named(path, np.asarray(leaf)):
            state[name] = np.ascontiguousarray(_forth(name, array, vit.config))
    if vit.pos_embed is None:
        state["pos_embed"] = fixed(vit.config)[None]
    if vit.cls_token is not None:  # [CLS] and registers have no position of their own
        state["pos_embed"] = np.pad(state["pos_embed"], ((0, 0), (vit.patches_from, 0), (0, 0)))
    return state


def arguments(config: ViTConfig) -> dict[str, Any]:
    """What makes timm's VisionTransformer the counterpart of a ViT of these sizes, without a classifier."""
    width, mlp = config.width, config.mlp
    # timm's hidden width is the whole part of width * ratio, which rounding may put just below.
    ratio = mlp / width if int(width * (mlp / width)) == mlp else (mlp + 0.5) / width
    return {
        "num_classes": 0,
        "img_size": config.size,
        "patch_size": config.patch,
        "embed_dim": width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": ratio,
        "class_token": config.pool == "token",
        "reg_tokens": config.registers,
        "global_pool": {"gap": "avg"}.get(config.pool, config.pool),
        "fc_norm": False,
        "act_layer": {"tanh": "gelu_tanh", "exact": "gelu"}[config.gelu],
    }


def from_timm(state: Mapping[str, Float[np.ndarray, "..."]], config: ViTConfig) -> ViT:
    """The ViT with these parameters; the inverse of `to_timm`. A classifier (`head.*`) is left out.

    Raises: ValueError, naming every array that is missing, unexpected or of another shape; and when the table of
        positions is not ours, with `position="sincos"`.
    """
    like = jax.eval_shape(lambda: ViT(config, key=jax.random.key(0)))
    found = {name: np.asarray(x, np.float32) for name, x in state.items() if not name.startswith("head.")}
    if problems := unlike({name: x.shape for name, x in found.items()}, config):
        raise ValueError("; ".join(problems))
    if config.pool == "token":  # timm's [CLS] and registers have positions, ours carry them themselves
        first = 1 + config.registers
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        if config.registers:
            found["reg_token"] = found["reg_token"] + found["pos_embed"][:, 1:first]
        found["pos_embed"] = found["pos_embed"][:, first:]
    if config.position == "sincos" and not np.allclose(found["pos_embed"][0], fixed(config), atol=1e-4):
        raise ValueError('pos_embed is not our sine-cosine table; position="learned" keeps it')

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        named = list(_named(path, np.broadcast_to(np.float32(0), leaf.shape)))
        parts = [_back(name, found[name], config).reshape(x.shape) for name, x in named]
        if _stacked(path):
            return jnp.asarray(np.stack(parts))
        return jnp.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts))

    return jax.tree_util.tree_map_with_path(fill, like)


def shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Of the arrays that `to_timm` gives for a ViT of these sizes. Touches no device and makes no array of theirs."""
    like = jax.eval_shape(lambda: ViT(config, key=jax.random.key(0)))
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        for name, array in _named(path, np.broadcast_to(np.float32(0), leaf.shape)):
            found[name] = _forth(name, array, config).shape
    first = 1 + config.registers if config.pool == "token" else 0
    return found | {"pos_embed": (1, first + (config.size // config.patch) ** 2, config.width)}


def unlike(found: Mapping[str, tuple[int, ...]], config: ViTConfig) -> list[str]:
    """What is missing, unexpected or of another shape, by name."""
    wanted = shapes(config)
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{name} is unexpected" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name] != wanted[name]:
            problems.append(f"{name} has shape {found[name]}, not {wanted[name]}")
    return sorted(problems)


def _named(path: Any, leaf: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """timm's name for a leaf of ours; for one of the stacked blocks, a name for each block."""
    parts = [key.name for key in path]
    parts[-1] = {"scale": "weight"}.get(parts[-1], parts[-1])
    if parts[0] == "patch_embed":
        parts.insert(1, "proj")
    if _stacked(path):
        for i, layer in enumerate(leaf):
            yield ".".join([parts[0], str(i), *parts[2:]]), layer
    elif parts == ["cls_token"] and leaf.ndim == 2:
        yield "cls_token", leaf[:1]
        yield "reg_token", leaf[1:]
    else:
        yield ".".join(parts), leaf


def _stacked(path: Any) -> bool:
    return bool(path[0].name == "blocks")


def _forth(name: str, x: np.ndarray, config: ViTConfig) -> np.ndarray:
    if name == "patch_embed.proj.weight":
        # Our patches are flattened row by row, channels last; a convolution's kernel is (out, channel, row, column).
        return x.reshape(config.patch, config.patch, 3, config.width).transpose(3, 2, 0, 1)
    if name in ("pos_embed", "reg_token", "attn_pool.latent"):
        return x[None]
    if name == "cls_token":
        return x.reshape(1, 1, -1)
    return x.T if x.ndim == 2 else x


def _back(name: str, x: np.ndarray, config: ViTConfig) -> np.ndarray:
    if name == "patch_embed.proj.weight":
        return x.transpose(2, 3, 1, 0).reshape(-1, config.width)
    if name in ("pos_embed", "reg_token", "attn_pool.latent"):
        return x[0]
    if name == "cls_token":
        return x[0, 0]
    return x.T if x.ndim == 2 else x


def fixed(config: ViTConfig) -> Float[np.ndarray, "t d"]:
    """The sine-cosine table of a ViT of these sizes, for its native grid."""
    grid = config.size // config.patch
    return sincos((grid, grid), grid, config.width)
