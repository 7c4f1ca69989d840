"""Features as a file that other programs open: npz, parquet or safetensors."""

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from abx.nn import ViTConfig
from abx.probes.features import Features, Precision

Wanted: TypeAlias = Literal["pooled", "tokens", "both"]
"""Of each picture one vector, a vector for each token, or both."""


class Unwritable(Exception):
    """The file cannot be written; the message is its path and the reason."""


class Grid(NamedTuple):
    """How the tokens of a picture lie: first those of no patch, [CLS] and registers, then the patches row by row."""

    rows: int
    columns: int
    patches_from: int
    """How many come before the patches."""

    @classmethod
    def of(cls, config: ViTConfig, size: int) -> "Grid":
        """For square views of this many pixels."""
        side = size // config.patch
        return cls(side, side, 1 + config.registers if config.pool == "token" else 0)

    @property
    def tokens(self) -> int:
        return self.patches_from + self.rows * self.columns


def missing(out: Path, wanted: Wanted = "pooled") -> list[str]:
    """Why features cannot be written to a file of this name; each begins with its path."""
    library, extra, _ = WRITERS[out.suffix.lower()]
    if wanted != "pooled" and out.suffix.lower() == ".parquet":
        return [f"{out} would hold one vector for each picture: write tokens to an .npz or a .safetensors"]
    if library and find_spec(library) is None:
        return [f"{out} needs {library}: pip install 'annotation-bootstrapping[{extra}]', or write an .npz"]
    return []


def no_room(out: Path, pictures: int, grid: Grid, width: int, precision: Precision) -> str | None:
    """Why the disk cannot hold the tokens of so many pictures, which lie there twice until the file is whole."""
    each = grid.tokens * width * np.dtype(precision).itemsize
    free = shutil.disk_usage(out.absolute().parent).free
    if 2 * pictures * each <= free:
        return None
    most = free // (2 * each)
    return (
        f"{out}: tokens of {pictures:,} pictures take {pictures * each / 1e9:,.1f} GB in {precision}, twice that while "
        f"they are written, and {free / 1e9:,.1f} GB are free: {f'--limit {most} fits' if most else 'write elsewhere'}"
    )


def write(
    out: Path,
    found: Features,
    classes: tuple[str, ...],
    about: Mapping[str, str],
    wanted: Wanted = "pooled",
    grid: Grid | None = None,
) -> None:
    """Whole or not at all. Tokens are copied from the map that they are, a part at a time (in a .safetensors by
    safetensors 0.8 or newer, at once by an older one).

    Args:
        about: what the features are of; kept in the file where its kind has a place for it, in npz as `about`.
        grid: of the tokens, where they are wanted.

    Raises: Unwritable.
    """
    arrays: dict[str, np.ndarray] = {}
    if wanted != "tokens":
        arrays["features"] = np.ascontiguousarray(found.pooled)
    if wanted != "pooled":
        assert found.tokens is not None
        assert grid is not None
        arrays["tokens"] = found.tokens
        arrays["grid"], arrays["patches_from"] = np.array([grid.rows, grid.columns]), np.array(grid.patches_from)
    arrays["labels"] = np.array([fact.label for fact in found.facts], np.int64)
    beside = out.with_name(f"{out.stem}.{secrets.token_hex(4)}{out.suffix.lower()}")
    try:
        WRITERS[out.suffix.lower()][2](beside, arrays, found.names, classes, dict(about))
        beside.replace(out)
    except OSError as wrong:
        raise Unwritable(f"{out} cannot be written: {wrong.strerror or wrong}") from wrong
    finally:
        beside.unlink(missing_ok=True)


def _npz(
    out: Path, arrays: dict[str, np.ndarray], names: list[str], classes: tuple[str, ...], about: dict[str, str]
) -> None:
    # Names as text: numpy's own text cannot end in a zero, and printable names never do.
    texts = {"names": np.array(names, np.str_), "classes": np.array(classes, np.str_)}
    np.savez(out, **arrays, **texts, about=np.array(json.dumps(about)))  # type: ignore[arg-type]


def _parquet(
    out: Path, arrays: dict[str, np.ndarray], names: list[str], classes: tuple[str, ...], about: dict[str, str]
) -> None:
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    features, labels = arrays["features"], arrays["labels"]
    columns = {
        "name": arrow.array(names, arrow.string()),
        "label": arrow.array(labels),
        "class": arrow.array([classes[i] if 0 <= i < len(classes) else None for i in labels], arrow.string()),
        "features": arrow.FixedSizeListArray.from_arrays(arrow.array(features.ravel()), features.shape[1]),
    }
    table = arrow.table(columns)
    parquet.write_table(table.replace_schema_metadata({**about, "classes": json.dumps(classes)}), out)


def _safetensors(
    out: Path, arrays: dict[str, np.ndarray], names: list[str], classes: tuple[str, ...], about: dict[str, str]
) -> None:
    save: Any = import_module("safetensors.numpy").save_file
    texts = {"names": json.dumps(names), "classes": json.dumps(classes)}
    out.touch()
    mode = out.stat().st_mode  # which others may read where they may read what this user writes; theirs may not
    save(arrays, out, metadata=about | texts)
    out.chmod(mode)


WRITERS: dict[str, tuple[str, str, Callable[..., None]]] = {
    ".npz": ("", "", _npz),
    ".parquet": ("pyarrow", "parquet", _parquet),
    ".safetensors": ("", "", _safetensors),
}
"""By the end of a file's name: the library that is needed, the extra that it comes with, and who writes."""
