"""Which columns of a parquet file hold the picture, its captions and its class."""

import difflib
import json
from typing import Any, NamedTuple

from abx.data.parquet.arrow import pyarrow
from abx.data.sources import SpecError, printable

CAPTIONS = ("caption", "captions", "text", "sentences")


class Columns(NamedTuple):
    """Names of columns. As asked for, "" leaves the choice to `choose`; as chosen, "" is none."""

    image: str = ""
    caption: str = ""
    label: str = ""


class Schema(NamedTuple):
    """What matters of a file's columns."""

    types: dict[str, str]
    """Of every column, in their order, as pyarrow writes them."""
    images: dict[str, tuple[str, ...]]
    """Columns that could hold pictures, and what to read of them: of a struct, its `bytes` and `path`."""
    captions: tuple[str, ...]
    """Columns of strings or of lists of strings."""
    labels: tuple[str, ...]
    """Columns of whole numbers."""
    class_names: dict[str, tuple[str, ...]]
    """For those of `labels` whose names Hugging Face's metadata has."""


def read_schema(arrow: Any) -> Schema:
    """From a `pyarrow.Schema`. Columns that share a name cannot be told apart, and are left out."""
    types = {name: arrow.field(name).type for name in arrow.names if arrow.names.count(name) == 1}
    images = {name: leaves for name, kind in types.items() if (leaves := _image_leaves(name, kind))}
    captions = tuple(
        name for name, kind in types.items() if _is_text(kind) or (_is_list(kind) and _is_text(kind.value_type))
    )
    labels = tuple(name for name, kind in types.items() if pyarrow().types.is_integer(kind))
    features = _features((arrow.metadata or {}).get(b"huggingface", b""))
    class_names = {name: names for name in labels if (names := _class_names(features.get(name)))}
    return Schema({name: str(kind) for name, kind in types.items()}, images, captions, labels, class_names)


def choose(schema: Schema, asked: Columns, path: str) -> Columns:
    """Those asked for; else `image` or the only column of pictures, the first of `CAPTIONS` that is there, `label`.

    Raises: SpecError, if a column that is asked for is not there or holds something else, or no picture is found.
    """
    for column, fitting, what in (
        (asked.image, schema.images, "bytes of pictures"),
        (asked.caption, schema.captions, "strings or lists of strings"),
        (asked.label, schema.labels, "whole numbers"),
    ):
        if column and column not in schema.types:
            close = difflib.get_close_matches(column, schema.types, 1)
            hint = f"did you mean {printable(close[0])}?" if close else f"its columns are {_listed(schema.types)}"
            raise SpecError(f"{printable(path)} has no column {printable(column)!r}: {hint}")
        if column and column not in fitting:
            raise SpecError(
                f"the column {printable(column)!r} of {printable(path)} is {schema.types[column]}, not {what}"
            )
    image = asked.image or ("image" if "image" in schema.images else "")
    if not image and len(schema.images) != 1:
        found = f"{len(schema.images)} columns of pictures" if schema.images else "no column of pictures"
        raise SpecError(
            f"{printable(path)} has {found} ({_listed(schema.images or schema.types)}): "
            "name one at the end of the pattern, e.g. ,image=COLUMN"
        )
    caption = asked.caption or next((name for name in CAPTIONS if name in schema.captions), "")
    label = asked.label or ("label" if "label" in schema.labels else "")
    return Columns(image or next(iter(schema.images)), caption, label)


def lacking(schema: Schema, columns: Columns, first: Schema) -> str:
    """Which columns chosen in the first file another lacks, or has of another kind; "" for none."""
    fits = (
        schema.images.get(columns.image) == first.images[columns.image],
        columns.caption in ("", *schema.captions),
        columns.label in ("", *schema.labels),
    )
    return ", ".join(printable(column) for column, fit in zip(columns, fits, strict=True) if not fit)


def _image_leaves(name: str, kind: Any) -> tuple[str, ...]:
    if _is_binary(kind):
        return (name,)
    if not pyarrow().types.is_struct(kind):
        return ()
    fields = {field.name: field.type for field in kind}
    if "bytes" not in fields or not _is_binary(fields["bytes"]):
        return ()
    return tuple(f"{name}.{field}" for field in ("bytes", "path") if field in fields)


def _is_binary(kind: Any) -> bool:
    types = pyarrow().types
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_text(kind: Any) -> bool:
    types = pyarrow().types
    return types.is_string(kind) or types.is_large_string(kind)


def _is_list(kind: Any) -> bool:
    types = pyarrow().types
    return types.is_list(kind) or types.is_large_list(kind)


def _features(metadata: bytes) -> dict[str, Any]:
    """Hugging Face's description of the columns; {} if there is none, or what is there is none."""
    try:
        features = json.loads(metadata)["info"]["features"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(feature: Any) -> tuple[str, ...]:
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(printable(str(name)) for name in names) if isinstance(names, list) else ()


def _listed(names: Any) -> str:
    names = [printable(name) for name in names]
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
