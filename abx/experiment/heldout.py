"""A run as analyses look at it: every checkpoint that was kept, and the same batches for each, of pictures it was not
trained on where there are any."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from abx import parallel, train
from abx.checkpoint import CheckpointError, Checkpoints
from abx.data import loader
from abx.data.sources import Source, SpecError
from abx.data.specs import open_for, parts
from abx.data.streams import Stream, has_text, open_sources, stream_seed
from abx.experiment.config import Recipe
from abx.experiment.folder import recipe_of
from abx.experiment.loading import steps_of
from abx.train import TrainState

SEED = 1_000_003
"""Added to the run's: orders and crops that training has not seen."""


@dataclass(frozen=True)
class Held:
    """A run, and pictures to look at it with."""

    run: Path
    recipe: Recipe
    specs: dict[str, str]
    """By stream: which pictures."""
    sources: dict[str, Source]
    name: str = ""
    """What it is called beside other runs; "" = as its folder."""

    @classmethod
    def open(cls, run: Path, data: str = "", annotated: str = "") -> "Held":
        """Without `data` the pictures of the run's --eval.test; where that names none, or none with the texts that a
        stream needs, `scenes:test` for scenes, else other crops of the training data.

        Args:
            data: pictures for all that the method takes.
            annotated: pictures for the first of its streams, of which annotations are made.

        Raises: SpecError, also where the run has no checkpoint.
        """
        recipe = recipe_of(run)
        if not steps_of(run):
            raise SpecError(f"{run} holds no checkpoint yet")
        streams = recipe.data.streams()
        first, test = next(iter(streams)), recipe.eval.test
        shown = open_for("--eval.test", test) if test and not data else None
        fits = lambda s: shown is not None and (s.texts is None or has_text(shown, s.texts))
        other = {"scenes": "scenes:test"}
        usual = {name: test if fits(s) else other.get(s.spec, s.spec) for name, s in streams.items()}
        specs = dict.fromkeys(streams, data) if data else usual
        specs[first] = annotated or specs[first]
        layout: Any = recipe.data  # a dataclass, whose fields are the streams
        try:
            sources = open_sources(dataclasses.replace(layout, **specs))
        except SpecError as wrong:
            raise SpecError(_said(str(wrong), run, first, data, annotated)) from wrong
        return cls(run, recipe, specs, sources)

    @property
    def new(self) -> bool:
        """Whether none of the pictures is the training data's, as far as their names tell."""
        trained = {part for s in self.recipe.data.streams().values() for part in parts(s.spec)}
        return not trained & {part for spec in self.specs.values() for part in parts(spec)}

    def states(self, newest: bool = False) -> Iterator[TrainState]:
        """Of all checkpoints, in the order of steps, on one device; or of the newest alone.

        Raises: SpecError for one that cannot be read.
        """
        recipe = self.recipe
        tx = recipe.optim.build(recipe.steps)
        like = jax.eval_shape(lambda: train.init(recipe.method, tx, recipe.seed, recipe.data.blank()))
        one = parallel.replicated(parallel.mesh(jax.local_devices()[:1]))
        try:
            with Checkpoints(self.run / "checkpoints", read_only=True) as checkpoints:
                steps = checkpoints.steps()
                if not steps:
                    raise SpecError(f"{self.run} holds no complete checkpoint yet")
                for step in steps[-1:] if newest else steps:
                    yield TrainState(*checkpoints.restore(step, like, one)[0])
        except CheckpointError as wrong:
            raise SpecError(str(wrong)) from wrong

    def batches(
        self, count: int, change: Callable[[str, Stream], Stream] = lambda name, s: s, *, together: bool = False
    ) -> list[loader.Loaded]:
        """So many batches, the same at every call.

        Args:
            change: of each stream, by its name.
            together: the same images in all streams, in the same order: those of the first.
        """
        streams, seed = self.recipe.data.streams(), self.recipe.seed + SEED
        first, leader = next(iter(streams.items()))
        opened = {}
        for name, stream in streams.items():
            s = change(name, stream)
            own, source = (leader.seed, self.sources[first]) if together else (s.seed, self.sources[name])
            opened[name] = loader.batches(source, s.crops, s.batch, stream_seed(seed, own), name, texts=s.texts)
        whole = loader.side_by_side(opened, self.recipe.data.join)
        return [whole[i] for i in range(count)]


def seen(new: bool) -> str:
    """Whether pictures were trained on, in words: that is told by the names of the data alone."""
    return "named otherwise than what was trained on" if new else "trained on; other crops"


def _said(sentence: str, run: Path, first: str, data: str, annotated: str) -> str:
    """The flag that a sentence is about is another one here."""
    flag, _, rest = sentence.partition(": ")
    if annotated and flag == f"--data.{first}":
        return f"--annotated: {rest}"
    if data:
        hint = "; --annotated names images that have one" if "finds no text" in rest else ""
        return f"--data: {rest}{hint}"
    return f"{run}, {flag.removeprefix('--')}: {rest}; --data names other pictures"
