"""Throw-away Iceberg tables for a test: created from the DDL, filled with the rows of a test file."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from flight_server.authoring.cases import Input, TestFile
from flight_server.errors import DatasetError, TableError, nearest
from flight_server.tables.catalog import create_table, find_table
from flight_server.tables.conform import check_columns
from flight_server.tables.ddl import Definition
from flight_server.tables.load import append, load_file


def fill(catalog: Catalog, definitions: Mapping[str, Definition], names: set[str], test: TestFile) -> None:
    """Create the tables `names` and those of the test's inputs, and write the inputs into them.

    Raises DatasetError that names the test file and the table, for unknown tables and columns and for values that do
    not fit.
    """
    for name in test.inputs:
        if name not in definitions:
            raise DatasetError(test.path, 0, 0, f"inputs: there is no DDL of {name!r}{nearest(name, definitions)}")
    for name in sorted(names | test.inputs.keys()):
        create_table(catalog, definitions[name])
        given = test.inputs.get(name, Input())
        try:
            if given.csv is not None:
                load_file(find_table(catalog, name), given.csv)
            elif given.rows:
                _append(find_table(catalog, name), given)
        except TableError as error:
            raise DatasetError(test.path, 0, 0, f"inputs.{name}: {error.message}") from error


def _append(table: Table, given: Input) -> None:
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    check_columns(list(dict.fromkeys(column for row in given.rows for column in row)), schema)
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in given.rows]
        if not field.nullable and None in values:
            raise TableError(f"row {values.index(None) + 1}: {field.name!r} must not be null")
        columns.append(column(field, values))
    append(table, [pa.RecordBatch.from_arrays(columns, schema=schema)], schema, {})


def column(field: pa.Field, values: list[object]) -> pa.Array:
    """TOML values as an array of the field's type; floats are rounded to it. Raises TableError with row and value."""
    try:
        return pa.array([_plain(field.type, value) for value in values], field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        for number, value in enumerate(values, 1):
            try:
                pa.array([_plain(field.type, value)], field.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                raise TableError(f"row {number}: {field.name} = {value!r} is no {field.type}") from None
        raise


def _plain(kind: pa.DataType, value: object) -> object:
    """What pyarrow takes for a value that TOML writes another way: decimals as text or float, maps as tables."""
    if pa.types.is_decimal(kind) and isinstance(value, (str, float)):
        return pa.scalar(str(value)).cast(kind).as_py()
    if pa.types.is_integer(kind) and isinstance(value, float):
        raise ValueError("pyarrow would cut off the decimals")
    if pa.types.is_map(kind) and isinstance(value, dict):
        return [(pa.scalar(key).cast(kind.key_type).as_py(), _plain(kind.item_type, v)) for key, v in value.items()]
    return value
