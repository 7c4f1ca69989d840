"""Files of weights as others write them: by hand, with random numbers, from their published layouts."""

import numpy as np


def draw(rng, *shape):
    return rng.normal(0, 0.3, shape).astype(np.float32)


def big_vision(rng, width=16, depth=2, heads=2, mlp=24, patch=4, grid=3, pool="gap", tower="", table=True):
    """The names and shapes of big_vision's models/vit.py, as `u.save_checkpoint` flattens them, with random numbers."""
    d, c, made = width, width // heads, {}

    def attention(at):
        for part in ("query", "key", "value"):
            made[f"{at}/{part}/kernel"], made[f"{at}/{part}/bias"] = draw(rng, d, heads, c), draw(rng, heads, c)
        made[f"{at}/out/kernel"], made[f"{at}/out/bias"] = draw(rng, heads, c, d), draw(rng, d)

    def norm(at):
        made[f"{at}/scale"], made[f"{at}/bias"] = 1 + draw(rng, d), draw(rng, d)

    def block_mlp(at):
        made[f"{at}/Dense_0/kernel"], made[f"{at}/Dense_0/bias"] = draw(rng, d, mlp), draw(rng, mlp)
        made[f"{at}/Dense_1/kernel"], made[f"{at}/Dense_1/bias"] = draw(rng, mlp, d), draw(rng, d)

    made["embedding/kernel"], made["embedding/bias"] = draw(rng, patch, patch, 3, d), draw(rng, d)
    if table:
        made["pos_embedding"] = draw(rng, 1, grid**2, d)
    if pool == "tok":
        made["cls"] = draw(rng, 1, 1, d)
    for i in range(depth):
        at = f"Transformer/encoderblock_{i}"
        norm(f"{at}/LayerNorm_0")
        norm(f"{at}/LayerNorm_1")
        attention(f"{at}/MultiHeadDotProductAttention_0")
        block_mlp(f"{at}/MlpBlock_0")
    norm("Transformer/encoder_norm")
    if pool == "map":
        made["MAPHead_0/probe"] = draw(rng, 1, 1, d)
        attention("MAPHead_0/MultiHeadDotProductAttention_0")
        norm("MAPHead_0/LayerNorm_0")
        block_mlp("MAPHead_0/MlpBlock_0")
    return {f"params/{tower}{name}": x for name, x in made.items()}


def text_tower(rng, vocab, length, width, depth, heads, mlp, embed):
    """The names and shapes of proj/image_text/text_transformer.py within a model of two towers."""
    image = big_vision(rng, width, depth, heads, mlp)
    made = {name.replace("params/Transformer/", "params/txt/Encoder_0/"): x for name, x in image.items()}
    made = {name: x for name, x in made.items() if name.startswith("params/txt/")}
    made["params/txt/Embed_0/embedding"] = draw(rng, vocab, width)
    made["params/txt/pos_embedding"] = draw(rng, 1, length, width)
    made["params/txt/head/kernel"], made["params/txt/head/bias"] = draw(rng, width, embed), draw(rng, embed)
    return made | {"params/t": draw(rng, 1)}


def scanned(arrays):
    """As big_vision writes blocks with `scan=True`: all in one array."""
    blocks = sorted({name.split("/")[2] for name in arrays if "encoderblock_" in name})
    names = [name.split("/", 3)[3] for name in arrays if f"/{blocks[0]}/" in name]
    stacks = {name: np.stack([arrays[f"params/Transformer/{block}/{name}"] for block in blocks]) for name in names}
    rest = {name: x for name, x in arrays.items() if "encoderblock_" not in name}
    return rest | {f"params/Transformer/encoderblock/{name}": x for name, x in stacks.items()}


def of_2020(arrays):
    """The first ViTs' names for the same, with a position for [CLS]."""
    made = {}
    for name, x in arrays.items():
        for new, old in (
            ("LayerNorm_1", "LayerNorm_2"),
            ("MlpBlock_0", "MlpBlock_3"),
            ("MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1"),
            ("pos_embedding", "Transformer/posembed_input/pos_embedding"),
        ):
            name = name.replace(new, old)
        made[name.removeprefix("params/")] = x
    at = "Transformer/posembed_input/pos_embedding"
    return made | {at: np.concatenate([0 * made["cls"] + 0.25, made[at]], 1), "cls": made["cls"] - 0.25}


def as_big_vision_computes(arrays, image):
    """Tokens after the final norm in float64, flax's arithmetic written out: heads apart, MLPs of GELU's tanh."""
    a = {name.removeprefix("params/"): x.astype(np.float64) for name, x in arrays.items()}
    kernel = a["embedding/kernel"]
    p = kernel.shape[0]
    grid = image.shape[0] // p
    x = np.stack(
        [
            np.einsum("hwc,hwcd->d", image[i * p : (i + 1) * p, j * p : (j + 1) * p], kernel)
            for i, j in np.ndindex(grid, grid)
        ]
    )
    x = x + a["embedding/bias"] + a["pos_embedding"][0]
    if "cls" in a:
        x = np.concatenate([a["cls"][0], x])
    return encoder(a, "Transformer", x)


def encoder(a, at, x):
    """big_vision's Encoder."""
    i = 0
    while f"{at}/encoderblock_{i}/LayerNorm_0/scale" in a:
        block = f"{at}/encoderblock_{i}"
        y = _norm(a, f"{block}/LayerNorm_0", x)
        x = x + _attention(a, f"{block}/MultiHeadDotProductAttention_0", y, y)
        x = x + _mlp(a, f"{block}/MlpBlock_0", _norm(a, f"{block}/LayerNorm_1", x))
        i += 1
    return _norm(a, f"{at}/encoder_norm", x)


def pooled(arrays, tokens):
    """big_vision's MAPHead."""
    a = {name.removeprefix("params/MAPHead_0/"): x.astype(np.float64) for name, x in arrays.items()}
    x = _attention(a, "MultiHeadDotProductAttention_0", a["probe"][0], tokens)
    return (x + _mlp(a, "MlpBlock_0", _norm(a, "LayerNorm_0", x)))[0]


def _norm(a, at, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * a[f"{at}/scale"] + a[f"{at}/bias"]


def _attention(a, at, x, memory):
    q, k, v = (
        np.einsum("td,dhc->htc", y, a[f"{at}/{part}/kernel"]) + a[f"{at}/{part}/bias"][:, None]
        for part, y in (("query", x), ("key", memory), ("value", memory))
    )
    scores = np.exp(np.einsum("hqc,hmc->hqm", q, k) / np.sqrt(q.shape[-1]))
    mixed = np.einsum("hqm,hmc->qhc", scores / scores.sum(-1, keepdims=True), v)
    return np.einsum("qhc,hcd->qd", mixed, a[f"{at}/out/kernel"]) + a[f"{at}/out/bias"]


def _mlp(a, at, x):
    x = x @ a[f"{at}/Dense_0/kernel"] + a[f"{at}/Dense_0/bias"]
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ a[f"{at}/Dense_1/kernel"] + a[f"{at}/Dense_1/bias"]
