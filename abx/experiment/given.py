"""Features from elsewhere: files that anything can write, to be probed as ours are."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from abx.data.sources import Samples, SpecError, printable
from abx.data.webdataset.annotations import MAX_CLASSES
from abx.nearest import not_there
from abx.probes.features import Features, some
from abx.probes.questions import Facts
from abx.types import Sample

NOTHING = np.zeros((1, 1, 3), np.uint8)
"""In place of pictures, which are not there."""
LOW, HIGH = 1e-30, 1e30
"""Sizes of features that float32 can be reckoned with; the largest number of a file must lie between."""
FAINT = 2.0**-8
"""Size of the largest token below which float16 would keep only some of the digits of most."""


class Given(NamedTuple):
    """What a file holds: features, and a source of what is known of the pictures that they are of."""

    features: Features
    source: Samples
    sha256: str


def read_given(path: Path) -> Given:
    """An .npz, as `abx embed` writes it or anybody else: `features` (one row a picture) and `labels`; `classes` (their
    names), `names` (of the pictures) and `tokens` (one array "t d" a picture) are optional.

    Raises: SpecError, one sentence that begins with the path.
    """
    arrays = _arrays(path)
    if lacking := [name for name in ("features", "labels") if name not in arrays]:
        raise SpecError(f"{path} has no {' and no '.join(lacking)}, only {', '.join(arrays) or 'nothing'}")
    try:
        found, classes = _read(arrays)
    except ValueError as wrong:
        raise SpecError(f"{path}: {wrong}") from wrong
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Given(found, Samples([Sample(NOTHING, fact.label) for fact in found.facts], classes), digest)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise SpecError(not_there(path)) from None
    # Of a damaged file whatever zip, zlib, or numpy's reading of a header trips over; of an .npy that it is an array.
    except Exception as wrong:
        raise SpecError(f"{path} is not an .npz that can be read ({type(wrong).__name__})") from wrong


def _read(arrays: dict[str, np.ndarray]) -> tuple[Features, tuple[str, ...]]:
    """Features, and names of the classes. Raises: ValueError, with what is wrong."""
    pooled, labels, tokens = arrays["features"], arrays["labels"], arrays.get("tokens")
    if pooled.ndim != 2 or labels.shape != (len(pooled),) or not pooled.size:
        shapes = f"{list(pooled.shape)} and {list(labels.shape)}"
        raise ValueError(f"features must be [m, d] and labels [m], with a picture and a number at least, not {shapes}")
    if tokens is not None and (tokens.ndim != 3 or len(tokens) != len(pooled) or not tokens.size):
        raise ValueError(f"tokens must be [m, t, d] with as many m as features, not {list(tokens.shape)}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    classes = _classes(arrays.get("classes"), labels)
    names = np.array([f"row {i}" for i in range(len(pooled))]) if "names" not in arrays else arrays["names"]
    if names.shape != labels.shape:
        raise ValueError(f"names must be as many as features, {len(pooled)}, not {list(names.shape)}")
    facts = [Facts(int(label)) for label in labels]
    kept = None if tokens is None else _finite("tokens", tokens, np.float16)
    whole = _finite("features", pooled, np.float32)
    return Features(kept, whole, facts, list(map(str, names.tolist())), np.arange(len(pooled)), []), classes


def _finite(name: str, array: np.ndarray, dtype: type[np.floating[Any]]) -> np.ndarray:
    """In the type in which they are kept. Raises: ValueError, where this would lose them."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} must be numbers of float16 to float64, not {array.dtype}")
    if not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "infinite numbers"
        raise ValueError(f"{name} must be finite numbers, and there is {what} among them")
    low, high = (FAINT, float(np.finfo(np.float16).max)) if dtype is np.float16 else (LOW, HIGH)
    largest = float(np.abs(array).max())
    if largest and not low <= largest <= high:
        kept = f"kept in {np.dtype(dtype).name}, and their largest must be from {low:.3g} to {high:.3g}"
        raise ValueError(f"{name} are {kept}, not {largest:.3g}: scale those of both files by one number")
    return array.astype(dtype, copy=False)


def _classes(given: np.ndarray | None, labels: np.ndarray) -> tuple[str, ...]:
    """Names of the classes; without any, their numbers. Raises: ValueError."""
    last = int(labels.max())
    if given is None:
        if last >= MAX_CLASSES:
            raise ValueError(f"there is a label {last}, and no more than {MAX_CLASSES:,} classes are taken")
        return tuple(str(i) for i in range(last + 1))
    if given.ndim != 1:
        raise ValueError(f"classes must be names, one for each number of a label, not {list(given.shape)}")
    names = tuple(map(str, given.tolist()))
    if last >= len(names):
        raise ValueError(f"there is a label {last}, and {len(names)} classes")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"classes must have a name each, and two are called {printable(twice)!r}")
    return names


def unlike(train: Features, test: Features, tokens: bool) -> str | None:
    """Why features to train on and to test on cannot be of one network.

    Args:
        tokens: whether a probe reads them.
    """
    widths = [each.pooled.shape[1] for each in (train, test)]
    if widths[0] != widths[1]:
        return f"those to train on have {widths[0]} numbers each and those to test on {widths[1]}"
    shapes = [None if each.tokens is None else list(each.tokens.shape[1:]) for each in (train, test)]
    if tokens and shapes[0] != shapes[1]:
        return f"tokens to train on are {shapes[0] or 'not there'} and those to test on {shapes[1] or 'not there'}"
    return None


def part_of(given: Given, count: int) -> Given:
    """A fixed random choice of so many pictures; 0 = all. The source stays whole: `places` are positions in it."""
    rows, all_ = some(given.source, count), given.features
    tokens = None if all_.tokens is None else all_.tokens[rows]
    facts, names = [all_.facts[i] for i in rows], [all_.names[i] for i in rows]
    return given._replace(features=Features(tokens, all_.pooled[rows], facts, names, rows, []))


def about(given: Given) -> dict[str, Any]:
    """What a probe of these features depends on."""
    places = hashlib.sha256(given.features.places.astype(np.int64).tobytes()).hexdigest()
    return {"features": given.sha256, "classes": given.source.classes, "records": places}
