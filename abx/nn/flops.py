"""FLOPs of the towers, counted from their sizes: 2 per multiply-add, matrix products only (METHODS §6).

XLA counts the body of a scan once, so its own figure needs an unrolled build; `tests/test_flops.py` compares the two.
"""

from abx.nn.decoder import DecoderConfig
from abx.nn.vit import ViTConfig


def vit_flops(config: ViTConfig, size: int | None = None) -> int:
    """Forward FLOPs of one view of `size` pixels (the native size unless given): S/16 at 224 needs 9.15 G."""
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
