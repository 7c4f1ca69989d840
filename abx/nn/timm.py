"""A ViT's parameters under the names and in the layouts of timm's VisionTransformer, and back.

Names and layouts only, as numpy arrays: files are the business of others. The counterpart in timm is
`VisionTransformer(class_token=pool == "token", global_pool="avg" | "map" | "token", fc_norm=False, num_classes=0,
act_layer="gelu_tanh" | "gelu")` with pictures in [-1, 1] (mean and deviation 0.5).
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
        state["pos_embed"] = _fixed(vit.config)[None]
    if vit.cls_token is not None:  # ours has no position of its own
        state["pos_embed"] = np.pad(state["pos_embed"], ((0, 0), (1, 0), (0, 0)))
    return state


def from_timm(state: Mapping[str, Float[np.ndarray, "..."]], config: ViTConfig) -> ViT:
    """The ViT with these parameters; the inverse of `to_timm`. A classifier (`head.*`) is left out.

    Raises: ValueError, naming every array that is missing, unexpected or of another shape; and when the table of
        positions is not ours, with `position="sincos"`.
    """
    like = jax.eval_shape(lambda: ViT(config, key=jax.random.key(0)))
    wanted = {name: x.shape for name, x in to_timm(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)).items()}
    found = {name: np.asarray(x, np.float32) for name, x in state.items() if not name.startswith("head.")}
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{name} is unexpected" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name].shape != wanted[name]:
            problems.append(f"{name} has shape {found[name].shape}, not {wanted[name]}")
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    if config.pool == "token":  # timm's [CLS] has a position, ours carries it itself
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    if config.position == "sincos" and not np.allclose(found["pos_embed"][0], _fixed(config), atol=1e-4):
        raise ValueError('pos_embed is not our sine-cosine table; position="learned" keeps it')

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        named = _named(path, np.zeros(leaf.shape, np.float32))
        parts = [_back(name, found[name], config) for name, _ in named]
        return jnp.asarray(np.stack(parts) if _stacked(path) else parts[0])

    return jax.tree_util.tree_map_with_path(fill, like)


def _named(path: Any, leaf: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """timm's name for a leaf of ours; for one of the stacked blocks, a name for each block."""
    parts = [key.name for key in path]
    parts[-1] = {"scale": "weight"}.get(parts[-1], parts[-1])
    if parts[0] == "patch_embed":
        parts.insert(1, "proj")
    if _stacked(path):
        for i, layer in enumerate(leaf):
            yield ".".join([parts[0], str(i), *parts[2:]]), layer
    else:
        yield ".".join(parts), leaf


def _stacked(path: Any) -> bool:
    return bool(path[0].name == "blocks")


def _forth(name: str, x: np.ndarray, config: ViTConfig) -> np.ndarray:
    if name == "patch_embed.proj.weight":
        # Our patches are flattened row by row, channels last; a convolution's kernel is (out, channel, row, column).
        return x.reshape(config.patch, config.patch, 3, config.width).transpose(3, 2, 0, 1)
    if name in ("pos_embed", "attn_pool.latent"):
        return x[None]
    if name == "cls_token":
        return x[None, None]
    return x.T if x.ndim == 2 else x


def _back(name: str, x: np.ndarray, config: ViTConfig) -> np.ndarray:
    if name == "patch_embed.proj.weight":
        return x.transpose(2, 3, 1, 0).reshape(-1, config.width)
    if name in ("pos_embed", "attn_pool.latent"):
        return x[0]
    if name == "cls_token":
        return x[0, 0]
    return x.T if x.ndim == 2 else x


def _fixed(config: ViTConfig) -> Float[np.ndarray, "t d"]:
    grid = config.size // config.patch
    return sincos((grid, grid), grid, config.width)
