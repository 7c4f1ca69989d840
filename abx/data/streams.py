"""What a run trains on, as a person chooses it: data strings, batch sizes, crops. Opening them is the loader's job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from abx.data.sources import Source, SpecError, first_usable
from abx.data.specs import check_spec, open_source
from abx.data.views import RandomCrops

if TYPE_CHECKING:
    import grain


@runtime_checkable
class Data(Protocol):
    """The data of a recipe: one stream, or several side by side."""

    @property
    def workers(self) -> int: ...

    def specs(self) -> dict[str, str]:
        """The data string of each stream, by the stream's name."""

    def crops(self) -> dict[str, RandomCrops]:
        """The crops of each stream."""

    def batch_sizes(self) -> dict[str, int]:
        """Images per step of each stream."""

    def problems(self) -> list[str]:
        """What is wrong with the choice: one sentence each, naming the flag."""

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        """`Loaded` batches by step."""


@dataclass(frozen=True)
class PairData:
    """One stream of two views per image."""

    train: str = "scenes"
    """Images, no labels used: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its sub-folders)
    or `tar:GLOB` (WebDataset shards)."""
    batch: int = 4096
    """Images per step over all devices, whose number must divide it."""
    views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of an image are cut."""
    workers: int = 0
    """Processes that decode and crop; 0 = a thread of the training process. Any number gives the same batches."""

    def specs(self) -> dict[str, str]:
        return {"train": self.train}

    def crops(self) -> dict[str, RandomCrops]:
        return {"train": self.views}

    def batch_sizes(self) -> dict[str, int]:
        return {"train": self.batch}

    def problems(self) -> list[str]:
        return _problems(self, {"batch": self.batch}, {"views": (self.views, 2)})

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        from abx.data import loader

        return loader.batches(sources["train"], self.views, self.batch, 2 * seed, "train")


@dataclass(frozen=True)
class ABData:
    """Two independent streams: images that define the reward, and images on which the value function is learnt."""

    reward: str = "scenes"
    """Images that define the reward: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its
    sub-folders) or `tar:GLOB` (WebDataset shards)."""
    value: str = "scenes"
    """Images on which the value function is learnt, in the same form; may be the same images. No labels are used."""
    reward_batch: int = 2048
    """Reward images per step over all devices, whose number must divide it. Each image is one annotation."""
    value_batch: int = 1024
    """Value images per step over all devices, whose number must divide it."""
    reward_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of a reward image are cut."""
    value_views: RandomCrops = field(default_factory=lambda: RandomCrops(n=4, scale=(0.05, 0.5)))
    """How the views of a value image are cut. Actions lead from each of the n to each."""
    workers: int = 0
    """Processes that decode and crop; 0 = a thread of the training process. Any number gives the same batches."""

    def specs(self) -> dict[str, str]:
        return {"reward": self.reward, "value": self.value}

    def crops(self) -> dict[str, RandomCrops]:
        return {"reward": self.reward_views, "value": self.value_views}

    def batch_sizes(self) -> dict[str, int]:
        return {"reward": self.reward_batch, "value": self.value_batch}

    def problems(self) -> list[str]:
        sizes = {"reward_batch": self.reward_batch, "value_batch": self.value_batch}
        return _problems(self, sizes, {"reward_views": (self.reward_views, 2), "value_views": (self.value_views, None)})

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        from abx.data import loader

        # Two seeds, so that the same data on both sides is two independent samples of it.
        reward = loader.batches(sources["reward"], self.reward_views, self.reward_batch, 2 * seed, "reward")
        value = loader.batches(sources["value"], self.value_views, self.value_batch, 2 * seed + 1, "value")
        return loader.ab_batches(reward, value)


def open_sources(specs: dict[str, str]) -> dict[str, Source]:
    """Index each data string once, however many streams name it, and make sure that something in it can be read.

    Raises: SpecError, one sentence that names the flag.
    """
    opened: dict[str, Source] = {}
    for name, spec in specs.items():
        if spec not in opened:
            try:
                opened[spec] = open_source(spec)
                first_usable(opened[spec])
            except SpecError as wrong:
                raise SpecError(f"--data.{name}: {wrong}") from wrong
    return {name: opened[spec] for name, spec in specs.items()}


def views_per_step(data: Data) -> int:
    """Views that a step trains on, each crop counted once, as the paper counts (A-42)."""
    return sum(b * data.crops()[name].n for name, b in data.batch_sizes().items())


def _problems(data: Data, batches: dict[str, int], views: dict[str, tuple[RandomCrops, int | None]]) -> list[str]:
    found = []
    for name, spec in data.specs().items():
        if sentence := check_spec(spec):
            found.append(f"--data.{name}: {sentence}")
    for name, batch in batches.items():
        if batch < 1:
            found.append(f"--data.{name} must be at least 1, not {batch}")
    for name, (crops, n) in views.items():
        found += crops.problems(f"--data.{name}")
        if n is not None and crops.n != n:
            found.append(f"--data.{name}.n must be {n} here, not {crops.n}")
    if data.workers < 0:
        found.append(f"--data.workers must be at least 0, not {data.workers}")
    return found
