"""Annotation bootstrapping: visual pre-training on unlabelled images with reinforcement learning."""

__version__ = "0.1.0"
