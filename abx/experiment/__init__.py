"""From a recipe to a run: the flags, the plan, the folder that comes out."""

from abx.experiment.cli import cli
from abx.experiment.config import Checkpointing, Evaluation, Recipe
from abx.experiment.logs import Logging

__all__ = ["Checkpointing", "Evaluation", "Logging", "Recipe", "cli"]
