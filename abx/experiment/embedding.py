"""Features as a file that other programs open: npz, parquet or safetensors."""

import json
import secrets
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from abx.probes.features import Features


class Unwritable(Exception):
    """The file cannot be written; the message is its path and the reason."""


def missing(out: Path) -> list[str]:
    """Why features cannot be written to this file, as far as can be told without trying; each begins with its path."""
    if out.suffix not in WRITERS:
        return [f"{out} must end in {', '.join(WRITERS)}"]
    if out.is_dir() or not out.absolute().parent.is_dir():
        return [f"{out} {'is a folder' if out.is_dir() else f'lies in {out.parent}, which does not exist'}"]
    library, extra, _ = WRITERS[out.suffix]
    if library and find_spec(library) is None:
        return [f"{out} needs {library}: pip install 'annotation-bootstrapping[{extra}]', or write an .npz"]
    return []


def write(out: Path, found: Features, classes: tuple[str, ...], about: Mapping[str, str]) -> None:
    """Whole or not at all.

    Args:
        about: what the features are of; kept in the file where its kind has a place for it, in npz as `about`.

    Raises: Unwritable.
    """
    labels = np.array([fact.label for fact in found.facts], np.int64)
    beside = out.with_name(f"{out.stem}.{secrets.token_hex(4)}{out.suffix}")
    try:
        WRITERS[out.suffix][2](beside, found, labels, classes, dict(about))
        beside.replace(out)
    except OSError as wrong:
        raise Unwritable(f"{out} cannot be written: {wrong.strerror or wrong}") from wrong
    finally:
        beside.unlink(missing_ok=True)


def _npz(out: Path, found: Features, labels: np.ndarray, classes: tuple[str, ...], about: dict[str, str]) -> None:
    # Names as text: numpy's own text cannot end in a zero, and printable names never do.
    names, known = np.array(found.names, np.str_), np.array(classes, np.str_)
    np.savez(out, features=found.pooled, labels=labels, names=names, classes=known, about=np.array(json.dumps(about)))


def _parquet(out: Path, found: Features, labels: np.ndarray, classes: tuple[str, ...], about: dict[str, str]) -> None:
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    flat = arrow.array(np.ascontiguousarray(found.pooled).ravel())
    columns = {
        "name": arrow.array(found.names, arrow.string()),
        "label": arrow.array(labels),
        "class": arrow.array([classes[i] if 0 <= i < len(classes) else None for i in labels], arrow.string()),
        "features": arrow.FixedSizeListArray.from_arrays(flat, found.pooled.shape[1]),
    }
    table = arrow.table(columns)
    parquet.write_table(table.replace_schema_metadata({**about, "classes": json.dumps(classes)}), out)


def _safetensors(
    out: Path, found: Features, labels: np.ndarray, classes: tuple[str, ...], about: dict[str, str]
) -> None:
    save: Any = import_module("safetensors.numpy").save_file
    texts = {"names": json.dumps(found.names), "classes": json.dumps(classes)}
    save({"features": np.ascontiguousarray(found.pooled), "labels": labels}, out, metadata=about | texts)


WRITERS: dict[str, tuple[str, str, Callable[..., None]]] = {
    ".npz": ("", "", _npz),
    ".parquet": ("pyarrow", "parquet", _parquet),
    ".safetensors": ("", "", _safetensors),
}
"""By the end of a file's name: the library that is needed, the extra that it comes with, and who writes."""
