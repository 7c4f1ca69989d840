"""The paper's methods, one file per row label of its tables."""

from abx.methods.ab import AB
from abx.methods.base import Method, Reward
from abx.methods.simclr import SimCLR

__all__ = ["AB", "Method", "Reward", "SimCLR"]
