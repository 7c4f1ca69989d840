"""A cache of features, keyed by all that they depend on: the network, the pictures, and how they were shown.

An entry is a folder with the tokens, the pooled features, what is known of the pictures, and `entry.json`, which tells
whether the rest is whole. It is written beside and moved: it is there whole or not at all.
"""

import dataclasses
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from abx.data.sources import BadRecord, Source, SpecError, cache_home, fingerprint, stamp
from abx.nn import ViT
from abx.nn.layers import compute_dtype
from abx.probes.features import Features, Look, extract, plain
from abx.probes.questions import Facts, facts_of
from abx.types import Objects

VERSION = 1
"""Of the entries, and of what features are for a given key."""
LOOKED_AT = 64
"""Records whose bytes go into the key: of data without files all that tells one from another of the same names."""
LEFT = 3600.0
"""Seconds after which an entry that is not finished will not be."""
BLOCK, BLOCKS = 1 << 16, 256
"""A file is checked whole up to 16 MiB, and by as many blocks, evenly spread, above: 190 GB would take minutes."""


def cache_folder() -> Path:
    """Of features, in `cache_home`."""
    return Path(cache_home()) / "features"


def digest(model: Any) -> str:
    """sha256 over the bytes of all its arrays, in the order of their paths."""
    found = hashlib.sha256()
    for _, leaf in sorted(jax.tree_util.tree_leaves_with_path(model), key=lambda item: jax.tree_util.keystr(item[0])):
        found.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return found.hexdigest()


def kept(
    backbone: ViT,
    source: Source,
    look: Look,
    *,
    spec: str,
    records: Sequence[int] | Int[np.ndarray, " r"],
    tokens: bool,
    folder: Path | None,
    batch: int = 256,
    threads: int = 0,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Features, bool]:
    """`extract`, or what it gave before; and whether it is from before.

    Args:
        spec: the data string of the source. Names alone would not tell train/cat/1.jpg from test/cat/1.jpg.
        folder: of all entries; None = no cache. Where it cannot be written, nothing is kept.

    Raises: SpecError when none of the pictures can be read, or the disk is full.
    """
    settings: dict[str, Any] = {"batch": batch, "threads": threads, "mesh": mesh, "progress": progress}
    if folder is None:
        return extract(backbone, source, look, records=records, tokens=tokens, **settings), False
    about = identity(backbone, source, look, spec, records)
    for with_tokens in (True,) if tokens else (True, False):
        if (found := _read(folder / _key(about, with_tokens), tokens)) is not None:
            return found, True
    place = folder / _key(about, tokens)
    _sweep(place)
    beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
    except OSError:
        return extract(backbone, source, look, records=records, tokens=tokens, **settings), False
    try:
        with ExitStack() as stack:
            file = stack.enter_context((beside / "tokens").open("w+b")) if tokens else None
            found = extract(backbone, source, look, records=records, tokens=tokens, file=file, **settings)
        _write(beside, found, about)
        # Damaged, or another process was quicker: then its entry is as good.
        if place.exists() and _read(place, tokens) is None:
            shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            beside.rename(place)
    except OSError as wrong:
        raise SpecError(
            f"features cannot be kept in {folder} ({wrong.strerror}): --no-cache, or another ABX_CACHE"
        ) from wrong
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return found, False


def _sweep(place: Path) -> None:
    """Remove what processes that were killed have left of this entry: what nobody wrote to for an hour."""
    for left in place.parent.glob(f"{place.name}.*"):
        with suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > LEFT:
                shutil.rmtree(left, ignore_errors=True)


def identity(
    backbone: ViT, source: Source, look: Look, spec: str, records: Sequence[int] | Int[np.ndarray, " r"]
) -> dict[str, Any]:
    """All that features and facts depend on, in JSON."""
    numbers = np.asarray(records, np.int64)
    content = hashlib.sha256()
    for i in numbers[:: max(1, len(numbers) // LOOKED_AT)].tolist():
        try:
            record = source.stored(i)
        except BadRecord:
            continue
        image = record.image
        content.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes())
        content.update(_line(plain(facts_of(record)), "").encode())
    scheme, colon, where = spec.partition(":")
    # The same folder from elsewhere is the same; of a mixture what is written must do.
    place = os.path.abspath(os.path.expanduser(where)) if colon and " " not in spec else where
    return {
        "version": VERSION,
        "backbone": digest(backbone),
        "config": dataclasses.asdict(backbone.config) | {"dtype": str(compute_dtype(backbone.config.dtype))},
        "data": scheme + colon + place,
        "fingerprint": fingerprint(source),
        # Labels and pictures may change under the same names.
        "files": stamp(source, numbers),
        "records": [len(numbers), hashlib.sha256(numbers.tobytes()).hexdigest()],
        "content": content.hexdigest(),
        "classes": [source.classes, *source.vocabulary],
        "look": dataclasses.asdict(look),
    }


def digest_of_facts(facts: Sequence[Facts]) -> str:
    """A digest of all that is known of some pictures, in their order."""
    found = hashlib.sha256()
    for each in facts:
        found.update(_line(each, "").encode())
    return found.hexdigest()


def _key(about: dict[str, Any], tokens: bool) -> str:
    said = json.dumps(about | {"tokens": tokens}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _write(folder: Path, found: Features, about: dict[str, Any]) -> None:
    np.save(folder / "pooled.npy", found.pooled, allow_pickle=False)
    np.save(folder / "places.npy", found.places, allow_pickle=False)
    with (folder / "facts.jsonl").open("w") as file:
        file.writelines(_line(*each) + "\n" for each in zip(found.facts, found.names, strict=True))
    sums = {path.name: _sum(path) for path in sorted(folder.iterdir())}
    shape = None if found.tokens is None else found.tokens.shape
    entry = {"about": about, "shape": shape, "rejected": found.rejected, "files": sums}
    (folder / "entry.json").write_text(json.dumps(entry))


def _read(folder: Path, tokens: bool) -> Features | None:
    """An entry; None where there is none that is whole."""
    try:
        entry = json.loads((folder / "entry.json").read_text())
        if any(_sum(folder / name) != known for name, known in entry["files"].items()):
            return None
        pooled, places = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("pooled", "places"))
        with (folder / "facts.jsonl").open() as file:
            lines = [_parsed(line) for line in file]
        mapped = np.memmap(folder / "tokens", np.float16, "r", shape=tuple(entry["shape"])) if tokens else None
        rejected = [(name, reason) for name, reason in entry["rejected"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Features(mapped, pooled, [facts for facts, _ in lines], [name for _, name in lines], places, rejected)


def _sum(path: Path) -> list[int | str]:
    """Size of a file, and a digest of it or of blocks of it."""
    size, found = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        blocks = -(-size // BLOCK)
        for i in range(min(blocks, BLOCKS)):
            file.seek(i * max(blocks - 1, 1) // max(min(blocks, BLOCKS) - 1, 1) * BLOCK)
            found.update(file.read(BLOCK))
    return [size, found.hexdigest()]


def _line(facts: Facts, name: str) -> str:
    """One line of JSON. float32 goes through Python's floats and comes back the same."""
    objects = facts.objects
    said: dict[str, Any] = facts._asdict() | {"name": name}
    said["distance"] = None if math.isnan(facts.distance) else facts.distance
    if objects is not None:
        flags = None if objects.flags is None else objects.flags.tolist()
        said["objects"] = [objects.boxes.tolist(), objects.labels.tolist(), flags]
    return json.dumps(said)


def _parsed(line: str) -> tuple[Facts, str]:
    said = json.loads(line)
    name, distance, objects = said.pop("name"), said.pop("distance"), said.pop("objects")
    if objects is not None:
        boxes, labels, flags = objects
        flags = None if flags is None else np.array(flags, np.uint8)
        objects = Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), flags)
    said["captions"] = tuple(said["captions"])
    return Facts(**said, objects=objects, distance=math.nan if distance is None else distance), name
