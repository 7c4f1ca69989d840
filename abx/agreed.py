"""What the processes of a run read together: where one fails all do, so that none goes on without the others."""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


def agreed(read: Callable[[], T], instead: Callable[[], None] = lambda: None) -> T:
    """What `read` returns. Every process of a run must ask; with one process only `read` is called.

    Args:
        instead: called where `read` has failed: whatever it does not get to in which the others wait for this process.

    Raises: what `read` has raised, or OSError when it was well here but not in another process.
    """
    found, wrong = [], None
    try:
        found.append(read())
    except Exception as error:
        wrong = error
        if jax.process_count() > 1:
            instead()
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.asarray(wrong is not None))
        if wrong is None and np.any(failed):
            raise OSError("another process of this run cannot read it")
    if wrong is not None:
        raise wrong
    return found[0]
