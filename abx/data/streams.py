"""What a run trains on: one stream of images, or several side by side. Opening them is the loader's job."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from abx.data.sources import BadRecord, Source, SpecError
from abx.data.specs import check_spec, open_for
from abx.data.texts import Texts
from abx.data.views import Crops, views_per_image
from abx.types import Pairs, Views

if TYPE_CHECKING:
    import grain

    from abx.data.loader import Host


class Stream(NamedTuple):
    """One stream of a batch: where its images come from, how many a step takes, how each is cut."""

    spec: str
    batch: int
    crops: Crops
    views: Mapping[str, int] = MappingProxyType({})
    """Kinds of crops, as `Crops.kinds` names them, of which the method takes exactly so many."""
    texts: Texts | None = None
    seed: int = 0


class Data:
    """The data of a recipe: a frozen dataclass that says which `streams` it has. The rest follows."""

    workers: int
    worker: Literal["process", "thread"]
    max_rejected: float
    batch_type: ClassVar[type | None] = None
    """The NamedTuple of a batch, whose fields are the streams; None where there is one stream and a batch is its."""

    def streams(self) -> dict[str, Stream]:
        """By name: what `--data.NAME` gives the images of. The first has the labels, if any; the last is looked at."""
        raise NotImplementedError

    def flag(self, stream: str, setting: Literal["batch", "views", "text"]) -> str:
        """The flag that sets it, by its fields: --data.reward_batch"""
        return f"--data.{setting}" if self.batch_type is None else f"--data.{stream}_{setting}"

    def join(self, parts: dict[str, Any]) -> Any:
        """A batch, from what each stream gives to it."""
        if self.batch_type is not None:
            return self.batch_type(**parts)
        (only,) = parts.values()
        return only

    def part(self, batch: Any, stream: str) -> Any:
        """What a stream gave to a batch."""
        return batch if self.batch_type is None else getattr(batch, stream)

    def problems(self) -> list[str]:
        """What is wrong with the choice: one sentence each, naming the flag."""
        found = []
        for name, stream in self.streams().items():
            alone = [kind for kind, crops in stream.crops.kinds().items() if crops.n == 1 and crops.overlap]
            found += [
                f"{self.flag(name, 'views')}{kind}.overlap must be 0 with one view: there is none to overlap"
                for kind in alone
            ]
            if sentence := check_spec(stream.spec):
                found.append(f"--data.{name}: {sentence}")
            if stream.batch < 1:
                found.append(f"{self.flag(name, 'batch')} must be at least 1, not {stream.batch}")
            flag, kinds = self.flag(name, "views"), stream.crops.kinds()
            found += stream.crops.problems(flag)
            for kind, n in stream.views.items():
                if kinds[kind].n != n:
                    found.append(f"{flag}{kind}.n must be {n} here, not {kinds[kind].n}")
            if stream.texts is not None:
                found += stream.texts.problems(self.flag(name, "text"))
            if stream.seed < 0:
                found.append(f"--data.{name}_seed must be at least 0, not {stream.seed}")
        if self.workers < 0:
            found.append(f"--data.workers must be at least 0, not {self.workers}")
        if not 0 <= self.max_rejected <= 1:
            found.append(f"--data.max_rejected must be a share from 0 to 1, not {self.max_rejected}")
        return found

    def batches(self, sources: dict[str, Source], seed: int, host: Host | None = None) -> grain.MapDataset:
        """`Loaded` batches by step, for a run of this seed; of several machines the rows of `host`."""
        from abx.data import loader

        host = host or loader.Host()
        opened = {
            name: loader.batches(
                sources[name], s.crops, s.batch, stream_seed(seed, s.seed), name, texts=s.texts, host=host
            )
            for name, s in self.streams().items()
        }
        return loader.side_by_side(opened, self.join)

    def blank(self) -> Any:
        """A batch of the right shapes and types without a picture in it."""
        parts = {}
        for name, stream in self.streams().items():
            b, whole = stream.batch, np.array([0, 0, 1, 1], np.float32)
            kinds = [
                Views(np.zeros((b, k.n, k.size, k.size, 3), np.uint8), np.tile(whole, (b, k.n, 1)))
                for k in stream.crops.kinds().values()
            ]
            views, texts = stream.crops.join(kinds), stream.texts
            parts[name] = Pairs(views, np.zeros((b, texts.length), np.int32)) if texts else views
        return self.join(parts)


def stream_seed(run: int, stream: int) -> int:
    """The seed of a stream's order and crops, from the run's and its own: two pairs have the same by rare chance.

    Returns: in [0, 2**32).
    """
    return int(np.random.SeedSequence([run, stream]).generate_state(1)[0])


def open_sources(data: Data) -> dict[str, Source]:
    """Index each data string once, however many streams name it, and make sure that something in it can be read.

    Raises: SpecError, one sentence that names the flag.
    """
    opened: dict[str, Source] = {}
    streams = data.streams()
    specs = {name: stream.spec for name, stream in streams.items()}
    for name, spec in specs.items():
        if spec not in opened:
            opened[spec] = open_for(f"--data.{name}", spec)
        if (texts := streams[name].texts) is not None and not has_text(opened[spec], texts):
            kind = f"{data.flag(name, 'text')}.kind {texts.kind}"
            raise SpecError(
                f"--data.{name}: {kind} finds no text with any of the first {LOOKED_AT:,} images; tar:, parquet: and "
                "arrayrecord: can carry captions and boxes"
            )
    return {name: opened[spec] for name, spec in specs.items()}


LOOKED_AT = 1000
"""Records in which a text is sought before data is said to have none."""


def has_text(source: Source, texts: Texts) -> bool:
    rng = np.random.default_rng(0)
    for i in range(min(LOOKED_AT, len(source))):
        try:
            texts(source.stored(i), source.vocabulary, rng)
        except BadRecord:
            continue
        return True
    return False


def views_per_step(data: Data) -> int:
    """Views that a step trains on, each crop counted once, as the paper counts (A-42)."""
    return sum(stream.batch * views_per_image(stream.crops) for stream in data.streams().values())
