"""Towers and heads for one example: no batch axis, no device, no loss."""

from abx.nn.decoder import ActionDecoder, DecoderConfig
from abx.nn.heads import AttentionPool, Projector, unit
from abx.nn.vit import B, H, L, S, Ti, ViT, ViTConfig

__all__ = [
    "ActionDecoder",
    "AttentionPool",
    "B",
    "DecoderConfig",
    "H",
    "L",
    "Projector",
    "S",
    "Ti",
    "ViT",
    "ViTConfig",
    "unit",
]
