"""What parquet files say without their pictures: columns, row groups and the largest class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from abx.data.parquet.arrow import Stamp, open_parquet, reason, stamp_of
from abx.data.parquet.columns import Columns, Schema, choose, lacking, read_schema
from abx.data.sources import SpecError, printable

MAX_ROWS = 1 << 28
"""In a row group. A file may state any number."""
BATCH = 1 << 16
"""Rows whose classes are read at a time."""


class Footer(NamedTuple):
    """Of a file, and of each of its row groups."""

    stamp: Stamp
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    """Bytes, unpacked: nearly all of them are the pictures'."""
    largest: int
    """The largest class in the file, -1 for none."""


class Found(NamedTuple):
    """Of many files with the same columns."""

    footers: dict[str, Footer]
    """Of those files that can be read, by their paths."""
    columns: Columns
    leaves: tuple[str, ...]
    """What is read of them, in pyarrow's words."""
    class_names: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


def read_footers(paths: Sequence[str], asked: Columns) -> Found:
    """The first file that can be read decides which columns are read; others that lack them are left out.

    Raises: SpecError, if `asked` does not fit that file, or two files name the classes differently.
    """
    footers, problems = dict[str, Footer](), list[tuple[str, str]]()
    first: tuple[str, Schema] | None = None
    columns = Columns()
    for path in paths:
        try:
            stamp = stamp_of(path)
            with open_parquet(path) as file:
                schema = read_schema(file.schema_arrow)
                if first is None:
                    columns, first = choose(schema, asked, path), (path, schema)
                if missing := lacking(schema, columns, first[1]):
                    problems.append((printable(path), f"has not the same columns as {printable(first[0])}: {missing}"))
                    continue
                footers[path] = _footer(file, columns, stamp)
        except SpecError:
            raise
        except Exception as error:  # a damaged footer may raise nearly anything inside pyarrow
            problems.append((printable(path), f"cannot be read: {reason(error)}"))
            continue
        if schema.class_names.get(columns.label) != first[1].class_names.get(columns.label):
            raise SpecError(
                f"{printable(first[0])} and {printable(path)} name the classes of their column "
                f"{printable(columns.label)} differently: use one of them"
            )
    if first is None:
        return Found({}, columns, (), (), tuple(problems))
    leaves = (*first[1].images[columns.image], *filter(None, columns[1:]))
    return Found(footers, columns, leaves, first[1].class_names.get(columns.label, ()), tuple(problems))


def _footer(file: Any, columns: Columns, stamp: Stamp) -> Footer:
    """Raises: Exception.

    The description of a single column in a row group is not looked at: pyarrow ends the process where that is damaged.
    """
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    rows = tuple(group.num_rows for group in groups)
    if not all(0 <= count <= MAX_ROWS for count in rows):
        raise ValueError(f"it states a row group of {max(rows)} rows")
    largest = -1
    if columns.label:
        for batch in file.iter_batches(BATCH, columns=[columns.label], use_threads=False):
            labels = batch.column(0).drop_null().to_numpy(zero_copy_only=False)
            largest = max([largest, int(labels.max())] if len(labels) else [largest])
    return Footer(stamp, rows, tuple(group.total_byte_size for group in groups), largest)
