"""Losses as functions of arrays: no model, no configuration, no key."""

from abx.losses.bootstrap import chunked_value_loss, chunked_value_target, value_loss, value_target
from abx.losses.contrastive import clip_loss, info_nce, siglip_loss, simclr_loss
from abx.losses.distill import dino_loss, update_center
from abx.losses.predict import ijepa_loss, mae_loss

__all__ = [
    "chunked_value_loss",
    "chunked_value_target",
    "clip_loss",
    "dino_loss",
    "ijepa_loss",
    "info_nce",
    "mae_loss",
    "siglip_loss",
    "simclr_loss",
    "update_center",
    "value_loss",
    "value_target",
]
