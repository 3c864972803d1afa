"""Record batches on standard output: a table on a terminal, tab-separated lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# What fits a terminal with its header; a file has them all.
SHOWN_ROWS = 40


def boxed(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], width: int, rows_max: int = SHOWN_ROWS
) -> tuple[Table, bool, list[str]]:
    """A table of the first rows, whether there are more, and the columns left out because `width` has no place.

    Reads no further than it shows. A column is shown whole or not at all: half a number is another number.
    """
    rows: list[Sequence[str]] = []
    more = False
    for batch in batches:
        rows += texts(batch.slice(0, rows_max - len(rows) + 1))
        more = len(rows) > rows_max
        if more:
            rows.pop()
            break
    shown = _fitting(schema, rows, width)
    table = Table(box=box.SIMPLE, header_style="bold")
    for field in list(schema)[:shown]:
        table.add_column(escape(field.name), justify="right" if _is_number(field.type) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(value) for value in row[:shown]))
    return table, more, schema.names[shown:]


def lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """A header and all rows, tab-separated; tabs and line ends inside a text become spaces."""
    yield "\t".join(schema.names)
    for batch in batches:
        for row in texts(batch):
            yield "\t".join(value.translate(_ONE_LINE) for value in row)


def texts(batch: pa.RecordBatch) -> Iterator[Sequence[str]]:
    """The rows as text: nulls empty, floats as short as their type can be read back from."""
    return zip(*(_texts(column) for column in batch.columns), strict=True)


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A few rows of text, boxed on a terminal, else tab-separated without a header."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(value.translate(_ONE_LINE) for value in row))
        return
    table = Table(box=box.SIMPLE, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _fitting(schema: pa.Schema, rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, at least one. The box adds a column at each side and three between two columns."""
    used = 2
    for number, name in enumerate(schema.names):
        used += max([len(name), *(len(row[number]) for row in rows)]) + 3 * (number > 0)
        if used > width:
            return max(number, 1)
    return len(schema.names)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


_ONE_LINE = str.maketrans("\t\r\n", "   ")


def _texts(column: pa.Array) -> list[str]:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    # A cast, because a float32 of 214.01 becomes the double 214.00999450683594 in Python.
    return pc.fill_null(column.cast(pa.string()), "").to_pylist()  # type: ignore[no-any-return]
