"""Features of a frozen backbone: every picture of a source once, in its order, for any batch size and any devices.

Pictures are read and decoded by threads while the devices are at work on those before.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Literal, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from abx import parallel
from abx.data.images import BadImage, Picture, center_crop
from abx.data.sources import BadRecord, Source, SpecError, printable
from abx.nn import ViT
from abx.probes.questions import Facts, facts_of
from abx.types import Objects, Record

CHUNK = 16
"""Pictures that a thread takes at a time: handing over costs as much as decoding a very small one."""
Precision: TypeAlias = Literal["float16", "float32"]
"""Of tokens on a disk."""


class Features(NamedTuple):
    """What a backbone makes of pictures, and what is known of them."""

    tokens: Float[np.ndarray, "m t d"] | None
    """As the backbone's last norm gives them, in float16 unless float32 was asked for; a map of a file, of which only
    what is used is in memory. None where they were not asked for."""
    pooled: Float[np.ndarray, "m d"]
    """float32."""
    facts: list[Facts]
    names: list[str]
    places: Int[np.ndarray, " m"]
    """Positions of the pictures in the records that were asked for: of those that could be read."""
    rejected: list[tuple[str, str]]
    """Names and reasons of the others, which are in none of the above."""


@dataclass(frozen=True)
class Look:
    """How a picture is shown to the network."""

    size: int = 224
    """Side of the view in pixels."""
    shows: Literal["centre", "whole"] = "centre"
    """centre: the short side to size 256 / 224, then the central square, the usual view for classes. whole: all of the
    picture, squeezed to a square, so that nothing that is asked about is cut off and boxes stay true."""

    def __call__(self, record: Record) -> UInt8[np.ndarray, "size size 3"]:
        """Raises: BadImage."""
        picture = Picture(record.image)
        if self.shows == "centre":
            return center_crop(picture.pixels(), self.size)
        return picture.crops(np.array([[0, 0, 1, 1]], np.float32), self.size, "bicubic")[0]


class Seen(NamedTuple):
    """Some pictures as a network sees them."""

    images: UInt8[np.ndarray, "b size size 3"]
    """Always as many; what is over is black."""
    places: Int[np.ndarray, " n"]
    """Positions of the first n of them in the records that were asked for."""
    facts: list[Facts]
    names: list[str]


def some(source: Source, count: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """Numbers of `count` records of a source, ascending: a fixed random choice; of all for 0."""
    if not 0 < count < len(source):
        return np.arange(len(source))
    return np.sort(np.random.default_rng(seed).permutation(len(source))[:count])


def pictures(
    source: Source,
    records: Sequence[int] | Int[np.ndarray, " r"],
    look: Look,
    batch: int,
    rejected: list[tuple[str, str]],
    threads: int = 0,
) -> Iterator[Seen]:
    """These records, each once and in this order, `batch` at a time. What cannot be read is added to `rejected`.

    Args:
        threads: that read and decode; 0 = as many as there are cores.
    """

    def see(part: Iterable[tuple[int, int]]) -> list[tuple[int, str, Facts, Any]]:
        found: list[tuple[int, str, Facts, Any]] = []
        for place, i in part:
            name = source.name(i)
            try:
                record = source.stored(i)
                found.append((place, name, plain(facts_of(record)), look(record)))
            except (BadRecord, BadImage) as bad:
                found.append((place, name, Facts(), str(bad)))
        return found

    numbered = list(enumerate(int(i) for i in records))
    parts = [numbered[start : start + CHUNK] for start in range(0, len(numbered), CHUNK)]
    threads = threads or os.cpu_count() or 1
    seen = Seen(np.zeros((batch, look.size, look.size, 3), np.uint8), np.zeros(0, np.int64), [], [])
    places: list[int] = []
    # As many parts ahead as fill a batch, for the threads to go on while one is on its way to the devices.
    for part in _in_order(see, parts, threads, 2 * threads + -(-batch // CHUNK)):
        for place, name, facts, view in part:
            if isinstance(view, str):
                rejected.append((name, view))
                continue
            seen.images[len(places)] = view
            places.append(place)
            seen.facts.append(facts)
            seen.names.append(name)
            if len(places) == batch:
                yield seen._replace(places=np.array(places, np.int64))
                seen, places = Seen(np.zeros_like(seen.images), seen.places, [], []), []
    if places:
        yield seen._replace(places=np.array(places, np.int64))


def extract(
    backbone: ViT,
    source: Source,
    look: Look,
    *,
    records: Sequence[int] | Int[np.ndarray, " r"] | None = None,
    tokens: bool = True,
    precision: Precision = "float16",
    batch: int = 256,
    threads: int = 0,
    mesh: Mesh | None = None,
    file: IO[bytes] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Features of these records, or of all.

    Args:
        tokens: whether they are wanted; without them there is less to move and nothing to write.
        precision: of the tokens. float16 has all digits of bfloat16, in which accelerators compute.
        batch: pictures at a time over all devices; raised to a multiple of their number.
        file: where the tokens are written, one picture after the other; a nameless temporary file unless it is given.
        progress: told now and then of how many pictures of how many have been looked at.

    Raises: SpecError when none of the pictures can be read.
    """
    mesh = mesh or parallel.mesh()
    records = np.arange(len(source)) if records is None else records
    batch = -(-batch // mesh.size) * mesh.size
    backbone = parallel.place(backbone, parallel.replicated(mesh))
    forward = partial(_tokens_and_pooled, precision=precision) if tokens else pooled_only
    rejected: list[tuple[str, str]] = []
    pooled, places, facts, names = [], [], list[Facts](), list[str]()
    shape: tuple[int, ...] = ()
    under_way: deque[tuple[Seen, Any]] = deque()

    def take() -> None:
        nonlocal shape
        seen, found = under_way.popleft()
        count = len(seen.places)
        pooled.append(np.asarray(found[-1])[:count])
        places.append(seen.places)
        facts.extend(seen.facts)
        names.extend(seen.names)
        if tokens and file is not None:
            part = np.asarray(found[0])[:count]
            shape = part.shape[1:]
            file.write(part.data)
        progress(int(seen.places[-1]) + 1, len(records))

    with ExitStack() as stack:
        if tokens and file is None:
            file = stack.enter_context(tempfile.TemporaryFile())
        # One batch on the devices while the next is put together.
        for seen in pictures(source, records, look, batch, rejected, threads):
            under_way.append((seen, forward(backbone, parallel.place(seen.images, parallel.batched(mesh)))))
            if len(under_way) > 1:
                take()
        while under_way:
            take()
        if not names:
            first = f"; the first: {rejected[0][0]}: {printable(rejected[0][1])}" if rejected else ""
            raise SpecError(f"none of the {len(records):,} pictures could be read{first}")
        mapped = None
        if tokens and file is not None:
            file.flush()
            mapped = np.memmap(file, precision, "r", shape=(len(names), *shape))
    return Features(mapped, np.concatenate(pooled), facts, names, np.concatenate(places), rejected)


def plain(facts: Facts) -> Facts:
    """With numbers of one type each, whatever the source has: the same that come back from a cache."""
    objects = facts.objects
    if objects is not None:
        flags = None if objects.flags is None else np.asarray(objects.flags, np.uint8)
        boxes = np.asarray(objects.boxes, np.float32).reshape(-1, 4)
        objects = Objects(boxes, np.asarray(objects.labels, np.int64), flags)
    label, count, verb, noun = int(facts.label), int(facts.count), int(facts.verb), int(facts.noun)
    return Facts(label, tuple(facts.captions), objects, count, float(facts.distance), verb, noun)


@partial(jax.jit, static_argnames="precision")
def _tokens_and_pooled(
    backbone: ViT, images: UInt8[Array, "b h w 3"], precision: Precision
) -> tuple[Float[Array, "b t d"], Float[Array, "b d"]]:
    tokens = jax.vmap(backbone)(images)
    pooled = jax.vmap(backbone.pool)(tokens)
    # Numbers after a norm, far from the largest that float16 holds; of bfloat16 it keeps every digit.
    return tokens.astype(precision), pooled.astype(jnp.float32)


@jax.jit
def pooled_only(backbone: ViT, images: UInt8[Array, "b h w 3"]) -> tuple[Float[Array, "b d"]]:
    """The bare forward pass."""
    return (jax.vmap(lambda image: backbone.pool(backbone(image)))(images).astype(jnp.float32),)


In = TypeVar("In")
Out = TypeVar("Out")


def _in_order(call: Callable[[In], Out], parts: Sequence[In], threads: int, ahead: int) -> Iterator[Out]:
    """What `call` makes of each, in order, by threads; at most `ahead` are made before they are asked for."""
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(call, part))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
