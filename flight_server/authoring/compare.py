"""What is wrong with a result: against the rows of a case, and against the promises of the contract."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flight_server.authoring.warehouse import column
from flight_server.errors import TableError, nearest
from flight_server.model import Dataset, SortKey

# A screenful; the first difference is usually the cause of the others.
_SHOWN_MAX = 10


def differences(
    dataset: Dataset, table: pa.Table, rows: Sequence[Mapping[str, Any]], approx: float | None
) -> list[str]:
    """One line for each value that is not as expected; none when all are.

    Columns that no expected row names are not compared; where some rows name one, it is null in the others, as TOML
    has no null. Values are exact in the column's type, floats within `approx`, relative or absolute. The order of rows
    counts for datasets that promise one.
    """
    names = [field.name for field in table.schema if any(field.name in row for row in rows)]
    for row in rows:
        for name in row:
            if name not in table.column_names:
                return [
                    f"the case expects the column {name!r}, which is none of {dataset.name}'s"
                    f"{nearest(name, table.column_names)}"
                ]
    try:
        wanted = pa.table(
            [column(table.schema.field(name), [row.get(name) for row in rows]) for name in names], names=names
        )
    except TableError as error:
        return [f"the case's rows: {error.message}"]
    got = table.select(names)
    if not dataset.sorted:
        got, wanted = _ordered(dataset, got), _ordered(dataset, wanted)
    found = [] if got.num_rows == len(rows) else [f"expected {len(rows)} rows, got {got.num_rows}"]
    if names:
        found += _rows(got, wanted, approx)
    return found if len(found) <= _SHOWN_MAX else [*found[:_SHOWN_MAX], f"and {len(found) - _SHOWN_MAX} more"]


def broken_promises(dataset: Dataset, table: pa.Table) -> list[str]:
    """What a result breaks of the contract beyond types and nulls, which the pipeline sees to: key and order."""
    found = []
    if dataset.key:
        seen: set[tuple[object, ...]] = set()
        for key in zip(*(table.column(name).to_pylist() for name in dataset.key), strict=True):
            if key in seen:
                values = ", ".join(f"{name} = {value}" for name, value in zip(dataset.key, key, strict=True))
                found.append(f"key: more than one row has {values}")
                break
            seen.add(key)
    if dataset.sorted:
        columns = [table.column(key.column).to_pylist() for key in dataset.sorted]
        rows = list(zip(*columns, strict=True))
        for number, (above, below) in enumerate(itertools.pairwise(rows), 2):
            if not _in_order(dataset.sorted, above, below):
                found.append(f"sorted: row {number} belongs before row {number - 1}")
                break
    return found


def _rows(got: pa.Table, wanted: pa.Table, approx: float | None) -> list[str]:
    found = []
    actual, expected = got.to_pylist(), wanted.to_pylist()
    texts = [_texts(got), _texts(wanted)]
    for number, (have, want) in enumerate(zip(actual, expected, strict=False)):
        for name in got.column_names:
            if not _same(have[name], want[name], approx):
                is_, was = texts[0][name][number], texts[1][name][number]
                found.append(f"row {number + 1}: {name} is {is_}, expected {was}")
    for kind, text, first, last in (
        ("missing", texts[1], len(actual), len(expected)),
        ("not expected", texts[0], len(expected), len(actual)),
    ):
        for number in range(first, last):
            values = ", ".join(f"{name} = {text[name][number]}" for name in got.column_names)
            found.append(f"row {number + 1} is {kind}: {values}")
    return found


def _same(have: object, want: object, approx: float | None) -> bool:
    if isinstance(have, float) and isinstance(want, float):
        if math.isnan(have) or math.isnan(want):
            return math.isnan(have) and math.isnan(want)
        return have == want or (approx is not None and math.isclose(have, want, rel_tol=approx, abs_tol=approx))
    return have == want


def _texts(table: pa.Table) -> dict[str, list[str]]:
    """Values as text: floats as short as their own type is read back from, null as null."""
    return {
        name: [
            "null" if each is None else repr(each) if isinstance(each, str) else text
            for each, text in zip(values.to_pylist(), _cast(values), strict=True)
        ]
        for name, values in zip(table.column_names, table.columns, strict=True)
    }


def _cast(values: pa.ChunkedArray) -> list[str]:
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        return list(map(str, values.to_pylist()))
    return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def _ordered(dataset: Dataset, table: pa.Table) -> pa.Table:
    by = [name for name in dataset.key if name in table.column_names] or table.column_names
    rows = table.select(by).to_pylist()
    order = sorted(range(table.num_rows), key=lambda n: [(rows[n][name] is None, str(rows[n][name])) for name in by])
    return table.take(order)


def _in_order(keys: Sequence[SortKey], above: tuple[Any, ...], below: tuple[Any, ...]) -> bool:
    for key, high, low in zip(keys, above, below, strict=True):
        if high == low:
            continue
        if high is None or low is None:
            return (high is None) == key.nulls_first
        return bool((high > low) == key.descending)
    return True
