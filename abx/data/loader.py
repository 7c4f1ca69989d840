"""Batches as a pure function of (seed, step): random access to the last line, made a stream only at the end.

`ds[s]` is the batch of step s, whoever asks. To resume is to start the stream at step s; Grain's iterator state, which
depends on the number of workers, is never saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Int, UInt8

from abx.data.images import BadImage, center_crop
from abx.data.mixture import Mixture
from abx.data.sources import BadRecord, Source
from abx.data.texts import Texts
from abx.data.views import RandomCrops
from abx.types import ABBatch, Pairs, Record, Views

TRIES = 32
"""Records tried for one place in a batch before the data is given up as unusable."""


class Loaded(NamedTuple):
    """A batch, and for each stream in it what the host wants to know of where it came from."""

    batch: Any
    records: dict[str, Int[np.ndarray, " b"]]
    """The record that each row was cut from."""
    rejected: dict[str, Int[np.ndarray, " r"]]
    """Records that could not be used. Each was replaced by another, drawn by (seed, step) like everything else."""


@dataclass(frozen=True)
class Host:
    """Which machine of how many this is. Each makes its own rows of every batch: the first has the first."""

    index: int = 0
    count: int = 1


def batches(
    source: Source,
    crops: RandomCrops,
    batch: int,
    seed: int,
    name: str = "train",
    *,
    texts: Texts | None = None,
    host: Host = Host(),
) -> grain.MapDataset:
    """Endless batches of views: every epoch a new order and new crops, batches run on over the ends of epochs.

    Args:
        batch: images of all hosts together, whose number divides it.
        seed: in [0, 2**32).
        name: the stream's name, the key of `Loaded.records` and `Loaded.rejected`.
        texts: how a text goes with each image; without, there is none.

    Returns: a dataset of `Loaded` whose batch is `Views` "b n size size 3", or `Pairs` where there are texts; b is this
        host's share of the batch, and what it holds does not depend on how many hosts there are.
    """
    if batch % host.count:
        raise ValueError(f"a batch of {batch} cannot be shared by {host.count} hosts")
    rows = _numbers(source, seed).random_map(_Cut(source, crops, texts))
    return grain.MapDataset.source(_Share(rows, batch, host, name))


def ab_batches(reward: grain.MapDataset, value: grain.MapDataset) -> grain.MapDataset:
    """Two streams side by side, each with its own data, crops, batch size and order (METHODS A-19)."""
    length = min(len(reward), len(value))
    pairs = grain.experimental.ZipMapDataset([reward[:length], value[:length]])
    return pairs.map(_side_by_side)


def _side_by_side(pair: tuple[Loaded, Loaded]) -> Loaded:
    reward, value = pair
    return Loaded(ABBatch(reward.batch, value.batch), reward.records | value.records, reward.rejected | value.rejected)


def central(
    source: Source, count: int, size: int, *, labelled: bool, seed: int = 0
) -> tuple[UInt8[np.ndarray, "m size size 3"], Int[np.ndarray, " m"]]:
    """Central crops of up to `count` pictures and their classes (-1 = none): a fixed random choice.

    Unreadable pictures are passed over, and with `labelled` those without a class.
    """
    images: list[UInt8[np.ndarray, "size size 3"]] = []
    labels: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(source)):
        if len(images) == count or (labelled and not source.classes):
            break
        try:
            sample = source[int(i)]
        except BadRecord:
            continue
        if sample.label >= 0 or not labelled:
            images.append(center_crop(sample.image, size))
            labels.append(sample.label)
    if not images:
        return np.zeros((0, size, size, 3), np.uint8), np.zeros(0, np.int64)
    return np.stack(images), np.array(labels, np.int64)


def _numbers(source: Source, seed: int) -> grain.MapDataset:
    """The record of each place of the stream; of a mixture, every part in an order of its own."""
    if not isinstance(source, Mixture):
        return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    seeds = np.random.SeedSequence(seed).generate_state(len(source.parts)).tolist()
    orders = [_numbers(part, own) for part, own in zip(source.parts, seeds, strict=True)]
    return grain.MapDataset.source(_Mixed(source, orders)).seed(seed)


@dataclass(frozen=True)
class _Mixed:
    """The record of each place of a mixture's stream."""

    mixture: Mixture
    orders: list[grain.MapDataset]

    def __len__(self) -> int:
        return min(map(len, self.orders))

    def __getitem__(self, place: int) -> int:
        k, nth = self.mixture.turn(int(place))
        return self.mixture.first(k) + int(self.orders[k][nth])


class _Row(NamedTuple):
    views: Views
    text: UInt8[np.ndarray, " t"] | None
    record: int
    rejected: list[int]


class _Cut(grain.transforms.RandomMap):
    """Record number to its crops; a record that cannot be used gives way to another."""

    def __init__(self, source: Source, crops: RandomCrops, texts: Texts | None) -> None:
        self.source, self.crops, self.texts = source, crops, texts

    def random_map(self, index: int, rng: np.random.Generator) -> _Row:
        index, rejected = int(index), list[int]()
        while True:
            try:
                return self._cut(self.source.stored(index), index, rejected, rng)
            except (BadRecord, BadImage) as bad:
                rejected.append(index)
                if len(rejected) == TRIES:
                    name = self.source.name(index)
                    raise BadRecord(f"{TRIES} records in a row could not be used; the last, {name}: {bad}") from bad
                index = _another(self.source, index, rng)

    def _cut(self, record: Record, index: int, rejected: list[int], rng: np.random.Generator) -> _Row:
        text = None if self.texts is None else self.texts(record, self.source.vocabulary, rng)
        return _Row(self.crops(record.image, rng), text, index, rejected)


def _another(source: Source, index: int, rng: np.random.Generator) -> int:
    """A record in place of this one: of a mixture from the same part, whose share would else shrink."""
    if not isinstance(source, Mixture):
        return int(rng.integers(len(source)))
    k, _ = source.place(index)
    return source.first(k) + int(rng.integers(len(source.parts[k])))


@dataclass(frozen=True)
class _Share:
    """A host's rows of each batch. A class and not a closure, so that workers get it by its name."""

    rows: grain.MapDataset
    batch: int
    host: Host
    name: str

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __getitem__(self, step: int) -> Loaded:
        own = self.batch // self.host.count
        first = int(step) * self.batch + self.host.index * own
        return _stack([self.rows[place] for place in range(first, first + own)], self.name)


def _stack(rows: Sequence[_Row], name: str) -> Loaded:
    """Rows of one stream to a batch."""
    views = Views(*(np.stack(part) for part in zip(*(row.views for row in rows), strict=True)))
    texts = [row.text for row in rows if row.text is not None]
    return Loaded(
        Pairs(views, np.stack(texts)) if texts else views,
        {name: np.array([row.record for row in rows], np.int64)},
        {name: np.array([i for row in rows for i in row.rejected], np.int64)},
    )
