"""Names of timm, DINO and DINOv2, which differ in little, and of MAE's and I-JEPA's encoders, which are timm's."""

import re

from abx.nn.foreign.stored import Arrays, Named, Stored, filled

PREFIXES = ("", "module.", "backbone.", "module.backbone.", "teacher.backbone.", "encoder.", "model.")
"""What a whole network's name may begin with in a file."""
FIRST = "patch_embed.proj.weight"
SKIPPED = re.compile(r"(head|head_dist|fc|pre_logits|decoder_\w+|decoder)\..*|mask_token|decoder_pos_embed")
"""Classifiers, and what only pre-training has a use for."""
LAYER_SCALE = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2", "gamma_1": "attn.proj", "gamma_2": "mlp.fc2"}
"""Factors of a branch's numbers, and the matrix that makes these."""
BIASES = {"attn.qkv": 3, "attn.proj": 1}
"""Linears that some ViTs have without a bias; how many widths it has."""


def recognised(arrays: Arrays) -> bool:
    return any(prefix + FIRST in arrays for prefix in PREFIXES)


def named(arrays: Arrays) -> Named:
    """Backbone under timm's names; LayerScale is multiplied into the matrix before it, and a bias that no block has is
    zeros. Both leave every token as it was."""
    prefix = next(prefix for prefix in PREFIXES if prefix + FIRST in arrays)
    found: dict[str, Stored] = {}
    skipped = [name for name in arrays if not name.startswith(prefix)]
    for name, array in arrays.items():
        short = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if SKIPPED.fullmatch(short):
            skipped.append(name)
            continue
        # DINOv2 counts blocks within chunks, too, when they were trained in chunks: blocks.2.13.
        short = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", short)
        found[{"register_tokens": "reg_token"}.get(short, short)] = array
    # Its own files have both; what timm has made of them has not.
    both = any(name.endswith(".gamma") for name in found) and prefix + "mask_token" in arrays
    width = (*arrays[prefix + FIRST].shape, 0)[0]
    return Named("DINOv2" if both else "timm or DINO", _with_biases(_scaled(found), width), {}, skipped)


def _scaled(arrays: dict[str, Stored]) -> dict[str, Stored]:
    """Without LayerScale: g * (W x + b) = (g W) x + g b."""
    found = dict(arrays)
    for name, gamma in arrays.items():
        match = re.fullmatch(r"(blocks\.\d+\.)(.+)", name)
        if match is None or match[2] not in LAYER_SCALE:
            continue
        del found[name]
        linear = match[1] + LAYER_SCALE[match[2]]
        for part in (f"{linear}.weight", f"{linear}.bias"):
            if part in found:
                found[part] = _times(found[part], gamma)
    return found


def _times(array: Stored, gamma: Stored) -> Stored:
    """Along the first axis, the matrix's outputs."""
    return array.change(lambda x: x * gamma.read().reshape(-1, *[1] * (x.ndim - 1)))


def _with_biases(arrays: dict[str, Stored], width: int) -> dict[str, Stored]:
    found = dict(arrays)
    blocks = {match[1] for name in arrays if (match := re.match(r"(blocks\.\d+)\.", name))}
    for linear, widths in BIASES.items():
        names = [f"{block}.{linear}.bias" for block in blocks]
        if not any(name in arrays for name in names):
            found |= {name: filled((widths * width,)) for name in names}
    if "patch_embed.proj.bias" not in arrays:
        found["patch_embed.proj.bias"] = filled((width,))
    return found
