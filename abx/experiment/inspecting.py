"""`abx targets`: the numbers of a batch's regression, and the page about its largest errors."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from abx import __version__, train
from abx.analysis.targets import Targets, floor_of, loss_of, targets_of
from abx.analysis.targets_page import targets_page
from abx.data.sources import SpecError
from abx.experiment.analysing import called
from abx.experiment.drawing import annotation_look
from abx.experiment.heldout import Held, seen
from abx.experiment.monitor import within_memory
from abx.methods.ab import AB
from abx.types import Views


class Inspected(NamedTuple):
    step: int
    loss: float
    floor: float
    shape: tuple[int, int, int]
    """Images, views of each, annotations."""


def inspect_targets(held: Held, images: int, batch: int, count: int, out: Path, numbers: Path) -> Inspected:
    """Writes the page to `out` and every number of `Targets` to the file `numbers` (.npz), of the newest checkpoint.

    Args:
        images: value images at most; fewer where n² l values of each would not fit.
        batch: which of the held-out ones.
        count: errors on the page.

    Raises: SpecError, OSError.
    """
    method, recipe = held.recipe.method, held.recipe
    if not isinstance(method, AB):
        raise SpecError(
            f"{held.run} is a run of {called(method)}, which has no value function; give the folder of an AB run"
        )
    loaded = held.batches(batch + 1)[batch]
    state = next(held.states(newest=True))
    few = within_memory(method, loaded.batch, images)
    key = train.step_key(recipe.seed, state.step)  # that with which the run would take its next step
    found = Targets(*map(np.asarray, targets_of(method, state.model, state.target, state.carry, few, key)))
    records, source = loaded.records["value"], held.sources["value"]
    texts = recipe.data.streams()["reward"].texts
    about = [
        f"Step {int(state.step)} of {recipe.steps}, {called(method)}; batch {batch} of {held.specs['value']}, "
        f"annotations from {held.specs['reward']} ({seen(held.new)}).",
        f"All {found.logits.size:,} values with their rewards and targets are in {numbers.name}: numpy.load opens it.",
        f"abx {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}, "
        f"{datetime.now(UTC).isoformat(timespec='seconds')}: {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
    ]
    if method.augment_value:
        about.insert(1, "The views were augmented as in training; shown is how they were before.")
    if isinstance(few.reward, Views):
        about.insert(1, "Annotations are shown as they were cut; they were scored with the augmentation of training.")
    page = targets_page(
        f"{held.run.resolve().name}: what values were told",
        about,
        found,
        lambda b: source[int(records[b])].image,
        np.asarray(few.value.images),
        lambda l: annotation_look(few.reward, l, texts),
        count,
    )
    np.savez_compressed(numbers, value=found.value, error=found.error, **found._asdict())
    out.write_text(page)
    b, n, _, l = found.logits.shape
    return Inspected(int(state.step), loss_of(found), floor_of(found), (b, n, l))
