"""FLOPs again, by hand from METHODS section 6: 2 per multiply-add, matrix products only, backward = twice forward."""

from abx.augment import Photometric
from abx.methods import AB, SimCLR
from abx.nn import DecoderConfig, ViTConfig


def vit_flops(config: ViTConfig, size: int | None = None) -> int:
    """Forward FLOPs of one view of `size` pixels (the native size unless given), pooled."""
    c, d = config, config.width
    patches = ((size or c.size) // c.patch) ** 2
    t = patches + (c.pool == "token")
    block = 8 * t * d * d + 4 * t * t * d + 4 * t * d * c.mlp
    pool = 4 * d * d + 4 * t * d * d + 4 * t * d + 4 * d * c.mlp if c.pool == "map" else 0
    return 2 * patches * c.patch**2 * 3 * d + c.depth * block + pool


def decoder_flops(config: DecoderConfig, memory: int, tokens: int, actions: int, *, packed: bool = True) -> int:
    """Forward FLOPs of one source view's actions. Naive (not packed): keys and values again for every action."""
    d, q = config.width, 4 * actions
    attention = 8 * q * d * d + 16 * q * d  # within the four tokens of an action
    cross = 4 * q * d * d + 4 * q * tokens * d
    keys_and_values = 4 * tokens * memory * d * (1 if packed else actions)
    return config.depth * (attention + cross + keys_and_values + 4 * q * d * config.mlp)


def projector_flops(width: int, hidden: int, embed: int) -> int:
    """Forward FLOPs of a three-layer projection head on one feature."""
    return 2 * (width * hidden + hidden * hidden + hidden * embed)


def augmentation_flops(photometric: Photometric, size: int) -> int:
    """FLOPs of a view's augmentation: three times grey as a product with three weights, and a blur in two products."""
    return 3 * 2 * 3 * size**2 + 2 * 2 * 3 * size**3


def patch_gradient(config: ViTConfig, size: int) -> int:
    """What "backward = twice forward" counts too much: nobody wants the gradient of a view's pixels."""
    return 2 * (size // config.patch) ** 2 * config.patch**2 * 3 * config.width


def simclr_flops(method: SimCLR, batch: int, size: int) -> int:
    """One step of SimCLR on two views of `batch` images."""
    head = projector_flops(method.width, method.hidden, method.embed)
    return 3 * 2 * batch * (vit_flops(method.backbone, size) + head) + 3 * 2 * (2 * batch) ** 2 * method.embed


def ab_flops(method: AB[SimCLR], annotations: int, images: int, n: int, reward_size: int, value_size: int) -> int:
    """One step of AB over SimCLR: its own step, both networks over the views, the n² pairs, and the annotations."""
    base = method.base
    views, tokens = images * n, (value_size // base.backbone.patch) ** 2
    head = projector_flops(base.width, base.hidden, base.embed)
    value_head = projector_flops(base.width, base.hidden, method.value_embed)
    decoder = decoder_flops(method.decoder, base.width, tokens, n) + 2 * n * method.decoder.width * method.value_embed
    online = 3 * views * (vit_flops(base.backbone, value_size) + decoder) + 3 * annotations * value_head
    target = views * (vit_flops(base.backbone, value_size) + decoder + head)
    target += annotations * (vit_flops(base.backbone, reward_size) + head + value_head)
    pairs = (3 + 1) * 2 * images * n * n * annotations * method.value_embed
    reward = 2 * views * annotations * base.embed
    return simclr_flops(base, annotations, reward_size) + online + target + pairs + reward
