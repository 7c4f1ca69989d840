"""What a run trains on, as a person chooses it: data strings, batch sizes, crops. Opening them is the loader's job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from abx.data.sources import Source, SpecError, first_usable
from abx.data.specs import check_spec, open_source
from abx.data.views import RandomCrops
from abx.types import ABBatch

if TYPE_CHECKING:
    import grain


@runtime_checkable
class Data(Protocol):
    """The data of a recipe: one stream, or several side by side."""

    @property
    def workers(self) -> int: ...

    @property
    def worker(self) -> Literal["process", "thread"]: ...

    @property
    def max_rejected(self) -> float: ...

    def specs(self) -> dict[str, str]:
        """The data string of each stream, by the stream's name."""

    def crops(self) -> dict[str, RandomCrops]:
        """The crops of each stream."""

    def batch_sizes(self) -> dict[str, int]:
        """Images per step of each stream."""

    def flag(self, stream: str, setting: Literal["batch", "views"]) -> str:
        """The flag that sets it, by its fields: --data.reward_batch"""

    def join(self, parts: dict[str, Any]) -> Any:
        """A batch, from what each stream gives to it."""

    def part(self, batch: Any, stream: str) -> Any:
        """What a stream gave to a batch."""

    def problems(self) -> list[str]:
        """What is wrong with the choice: one sentence each, naming the flag."""

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        """`Loaded` batches by step."""


@dataclass(frozen=True)
class PairData:
    """One stream of two views per image."""

    train: str = "scenes"
    """Images, no labels used: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its sub-folders),
    `tar:GLOB` (WebDataset), `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture: `0.75*folder:a + 0.25*tar:b`."""
    batch: int = 4096
    """Images per step over all devices, whose number must divide it."""
    views: RandomCrops = field(default_factory=lambda: RandomCrops(n=2, scale=(0.08, 1.0)))
    """How the two views of an image are cut."""
    workers: int = 0
    """Processes or threads that decode and crop; 0 = one thread. Any number gives the same batches."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are. Processes scale with the cores; threads start at once and need no shared memory."""
    max_rejected: float = 0.1
    """Largest share of a stream's pictures that may turn out unusable: beyond it, counted from the first 1,000 on, the
    run stops and says why; a shorter run says so at its end. 1 = never stop."""

    def specs(self) -> dict[str, str]:
        return {"train": self.train}

    def crops(self) -> dict[str, RandomCrops]:
        return {"train": self.views}

    def batch_sizes(self) -> dict[str, int]:
        return {"train": self.batch}

    def flag(self, stream: str, setting: Literal["batch", "views"]) -> str:
        return f"--data.{setting}"

    def join(self, parts: dict[str, Any]) -> Any:
        return parts["train"]

    def part(self, batch: Any, stream: str) -> Any:
        return batch

    def problems(self) -> list[str]:
        return _problems(self, {"train": 2})

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        from abx.data import loader

        return loader.batches(sources["train"], self.views, self.batch, stream_seed(seed, 0), "train")


@dataclass(frozen=True)
class ABData:
    """Two independent streams: images that define the reward, and images on which the value function is learnt."""

    reward: str = "scenes"
    """Images that define the reward: `scenes` (built in, drawn on the fly), `folder:PATH` (searched with all its
    sub-folders), `tar:GLOB` (WebDataset), `arrayrecord:GLOB`, `parquet:GLOB`, or a mixture:
    `0.75*folder:a + 0.25*tar:b`."""
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
    reward_seed: int = 0
    """With --seed, the seed of the reward images' order and crops."""
    value_seed: int = 1
    """With --seed, the seed of the value images' order and crops. Another than the reward's, so that the same data on
    both sides is two independent samples of it (A-19)."""
    workers: int = 0
    """Processes or threads that decode and crop; 0 = one thread. Any number gives the same batches."""
    worker: Literal["process", "thread"] = "process"
    """What the workers are. Processes scale with the cores; threads start at once and need no shared memory."""
    max_rejected: float = 0.1
    """Largest share of a stream's pictures that may turn out unusable: beyond it, counted from the first 1,000 on, the
    run stops and says why; a shorter run says so at its end. 1 = never stop."""

    def specs(self) -> dict[str, str]:
        return {"reward": self.reward, "value": self.value}

    def crops(self) -> dict[str, RandomCrops]:
        return {"reward": self.reward_views, "value": self.value_views}

    def batch_sizes(self) -> dict[str, int]:
        return {"reward": self.reward_batch, "value": self.value_batch}

    def flag(self, stream: str, setting: Literal["batch", "views"]) -> str:
        return f"--data.{stream}_{setting}"

    def join(self, parts: dict[str, Any]) -> Any:
        return ABBatch(**parts)

    def part(self, batch: Any, stream: str) -> Any:
        return getattr(batch, stream)

    def problems(self) -> list[str]:
        found = _problems(self, {"reward": 2, "value": None})
        for name, seed in (("reward_seed", self.reward_seed), ("value_seed", self.value_seed)):
            if seed < 0:
                found.append(f"--data.{name} must be at least 0, not {seed}")
        return found

    def batches(self, sources: dict[str, Source], seed: int) -> grain.MapDataset:
        from abx.data import loader

        reward_seed, value_seed = stream_seed(seed, self.reward_seed), stream_seed(seed, self.value_seed)
        reward = loader.batches(sources["reward"], self.reward_views, self.reward_batch, reward_seed, "reward")
        value = loader.batches(sources["value"], self.value_views, self.value_batch, value_seed, "value")
        return loader.ab_batches(reward, value)


def stream_seed(run: int, stream: int) -> int:
    """The seed of a stream's order and crops, from the run's and its own: two pairs have the same by rare chance.

    Returns: in [0, 2**32).
    """
    return int(np.random.SeedSequence([run, stream]).generate_state(1)[0])


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


def _problems(data: Data, views: dict[str, int | None]) -> list[str]:
    """Args:
    views: how many views of an image a stream must cut; None = any number.
    """
    found = []
    for name, spec in data.specs().items():
        if sentence := check_spec(spec):
            found.append(f"--data.{name}: {sentence}")
    for name, batch in data.batch_sizes().items():
        if batch < 1:
            found.append(f"{data.flag(name, 'batch')} must be at least 1, not {batch}")
    for name, crops in data.crops().items():
        flag, n = data.flag(name, "views"), views[name]
        found += crops.problems(flag)
        if n is not None and crops.n != n:
            found.append(f"{flag}.n must be {n} here, not {crops.n}")
    if data.workers < 0:
        found.append(f"--data.workers must be at least 0, not {data.workers}")
    if not 0 <= data.max_rejected <= 1:
        found.append(f"--data.max_rejected must be a share from 0 to 1, not {data.max_rejected}")
    return found
