"""A small replication of the paper's tables and figures: same structure, shrunken, each AB run beside its base.

`python -m benchmarks.replicate`, from the root of the repository. What the stand-in data can and cannot show:
docs/replication.md.
"""
