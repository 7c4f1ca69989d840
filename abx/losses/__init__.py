"""Losses as functions of arrays: no model, no configuration, no key."""

from abx.losses.bootstrap import chunked_value_loss, chunked_value_target, value_loss, value_target
from abx.losses.contrastive import info_nce, simclr_loss

__all__ = ["chunked_value_loss", "chunked_value_target", "info_nce", "simclr_loss", "value_loss", "value_target"]
