"""Features from elsewhere: files that anything can write, to be probed as ours are."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from abx.data.sources import Samples, SpecError
from abx.probes.features import Features
from abx.probes.questions import Facts
from abx.types import Sample

NOTHING = np.zeros((1, 1, 3), np.uint8)
"""In place of pictures, which are not there."""


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
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, np.ndarray] = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise SpecError(f"{path} is not there") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as wrong:
        raise SpecError(f"{path} is not an .npz that can be read ({type(wrong).__name__})") from wrong
    if lacking := [name for name in ("features", "labels") if name not in arrays]:
        raise SpecError(f"{path} has no {' and no '.join(lacking)}, only {', '.join(arrays) or 'nothing'}")
    pooled, labels, tokens = arrays["features"], arrays["labels"], arrays.get("tokens")
    if pooled.ndim != 2 or labels.shape != (len(pooled),) or not len(pooled):
        shapes = f"{list(pooled.shape)} and {list(labels.shape)}"
        raise SpecError(f"{path}: features must be [m, d] and labels [m], not {shapes}")
    if tokens is not None and (tokens.ndim != 3 or len(tokens) != len(pooled)):
        raise SpecError(f"{path}: tokens must be [m, t, d] with as many m as features, not {list(tokens.shape)}")
    for name, array in {"features": pooled, "tokens": tokens}.items():
        if array is not None and not (np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()):
            raise SpecError(f"{path}: {name} must be finite numbers, float16 to float64, not {array.dtype}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise SpecError(f"{path}: labels must be integers, not {labels.dtype}")
    classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else _numbers(labels)
    if labels.max() >= len(classes):
        raise SpecError(f"{path}: there is a label {labels.max()}, and {len(classes)} classes")
    names = list(map(str, arrays["names"].tolist())) if "names" in arrays else [f"row {i}" for i in range(len(pooled))]
    facts = [Facts(int(label)) for label in labels]
    found = Features(
        None if tokens is None else tokens.astype(np.float16, copy=False),
        pooled.astype(np.float32, copy=False),
        facts,
        names,
        np.arange(len(pooled)),
        [],
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Given(found, Samples([Sample(NOTHING, fact.label) for fact in facts], classes), digest)


def _numbers(labels: np.ndarray) -> tuple[str, ...]:
    """Names of classes that have none."""
    return tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))


def about(given: Given) -> dict[str, Any]:
    """What a probe of these features depends on."""
    return {"features": given.sha256, "classes": given.source.classes}
