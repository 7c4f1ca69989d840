"""Names of big_vision's ViT and of its text tower, as its .npz files have them, and those of its forerunners (the ViT
of 2020 and AugReg)."""

import re
from functools import cache

import numpy as np

from abx.nn.foreign.stored import Arrays, Named, Stored, joined

TREES = ("", "params/", "opt/target/", "target/")
"""Where parameters may lie in a file; with two towers in img/ and txt/ of it."""
FIRST = "embedding/kernel"
SKIPPED = re.compile(r"(head|pre_logits)/.*")
PARTS = {
    "LayerNorm_0": "norm1",
    "LayerNorm_1": "norm2",
    "LayerNorm_2": "norm2",
    "MlpBlock_0/Dense_0": "mlp.fc1",
    "MlpBlock_0/Dense_1": "mlp.fc2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
}
"""Of a block; those with higher numbers are the forerunners'."""
POOL = {"LayerNorm_0": "norm", "MlpBlock_0/Dense_0": "mlp.fc1", "MlpBlock_0/Dense_1": "mlp.fc2"}
ATTENTION = re.compile(r"MultiHeadDotProductAttention_\d/(query|key|value|out)/(kernel|bias)")


def recognised(arrays: Arrays) -> bool:
    return any(tree + tower + FIRST in arrays for tree in TREES for tower in ("", "img/"))


def named(arrays: Arrays) -> Named:
    """Backbone under timm's names, the text tower under ours."""
    tree, tower = next((x, y) for x in TREES for y in ("", "img/") if x + y + FIRST in arrays)
    within = {name.removeprefix(tree): x for name, x in arrays.items() if name.startswith(tree)}
    image = {name.removeprefix(tower): x for name, x in within.items() if name.startswith(tower)}
    skipped = [name for name in arrays if not name.startswith(tree + tower)]
    skipped += [tree + tower + name for name in image if SKIPPED.fullmatch(name)]
    head = image.get("head/kernel")
    image = {name: x for name, x in image.items() if not SKIPPED.fullmatch(name)}
    others: dict[str, Stored] = {}
    if tower and f"txt/{TABLE}" in within:
        others = _text({name.removeprefix("txt/"): x for name, x in within.items() if name.startswith("txt/")})
        skipped = [name for name in skipped if not name.startswith(f"{tree}txt/") or name == f"{tree}txt/head/bias"]
        if head is not None:
            others["head.weight"] = head
            skipped.remove(f"{tree}{tower}head/kernel")
    found, heads = _image(image)
    return Named("big_vision", found, others, skipped, heads)


def _image(arrays: Arrays) -> tuple[dict[str, Stored], int]:
    found: dict[str, Stored] = {}
    for old, new in (
        ("embedding/kernel", "patch_embed.proj.weight"),
        ("embedding/bias", "patch_embed.proj.bias"),
        ("cls", "cls_token"),
        ("MAPHead_0/probe", "attn_pool.latent"),
        ("Transformer/encoder_norm/scale", "norm.weight"),
        ("Transformer/encoder_norm/bias", "norm.bias"),
        ("pos_embedding", "pos_embed"),
        ("Transformer/pos_embedding", "pos_embed"),
        ("Transformer/posembed_input/pos_embedding", "pos_embed"),
    ):
        if old in arrays:
            found[new] = arrays[old]
    if len(shape := found["patch_embed.proj.weight"].shape) == 4:
        kernel = found["patch_embed.proj.weight"]
        found["patch_embed.proj.weight"] = kernel.change(
            lambda x: x.transpose(3, 2, 0, 1), (shape[3], shape[2], *shape[:2])
        )
    taken = {name for name in arrays if name.endswith(("pos_embedding", "cls", "probe")) or "embedding/" in name}
    blocks, heads = _blocks(arrays, "Transformer/")
    for i, block in enumerate(blocks):
        found |= {f"blocks.{i}.{name}": x for name, x in _turned(block, PARTS).items()}
    pool = {name.removeprefix("MAPHead_0/"): x for name, x in arrays.items() if name.startswith("MAPHead_0/")}
    found |= {f"attn_pool.{name}": x for name, x in _turned(pool, POOL, separate_query=True).items()}
    known = ("Transformer/encoderblock", "Transformer/encoder_norm/", "MAPHead_0/")
    # What no rule has taken keeps its name, and is refused by it.
    found |= {name: x for name, x in arrays.items() if name not in taken and not name.startswith(known)}
    return found, heads


TABLE = "Embed_0/embedding"


def _text(arrays: Arrays) -> dict[str, Stored]:
    """By our names: blocks stacked, matrices as they are (both of us have inputs first)."""
    found = {"text.table": arrays[TABLE]}
    for old, new in (
        ("Encoder_0/encoder_norm/scale", "text.norm.scale"),
        ("Encoder_0/encoder_norm/bias", "text.norm.bias"),
        ("head/kernel", "text_head.weight"),
    ):
        if old in arrays:
            found[new] = arrays[old]
    if len((table := arrays.get("pos_embedding", Stored((), np.zeros(0).copy))).shape) == 3:
        found["text.pos_embed"] = table.change(lambda x: x[0], table.shape[1:])
    blocks = [_turned(block, PARTS) for block in _blocks(arrays, "Encoder_0/")[0]]
    for name in blocks[0] if blocks else ():
        layers = [block[name] for block in blocks if name in block]
        ours = re.sub(r"^(norm\d)\.weight$", r"\1.scale", name)
        # `_turned` has torch's layout, outputs first.
        rows = [layer.change(lambda x: x.T, layer.shape[::-1]) for layer in layers]
        found[f"text.blocks.layers.{ours}"] = joined(rows, np.stack, (len(rows), *rows[0].shape))
    return found


def _blocks(arrays: Arrays, encoder: str) -> tuple[list[dict[str, Stored]], int]:
    """The arrays of each block by their names in it, and the attention heads (0 = they do not tell)."""
    blocks: dict[int, dict[str, Stored]] = {}
    for name, array in arrays.items():
        if match := re.fullmatch(rf"{encoder}encoderblock_(\d+)/(.+)", name):
            blocks.setdefault(int(match[1]), {})[match[2]] = array
        elif match := re.fullmatch(rf"{encoder}encoderblock/(.+)", name):  # all blocks in one array
            whole = cache(array.read)  # once for all blocks
            for i in range(array.shape[0] if array.shape else 0):
                layer = Stored(array.shape[1:], lambda i=i, whole=whole: whole()[i])  # type: ignore[misc]  # bound
                blocks.setdefault(i, {})[match[1]] = layer
    kernels = [x.shape for name, x in (blocks.get(0) or {}).items() if name.endswith("/query/kernel")]
    heads = kernels[0][1] if kernels and len(kernels[0]) == 3 else 0
    return [blocks.get(i, {}) for i in range(max(blocks, default=-1) + 1)], heads


def _turned(block: Arrays, parts: dict[str, str], separate_query: bool = False) -> dict[str, Stored]:
    """A block's arrays under timm's names, outputs first; an attention's queries, keys and values in one, or, as the
    pooling has them, the queries apart."""
    found: dict[str, Stored] = {}
    attention: dict[str, Stored] = {}
    for name, array in block.items():
        part, _, what = name.rpartition("/")
        if match := ATTENTION.fullmatch(name):
            attention[f"{match[1]}.{match[2]}"] = _flat(array, match[1], match[2])
        elif part in parts:
            last = "bias" if what == "bias" else "weight"
            found[f"{parts[part]}.{last}"] = array.change(np.transpose, array.shape[::-1])
        elif name != "probe":
            found[name] = array
    own = "" if separate_query else "attn."
    groups = {"q": ("query",), "kv": ("key", "value")} if separate_query else {"qkv": ("query", "key", "value")}
    for ours, theirs in (groups | {"proj": ("out",)}).items():
        for kind, last in (("kernel", "weight"), ("bias", "bias")):
            all_parts = [attention[f"{name}.{kind}"] for name in theirs if f"{name}.{kind}" in attention]
            if len(all_parts) == len(theirs):
                rows = sum((*part.shape, 0)[0] for part in all_parts)
                found[f"{own}{ours}.{last}"] = joined(all_parts, np.concatenate, (rows, *all_parts[0].shape[1:]))
    return found


def _flat(array: Stored, part: str, kind: str) -> Stored:
    """Without an axis of heads, outputs first: [d, heads, c] or, of what comes out, [heads, c, d]."""
    shape = array.shape
    if kind == "bias":
        size = int(np.prod(shape))
        return array.change(np.ravel, (size,))
    if len(shape) != 3:
        return array
    flat = (shape[0] * shape[1], shape[2]) if part == "out" else (shape[0], shape[1] * shape[2])
    return array.change(lambda x: x.reshape(flat).T, flat[::-1])
