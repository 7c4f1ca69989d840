"""Batches as a pure function of (seed, step): random access to the last line, made a stream only at the end.

`ds[s]` is the batch of step s, whoever asks. To resume is to start the stream at step s; Grain's iterator state, which
depends on the number of workers, is never saved.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float, Int, UInt8

from abx.data.images import BadImage, center_crop
from abx.data.mixture import Mixture
from abx.data.sources import BadRecord, Source
from abx.data.texts import Texts, encode
from abx.data.views import RandomCrops
from abx.types import ABBatch, AnyArray, Pairs, Views

STREAM = 2
"""Version of what (seed, step) gives: another when records, crops or texts of a step become others."""
TRIES = 1000
"""Records tried for one place in a batch before the data is given up: even of data that is nearly all bad, a good one
turns up before that."""
REASON = 240
"""Bytes of the reason for which one was not used."""
MAX_IMAGES = 1 << 60
"""Of a stream: as good as endless."""


class Loaded(NamedTuple):
    """A batch, and for each stream in it what the host wants to know of where it came from."""

    batch: Any
    records: dict[str, Int[np.ndarray, " b"]]
    """The record that each row was cut from."""
    rejected: dict[str, Int[np.ndarray, " r"]]
    """Records that could not be used. Each was replaced by another, drawn by (seed, step) like everything else."""
    reasons: dict[str, UInt8[np.ndarray, "r t"]]
    """Why not, as `texts.encode` has it."""


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
    return grain.MapDataset.source(_Batches(source, _order(source, seed), crops, texts, batch, seed, host, name))


def ab_batches(reward: grain.MapDataset, value: grain.MapDataset) -> grain.MapDataset:
    """Two streams side by side, each with its own data, crops, batch size and order (METHODS A-19)."""
    length = min(len(reward), len(value))
    pairs = grain.experimental.ZipMapDataset([reward[:length], value[:length]])
    return pairs.map(_side_by_side)


def _side_by_side(pair: tuple[Loaded, Loaded]) -> Loaded:
    reward, value = pair
    return Loaded(
        ABBatch(reward.batch, value.batch),
        reward.records | value.records,
        reward.rejected | value.rejected,
        reward.reasons | value.reasons,
    )


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


def _order(source: Source, seed: int) -> "_Order | _Mixed":
    """The record of each place of the stream; of a mixture, every part in an order of its own."""
    if not isinstance(source, Mixture):
        return _Order(len(source), seed)
    seeds = np.random.SeedSequence(seed).generate_state(len(source.parts)).tolist()
    return _Mixed(source, [_order(part, own) for part, own in zip(source.parts, seeds, strict=True)])


class _Order:
    """All records in random order, and again in another, for ever. Holds two of these orders, 4 bytes a record."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, place: int) -> int:
        epoch, at = divmod(place, self._length)
        order = self._kept.get(epoch)
        if order is None:
            rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            order = rng.permutation(np.arange(self._length, dtype=np.uint32))
            # Threads may be in two epochs; to make one twice does no harm.
            self._kept = dict([*self._kept.items(), (epoch, order)][-2:])
        return int(order[at])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


@dataclass(frozen=True)
class _Mixed:
    """The record of each place of a mixture's stream."""

    mixture: Mixture
    orders: "list[_Order | _Mixed]"

    def __getitem__(self, place: int) -> int:
        k, nth = self.mixture.turn(place)
        return self.mixture.first(k) + self.orders[k][nth]


NO_TEXT = np.zeros(0, np.uint8)


class _Row(NamedTuple):
    boxes: Float[AnyArray, "n 4"]
    text: UInt8[np.ndarray, " t"]
    record: int
    rejected: list[tuple[int, str]]
    """Numbers and reasons."""


@dataclass(frozen=True)
class _Batches:
    """A host's rows of the batch of each step."""

    source: Source
    order: _Order | _Mixed
    crops: RandomCrops
    texts: Texts | None
    batch: int
    seed: int
    host: Host
    name: str

    def __len__(self) -> int:
        return MAX_IMAGES // self.batch

    def __getitem__(self, step: int) -> Loaded:
        own = self.batch // self.host.count
        first = int(step) * self.batch + self.host.index * own
        # Each row is written to its place: no second copy of a batch, which may be a gigabyte.
        images = np.empty((own, self.crops.n, self.crops.size, self.crops.size, 3), np.uint8)
        rows = [self._row(first + i, images[i]) for i in range(own)]
        views = Views(images, np.stack([row.boxes for row in rows]))
        rejected = [each for row in rows for each in row.rejected]
        return Loaded(
            views if self.texts is None else Pairs(views, np.stack([row.text for row in rows])),
            {self.name: np.array([row.record for row in rows], np.int64)},
            {self.name: np.array([i for i, _ in rejected], np.int64)},
            {self.name: np.array([encode(why, REASON) for _, why in rejected], np.uint8).reshape(-1, REASON)},
        )

    def _row(self, place: int, images: UInt8[np.ndarray, "n size size 3"]) -> _Row:
        """The crops of the record whose turn it is; one that cannot be used gives way to another.

        Args:
            images: filled with the views.
        """
        # A stream of random numbers of its own for each place. Below `MAX_IMAGES` are the keys of orders.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, place + MAX_IMAGES]))
        index, rejected = self.order[place], list[tuple[int, str]]()
        for _ in range(TRIES):
            try:
                record = self.source.stored(index)
                text = NO_TEXT if self.texts is None else self.texts(record, self.source.vocabulary, rng)
                return _Row(self.crops(record.image, rng, images).boxes, text, index, rejected)
            except (BadRecord, BadImage) as bad:
                rejected.append((index, str(bad)))
                index = _another(self.source, index, rng)
        index, reason = rejected[-1]
        name = self.source.name(index)
        raise BadRecord(f"{TRIES} records in a row could not be used; the last, {name}: {reason}")


def _another(source: Source, index: int, rng: np.random.Generator) -> int:
    """A record in place of this one: of a mixture from the same part, whose share would else shrink."""
    if not isinstance(source, Mixture):
        return int(rng.integers(len(source)))
    k, _ = source.place(index)
    return source.first(k) + int(rng.integers(len(source.parts[k])))
