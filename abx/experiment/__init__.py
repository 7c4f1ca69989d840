"""From a recipe to a run: the flags, the plan, the folder that comes out."""

from abx.experiment.cli import cli
from abx.experiment.config import Checkpointing, Evaluation, Logging, Recipe

__all__ = ["Checkpointing", "Evaluation", "Logging", "Recipe", "cli"]
