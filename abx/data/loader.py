"""Batches as a pure function of (seed, step): random access to the last line, made a stream only at the end.

`ds[s]` is the batch of step s, whoever asks. To resume is to start the stream at step s; Grain's iterator state, which
depends on the number of workers, is never saved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float, Int, UInt8

from abx.data.images import BadImage, center_crop
from abx.data.mixture import Mixture
from abx.data.sources import BadRecord, Source
from abx.data.texts import Texts, encode
from abx.data.views import Crops, cut
from abx.types import AnyArray, Pairs, Views

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
    crops: Crops,
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

    Returns:
        a dataset of `Loaded` whose batch is `Views` "b n size size 3", or what else `crops` join their kinds to, or
        `Pairs` of that where there are texts; b is this host's share of the batch, and what it holds does not depend on
        how many hosts there are.
    """
    if batch % host.count:
        raise ValueError(f"a batch of {batch} cannot be shared by {host.count} hosts")
    return grain.MapDataset.source(_Batches(source, _order(source, seed), crops, texts, batch, seed, host, name))


def side_by_side(streams: Mapping[str, grain.MapDataset], join: Callable[[dict[str, Any]], Any]) -> grain.MapDataset:
    """Several streams at once, each with its own data, crops, batch size and order (METHODS A-19).

    Args:
        join: makes one batch of what each stream gives, by name.
    """
    if len(streams) == 1:
        (only,) = streams.values()
        return only
    length = min(map(len, streams.values()))
    together = grain.experimental.ZipMapDataset([stream[:length] for stream in streams.values()])
    return together.map(_Join(tuple(streams), join))


@dataclass(frozen=True)
class _Join:
    names: tuple[str, ...]
    join: Callable[[dict[str, Any]], Any]

    def __call__(self, parts: Sequence[Loaded]) -> Loaded:
        merged = [{k: v for part in parts for k, v in part[field].items()} for field in (1, 2, 3)]
        return Loaded(self.join({name: part.batch for name, part in zip(self.names, parts, strict=True)}), *merged)


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


NO_TEXT = np.zeros(0, np.int32)


class _Row(NamedTuple):
    boxes: list[Float[AnyArray, "n 4"]]
    """Of each kind of crops."""
    text: Int[np.ndarray, " t"]
    record: int
    rejected: list[tuple[int, str]]
    """Numbers and reasons."""


@dataclass(frozen=True)
class _Batches:
    """A host's rows of the batch of each step."""

    source: Source
    order: _Order | _Mixed
    crops: Crops
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
        kinds = self.crops.kinds().values()
        images = [np.empty((own, kind.n, kind.size, kind.size, 3), np.uint8) for kind in kinds]
        rows = [self._row(first + i, [kind[i] for kind in images]) for i in range(own)]
        boxes = [np.stack(kind) for kind in zip(*(row.boxes for row in rows), strict=True)]
        views = self.crops.join([Views(*kind) for kind in zip(images, boxes, strict=True)])
        rejected = [each for row in rows for each in row.rejected]
        return Loaded(
            views if self.texts is None else Pairs(views, np.stack([row.text for row in rows])),
            {self.name: np.array([row.record for row in rows], np.int64)},
            {self.name: np.array([i for i, _ in rejected], np.int64)},
            {self.name: np.array([encode(why, REASON) for _, why in rejected], np.uint8).reshape(-1, REASON)},
        )

    def _row(self, place: int, images: list[UInt8[np.ndarray, "_ _ _ 3"]]) -> _Row:
        """The crops of the record whose turn it is; one that cannot be used gives way to another.

        Args:
            images: of each kind of crops, filled with the views.
        """
        # A stream of random numbers of its own for each place. Below `MAX_IMAGES` are the keys of orders.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, place + MAX_IMAGES]))
        index, rejected = self.order[place], list[tuple[int, str]]()
        for _ in range(TRIES):
            try:
                record = self.source.stored(index)
                text = NO_TEXT if self.texts is None else self.texts(record, self.source.vocabulary, rng)
                views = cut(self.crops, record.image, rng, images)
                return _Row([kind.boxes for kind in views], text, index, rejected)
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
