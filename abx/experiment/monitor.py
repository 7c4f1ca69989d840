"""What is looked at while a run trains: probes on labelled pictures, the value head, and records that were refused."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from abx.analysis.values import value_metrics
from abx.data import loader
from abx.data.sources import BadRecord, Source, open_source
from abx.data.streams import Data
from abx.experiment.config import Recipe
from abx.log import read_lines, write_lines
from abx.methods.ab import AB
from abx.probes import online
from abx.train import TrainState


@dataclass
class Monitor:
    """`evaluate` of a run, with the pictures it needs: loaded once, the same at every look."""

    recipe: Recipe
    data: Data
    """Streams for the value head's figures."""
    sources: dict[str, Source]
    train: online.Labelled
    test: online.Labelled
    held_out: bool
    """Whether the pictures were kept out of training."""

    @classmethod
    def open(cls, recipe: Recipe, sources: dict[str, Source]) -> "Monitor":
        """Raises SpecError when the evaluation's data cannot be opened."""
        specs = recipe.data.specs()
        spec = next(iter(specs.values()))  # the stream that has labels if any has
        test_spec = recipe.eval.test or ("scenes:test" if spec == "scenes" else "")
        train_source = open_source(recipe.eval.train) if recipe.eval.train else next(iter(sources.values()))
        test_source = open_source(test_spec) if test_spec else None
        size = next(reversed(recipe.data.crops().values())).size
        none = online.Labelled(np.zeros((0, size, size, 3), np.uint8), np.zeros(0, np.int64))
        train = test = none
        if test_source is not None:
            train = online.Labelled(*loader.central(train_source, recipe.eval.train_images, size, labelled=True))
            test = online.Labelled(*loader.central(test_source, recipe.eval.test_images, size, labelled=True))
        if not (len(train.labels) and len(test.labels)):
            shown = test_source or next(iter(sources.values()))
            train = none
            test = online.Labelled(*loader.central(shown, recipe.eval.test_images, size, labelled=False))
        streams = dict.fromkeys(specs, test_source) if test_source is not None else dict(sources)
        return cls(recipe, recipe.data, streams, train, test, test_source is not None)

    @property
    def labelled(self) -> bool:
        return len(self.train.labels) > 0

    def batch(self, i: int) -> loader.Loaded:
        """Batch i of a stream that training does not see: other pictures where there are some, else other crops."""
        return self.data.batches(self.sources, self.recipe.seed + 1_000_003)[i]

    def evaluate(self, state: TrainState) -> dict[str, float]:
        backbone = state.model.backbone
        if self.labelled:
            found = online.probe(backbone, self.train, self.test)
        else:
            found = online.spread(online.tokens_of(backbone, self.test.images)[1])
        method = self.recipe.method
        if isinstance(method, AB):
            batches = (self.batch(i).batch for i in range(self.recipe.eval.batches))
            found |= value_metrics(method, state.model, state.target, state.carry, batches)
        return found


@dataclass
class Rejects:
    """Counts records that could not be used, and names each once, on stderr and in `rejected.jsonl`."""

    sources: dict[str, Source]
    path: Path
    count: int = 0
    read: int = 0
    """Pictures used, beside those that were not."""
    named: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.path.exists():
            rows = [row for row in read_lines(self.path) if "name" in row]
            write_lines(self.path, rows)  # without a line that a kill cut off
            self.named |= {row["name"] for row in rows}
        for source in {id(s): s for s in self.sources.values()}.values():
            for name, reason in source.problems:
                self.name(name, reason)

    def __call__(self, step: int, loaded: loader.Loaded) -> None:
        self.read += sum(len(rows) for rows in loaded.records.values())
        for stream, records in loaded.rejected.items():
            self.count += len(records)
            source = self.sources[stream]
            for i in set(records.tolist()):
                name = source.name(i)
                if name not in self.named:
                    try:
                        source[i]
                    except BadRecord as bad:
                        self.name(name, str(bad))

    def name(self, name: str, reason: str) -> None:
        if name in self.named:
            return
        self.named.add(name)
        print(f"skipped {name}: {reason}", file=sys.stderr, flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"name": name, "reason": reason}) + "\n")

    def metrics(self) -> dict[str, float]:
        return {"data/rejected": float(self.count), "data/read": float(self.read)}
