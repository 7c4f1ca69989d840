"""A look at all records of a source, or at an even choice: what they are, and which cannot be used and why."""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from abx.data.mixture import Mixture
from abx.data.sources import BadRecord, Source
from abx.data.tally import Tally, digest


class Spread(NamedTuple):
    """Smallest, median (the lower of two) and largest."""

    low: float
    median: float
    high: float


class Named(NamedTuple):
    """A class, and how many have it."""

    name: str
    count: int  # type: ignore[assignment]  # hides tuple.count


@dataclass(frozen=True)
class Survey:
    """What a source holds. All counts are of the readable records among those read, where nothing else is said."""

    records: int
    """In the source."""
    read: int
    """Of them, looked at."""
    readable: int
    rejected: dict[str, str]
    """Name and reason: of what indexing left out (`Source.problems`), then of the records that cannot be used. A name
    that occurs again is followed by #2, #3, ..."""
    notes: tuple[str, ...]
    """`Source.notes`."""
    formats: dict[str, int]
    """Of all records that were read, by their first bytes; "drawn" are pixels without a file."""
    sizes: Counter[tuple[int, int]]
    """Pictures by height and width."""
    turned: int
    """Pictures that their EXIF orientation turns or mirrors."""
    mean_bytes: float
    """Of a picture file; 0 where all are drawn."""
    copies: int
    """Pictures of which an earlier one has the same bytes."""
    classes: tuple[Named, ...]
    """Every class, also those without a picture; () where no class is known."""
    captions: Counter[int]
    """Pictures by number of captions."""
    words: Counter[int]
    """Captions by number of words."""
    repeated: int
    """Pictures with a caption that another picture has, too."""
    most_repeated: tuple[tuple[str, int], ...]
    """Up to five captions and the number of pictures that have them, two at least."""
    boxes: Counter[int]
    """Pictures by number of boxes, of those whose boxes are known."""
    box_classes: tuple[Named, ...]
    flagged: int
    """Boxes of which flags are known."""
    flags: tuple[Named, ...]
    counts: Counter[int]
    """Pictures by stated number of objects."""
    verbs: tuple[Named, ...]
    nouns: tuple[Named, ...]
    distanced: int
    """Pictures whose distance is known."""
    distance: Spread | None
    seconds: float = field(compare=False)
    """Processor time that reading and decoding the readable ones took; waiting for the disk is not in it."""

    @property
    def images(self) -> int:
        """Readable or rejected: what was looked at, and what indexing left out, a shard that cannot be read as one."""
        return self.readable + len(self.rejected)

    @property
    def rate(self) -> float:
        """Pictures a second on one core, NaN where none was read."""
        return self.readable / self.seconds if self.seconds > 0 else float("nan")


DRAWN = 1000
"""Drawn records that are looked at where no limit is given: of them there are as many as one likes."""


def survey(
    source: Source, limit: int | None = 0, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Read and decode records one by one; none is kept.

    Args:
        limit: largest number of records to look at, evenly spaced; 0 = all; None = all of files, and `DRAWN` of data
            that is drawn, in a mixture of each part.
        workers: processes; with more than 1 they are spawned, so the program needs a `__main__` guard. The survey is
            the same for every number.
        progress: is called with the number of records done and of all to do, from time to time.
    """
    if limit is None:
        parts = source.parts if isinstance(source, Mixture) else (source,)
        firsts = np.cumsum([0, *map(len, parts)]).tolist()
        chosen = [
            chunk
            for part, first in zip(parts, firsts, strict=False)
            for chunk in _chosen(first, len(part), DRAWN if _is_drawn(part) else 0)
        ]
    else:
        chosen = _chosen(0, len(source), limit)
    wanted = sum(map(len, chosen))
    together = Tally()
    for tally in _tallies(source, chosen, workers):
        together += tally
        if progress:
            progress(together.read, wanted)
    return _survey(source, together)


def _chosen(first: int, total: int, limit: int) -> list[Sequence[int]]:
    """Numbers of up to `limit` records, all for 0, of `total` from `first` on, in parts."""
    wanted = min(limit, total) if limit else total
    parts = [range(start, min(start + _CHUNK, wanted)) for start in range(0, wanted, _CHUNK)]
    if wanted == total:
        return [range(first + part.start, first + part.stop) for part in parts]
    return [[first + i * total // wanted for i in part] for part in parts]


def _is_drawn(source: Source) -> bool:
    """Whether its pictures are no files, which the first one tells."""
    try:
        return len(source) > 0 and not isinstance(source.stored(0).image, bytes)
    except BadRecord:
        return False


_CHUNK = 256
"""Records that are counted in one go."""


def _tallies(source: Source, parts: Sequence[Sequence[int]], workers: int) -> Iterator[Tally]:
    """Of each part, in order."""
    if not parts:
        return
    if workers == 1:
        _warm(source)
        yield from (_tally(source, part) for part in parts)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(source,))
    try:
        yield from pool.map(_part, parts)
    finally:
        pool.shutdown(cancel_futures=True)


def _warm(source: Source) -> None:
    """The first picture loads decoders, whose time is not that of decoding."""
    Tally().add(source, 0)


def _tally(source: Source, part: Sequence[int]) -> Tally:
    tally = Tally()
    for i in part:
        tally.add(source, i)
    return tally


_source: Source
"""In a worker process: what it reads, sent once."""


def _begin(source: Source) -> None:
    global _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent to stop
    _source = source
    _warm(source)


def _part(part: Sequence[int]) -> Tally:
    return _tally(_source, part)


def _survey(source: Source, tally: Tally) -> Survey:
    readable = tally.read - len(tally.refused)
    filed = readable - tally.formats.get("drawn", 0)
    repeated, most_repeated = _repeats(source, tally)
    words = source.vocabulary
    distances = np.sort(np.array(tally.distances, np.float64))
    return Survey(
        records=len(source),
        read=tally.read,
        readable=readable,
        rejected=_numbered((*source.problems, *tally.refused)),
        notes=source.notes,
        formats=dict(tally.formats.most_common()),
        sizes=tally.sizes,
        turned=tally.turned,
        mean_bytes=tally.size_stored / filed if filed else 0.0,
        copies=readable - len(np.unique(np.array(tally.pictures, np.uint64))),
        classes=_named(tally.labels, source.classes),
        captions=tally.captions,
        words=tally.words,
        repeated=repeated,
        most_repeated=most_repeated,
        boxes=tally.objects,
        box_classes=_named(tally.box_labels, words.objects),
        flagged=tally.flags[0],
        flags=tuple(Named(name, tally.flags[bit]) for bit, name in _FLAGS.items()) if tally.flags[0] else (),
        counts=tally.counts,
        verbs=_named(tally.verbs, words.verbs),
        nouns=_named(tally.nouns, words.nouns),
        distanced=len(distances),
        distance=Spread(distances[0], distances[(len(distances) - 1) // 2], distances[-1]) if len(distances) else None,
        seconds=tally.seconds,
    )


def _numbered(rejected: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By name; the second of one name, and so on, under a name of its own."""
    found, times = dict[str, str](), Counter[str]()
    for name, reason in rejected:
        times[name] += 1
        key = name if times[name] == 1 else f"{name} #{times[name]}"
        while key in found:  # something else has that very name
            times[name] += 1
            key = f"{name} #{times[name]}"
        found[key] = reason
    return found


_FLAGS = {1: "crowd", 2: "difficult", 4: "truncated"}


def _named(numbers: Counter[int], names: Sequence[str]) -> tuple[Named, ...]:
    """By number; a number without a name is its own."""
    last = max([*numbers, len(names) - 1]) if numbers else -1
    return tuple(Named(names[i] if i < len(names) else str(i), numbers[i]) for i in range(last + 1))


def _repeats(source: Source, tally: Tally) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Pictures with a caption that another has, and the captions that most have; the earlier first of as many."""
    said, of = np.array(tally.said, np.uint64), np.array(tally.said_of, np.int64)
    _, first, inverse, counts = np.unique(said, return_index=True, return_inverse=True, return_counts=True)
    repeated = len(np.unique(of[counts[inverse] > 1]))
    most = np.lexsort((first, -counts))[:5]
    texts = []
    for k in most[counts[most] > 1]:
        try:
            captions = source.stored(int(of[first[k]])).captions
        except BadRecord:  # it could be read a moment ago
            continue
        wanted = int(said[first[k]])
        texts += [
            (caption, int(counts[k]))
            for caption in dict.fromkeys(captions)
            if digest(caption.encode("utf-8", "surrogatepass")) == wanted
        ]
    return repeated, tuple(texts)


Number = TypeVar("Number", int, float)


def spread(counter: Counter[Number]) -> Spread | None:
    """Of numbers and how often each occurs; None of none."""
    if not counter:
        return None
    numbers = sorted(counter)
    ends = np.cumsum([counter[number] for number in numbers])
    return Spread(numbers[0], numbers[int(np.searchsorted(ends, (ends[-1] + 1) // 2))], numbers[-1])
