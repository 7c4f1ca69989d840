"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

AFTER = 10
"""Steps of a start that are over before the trace begins: what is compiled, and what is still slow."""


@dataclass
class Tracer:
    """Traces `steps` steps into `folder`, once they are settled."""

    folder: Path
    steps: int
    running: bool = False

    def __call__(self, made: int, state: Any) -> None:
        """Before each step. `made`: steps of this start, whose last gives `state`."""
        if made in (AFTER, AFTER + self.steps):
            jax.block_until_ready(state)
        if made == AFTER and self.steps:
            jax.profiler.start_trace(str(self.folder))
            self.running = True
        elif made == AFTER + self.steps:
            self.close()

    def close(self) -> None:
        """Also of a run that ends before."""
        if self.running:
            self.running = False
            jax.profiler.stop_trace()
