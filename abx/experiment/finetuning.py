"""Fine-tuning, the one probe that sees pictures: crops of them to train on, the whole network to test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from abx.data.loader import Loaded, batches
from abx.data.sources import SpecError
from abx.data.views import RandomCrops
from abx.data.workers import stream
from abx.experiment.fitting import trained
from abx.experiment.material import Figures, Material, Part
from abx.experiment.portions import answered, batch_size, spread, steps_for
from abx.probes.batches import Pictures
from abx.probes.features import pictures
from abx.probes.finetune import FineTuneModel, for_batch, started_from
from abx.types import Record, Sample, Vocabulary


def finetune(m: Material) -> Figures:
    (rows, labels), test = m.labelled
    assert m.train is not None
    assert m.language is not None
    assert m.backbone is not None
    settings, backbone = m.recipe.finetune, m.backbone
    batch = batch_size(settings.batch, len(rows))
    optim = for_batch(settings.optim, batch)
    method = settings.method(backbone.config, m.language.words)
    source, views = Chosen(m.train, rows), RandomCrops(n=1, size=m.look.size, scale=settings.scale)

    def pairs(loaded: Loaded) -> Loaded:
        return loaded._replace(batch=Pictures(loaded.batch.images[:, 0], labels[loaded.records["train"]]))

    steps = steps_for(settings.epochs, len(rows), batch)
    state = trained(
        f"finetune-{m.task.name}",
        method,
        partial(_cropped, batches(source, views, batch, m.recipe.seed), m.recipe.threads, pairs),
        None,
        recipe=m.recipe,
        optim=optim,
        steps=steps,
        batch=batch,
        about=m.about | {"scale": settings.scale},
        rescale=method.rescale,
        start=partial(started_from, backbone=backbone),
    )
    # Those that could be read before can be read again.
    records, rejected = m.test.records[m.test.features.places[test.rows]], list[tuple[str, str]]()
    seen = pictures(m.test.source, records, m.look, answered(), rejected, m.recipe.threads)
    scores = [np.asarray(_by_pictures(state.model, spread(each.images)))[: len(each.places)] for each in seen]
    if rejected:
        raise SpecError(f"--test: {rejected[0][0]} could be read before and now cannot: {rejected[0][1]}")
    return m.scored(np.concatenate(scores)) | {"n_train": len(rows), "lr": optim.lr, "batch": batch, "steps": steps}


class Chosen:
    """The pictures of a part that have a label, as a source of their own."""

    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, part: Part, rows: Int[np.ndarray, " n"]) -> None:
        self.source, self.records = part.source, part.records[part.features.places[rows]]
        self.classes: tuple[str, ...] = part.source.classes
        self.vocabulary: Vocabulary = part.source.vocabulary

    def __len__(self) -> int:
        return len(self.records)

    def stored(self, i: int) -> Record:
        return self.source.stored(self._record(i))

    def __getitem__(self, i: int) -> Sample:
        return self.source[self._record(i)]

    def name(self, i: int) -> str:
        return self.source.name(self._record(i))

    def _record(self, i: int) -> int:
        if not 0 <= i < len(self.records):
            raise IndexError(f"record {i} of {len(self.records)}")
        return int(self.records[i])


@contextmanager
def _cropped(made: Any, threads: int, pairs: Callable[[Loaded], Loaded], start: int) -> Iterator[Iterator[Loaded]]:
    """Batches of random crops, from `start` on, as `fit` takes them."""
    with stream(made, start, threads, "thread") as loaded:
        yield map(pairs, loaded)


@jax.jit
def _by_pictures(model: FineTuneModel, images: Array) -> Float[Array, "b c"]:
    return jax.vmap(model)(images)
