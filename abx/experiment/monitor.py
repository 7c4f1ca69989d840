"""What is looked at while a run trains: probes on labelled pictures, and the value head."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from abx.analysis.values import value_metrics
from abx.data import loader
from abx.data.sources import Source, SpecError
from abx.data.specs import open_for
from abx.data.streams import has_text
from abx.experiment.config import Recipe
from abx.methods.ab import AB
from abx.probes import online
from abx.train import TrainState
from abx.types import ABBatch, Views

IMAGES = 64
"""Value images, at most, of a batch that the value head is measured on. Annotations stay as many as in training."""
HELD = 128 * 2**20
"""Bytes, at most, of the values of all these images' pairs: several arrays of that size are held at once."""


@dataclass
class Monitor:
    """`evaluate` of a run, with the pictures it needs: loaded once, the same at every look."""

    recipe: Recipe
    sources: dict[str, Source]
    """By stream: what the value head's figures are taken on."""
    train: online.Labelled | None = None
    """None when there are no labels."""
    test: online.Labelled | None = None
    """None for a monitor that is only asked for batches."""

    @classmethod
    def open(cls, recipe: Recipe, sources: dict[str, Source]) -> "Monitor":
        """The pictures of --eval.test; where that names none, those of `scenes:test` or else part of the training data.

        Raises: SpecError when the evaluation's data cannot be opened, or cannot be what it is asked to be.
        """
        chosen, (first, *_) = recipe.eval, (s.spec for s in recipe.data.streams().values())  # it has labels if any has
        test_spec = chosen.test or ("scenes:test" if first == "scenes" else "")
        train = open_for("--eval.train", chosen.train) if chosen.train else next(iter(sources.values()))
        test = open_for("--eval.test", test_spec) if test_spec else None
        if chosen.train and not train.classes:
            raise SpecError(f"--eval.train: {chosen.train} has no labels, which is all that it is for")
        labelled = bool(train.classes) and (test is None or bool(test.classes))
        # As training shows most pictures whole: of the last stream, the first kind of crops.
        size = next(iter(next(reversed(recipe.data.streams().values())).crops.kinds().values())).size
        if test is None:
            # One draw for both, so that no picture is in both.
            pictures = loader.central(train, chosen.train_images + chosen.test_images, size, labelled=labelled)
            count = max(len(pictures[1]) - chosen.test_images, len(pictures[1]) // 2)
            found = [online.Labelled(*(x[part] for x in pictures)) for part in (slice(count), slice(count, None))]
        else:
            counts = ((train, chosen.train_images), (test, chosen.test_images))
            found = [online.Labelled(*loader.central(s, n, size, labelled=labelled)) for s, n in counts]
            if labelled:
                found[1] = _in_the_words_of(train, test, found[1])
        # Pictures with classes seldom have captions: those that need them are then other crops of the training data.
        shown = dict(sources)
        for name, stream in recipe.data.streams().items():
            if test is not None and (stream.texts is None or has_text(test, stream.texts)):
                shown[name] = test
        return cls(recipe, shown, found[0] if labelled and all(len(x.labels) for x in found) else None, found[1])

    @property
    def labelled(self) -> bool:
        return self.train is not None

    def batch(self, i: int) -> loader.Loaded:
        """Batch i of a stream that training does not see: other pictures where there are some, else other crops."""
        return self.recipe.data.batches(self.sources, self.recipe.seed + 1_000_003)[i]

    def evaluate(self, state: TrainState) -> dict[str, float]:
        backbone = state.model.backbone
        found: dict[str, float] = {}
        if self.train is not None and self.test is not None:
            found = online.probe(backbone, self.train, self.test)
        elif self.test is not None:
            found = online.spread(online.tokens_of(backbone, self.test.images)[1])
        method = self.recipe.method
        if isinstance(method, AB):
            batches = (within_memory(method, self.batch(i).batch) for i in range(self.recipe.eval.batches))
            found |= value_metrics(method, state.model, state.target, state.carry, batches)
        return found


def within_memory(method: AB[Any], batch: ABBatch, most: int = IMAGES) -> ABBatch:
    """With fewer value images: the figures' noise does not ask for more, and every device holds the whole of it.

    At most `most`, and no more than have their n² l values in `HELD` bytes, but at least one: of 4 views and 65,536
    prototypes that is 32 images.
    """
    n = batch.value.images.shape[1]
    count = min(most, max(1, HELD // (4 * n * n * method.base.annotation_count(batch.reward))))
    return batch._replace(value=Views(batch.value.images[:count], batch.value.boxes[:count]))


def _in_the_words_of(train: Source, test: Source, pictures: online.Labelled) -> online.Labelled:
    """Test pictures by the numbers that the training data gives their classes; without those whose class it lacks."""
    if test.classes == train.classes:
        return pictures
    number = {name: i for i, name in enumerate(train.classes)}
    labels = np.array([number.get(test.classes[label], -1) for label in pictures.labels], np.int64)
    known = labels >= 0
    if not known.any():
        raise SpecError(
            f"--eval.test: none of its classes ({', '.join(test.classes[:3])}, ...) is one of those that the probes "
            f"are trained on ({', '.join(train.classes[:3])}, ...)"
        )
    return online.Labelled(pictures.images[known], labels[known])
