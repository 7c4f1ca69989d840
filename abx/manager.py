"""Orbax's manager of checkpoints as a run of ours needs it: quick to say what went wrong, and else silent."""

import logging
import sys

import orbax.checkpoint as ocp

# Orbax reports every phase of every save at level INFO, its own retries at WARNING, and of a save that fails pages at
# ERROR, from each of its threads; what matters it raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Manager(ocp.CheckpointManager):
    """Orbax's, that says at once when this process could not write its part of a save.

    Orbax tells only when all processes are done, which the others never are: each waits for the part, for ten minutes.
    """

    failed: Exception | None = None

    def _wait_for_checkpointers(self) -> None:
        try:
            super()._wait_for_checkpointers()
        except Exception as wrong:
            self.failed = wrong
            raise


def hush() -> None:
    """Where Orbax fails to read or write, its other threads go on and fail too, each with a traceback of its own."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    before = sys.unraisablehook
    if getattr(before, "hushed", False):
        return

    def hook(what: "sys.UnraisableHookArgs") -> None:
        if not str(what.exc_value).startswith(("Event loop is closed", "Encountered error while reading array")):
            before(what)

    hook.hushed = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
