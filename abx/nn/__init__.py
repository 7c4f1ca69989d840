"""Towers and heads for one example: no batch axis, no device, no loss."""

from abx.nn.decoder import ActionDecoder, DecoderConfig
from abx.nn.heads import AttentionPool, DINOHead, Projector, Prototypes, Scale, unit
from abx.nn.mae import PixelDecoder, PixelDecoderConfig
from abx.nn.predictor import Predictor, PredictorConfig
from abx.nn.text import TextConfig, TextEncoder
from abx.nn.vit import B, H, L, S, Ti, ViT, ViTConfig

__all__ = [
    "ActionDecoder",
    "AttentionPool",
    "B",
    "DINOHead",
    "DecoderConfig",
    "H",
    "L",
    "PixelDecoder",
    "PixelDecoderConfig",
    "Predictor",
    "PredictorConfig",
    "Projector",
    "Prototypes",
    "S",
    "Scale",
    "TextConfig",
    "TextEncoder",
    "Ti",
    "ViT",
    "ViTConfig",
    "unit",
]
