"""The query that fills a table: one plain SELECT in the Athena dialect, checked like a dataset's before anything runs.

What it gives is held against the table here as far as the text and the tables' schemas can tell: names, types, columns
that must not be null. Values are another matter (`fill.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types

from flight_server.datasets import query
from flight_server.errors import DatasetError, InvalidRequest, TableError
from flight_server.model import Column, Dataset, Limits, Materialize
from flight_server.plan import allowed
from flight_server.plan.dialect import nested
from flight_server.plan.qualify import qualified, sql_schema, sql_type
from flight_server.plan.scan import Tables
from flight_server.tables.conform import check_columns

_T = exp.DType
_INTEGERS = (_T.TINYINT, _T.SMALLINT, _T.INT, _T.BIGINT)
_NUMBERS = (*_INTEGERS, _T.DECIMAL, _T.FLOAT, _T.DOUBLE)
_TEXTS = (_T.TEXT, _T.VARCHAR, _T.CHAR)
# What Athena stores without being told to CAST, by the type of the column.
_FITTING: dict[exp.DType, tuple[exp.DType, ...]] = {
    _T.BOOLEAN: (_T.BOOLEAN,),
    _T.INT: _INTEGERS[:3],
    _T.BIGINT: _INTEGERS,
    _T.FLOAT: (*_INTEGERS, _T.DECIMAL, _T.FLOAT),
    _T.DOUBLE: _NUMBERS,
    _T.DECIMAL: (*_INTEGERS, _T.DECIMAL),
    _T.VARCHAR: _TEXTS,
    _T.TEXT: _TEXTS,
    _T.VARBINARY: (_T.VARBINARY, _T.BINARY),
    _T.DATE: (_T.DATE,),
    _T.TIMESTAMP: (_T.TIMESTAMP, _T.TIMESTAMPNTZ, _T.DATE),
    _T.TIMESTAMPTZ: (_T.TIMESTAMPTZ, _T.TIMESTAMP, _T.DATE),
}


def read_source(dataset: Dataset, target: Table) -> Dataset:
    """The query of the dataset's `[materialize]` as a dataset without parameters, with the contract of `target`.

    Raises DatasetError, naming the file, for a query that is missing, is not allowed, reads the table that it fills, or
    gives columns that the table cannot take.
    """
    path, name = _path(dataset, dataset.materialize), ".".join(target.name())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(path, 0, 0, f"cannot read the query that fills {name}: {error}") from error
    tree = query.parse(text, lambda line, column, message: DatasetError(path, line, column, message))
    try:
        allowed.check(tree)
        if tree.find(exp.Placeholder):
            raise InvalidRequest("sql-refused", "a query that fills a table has no parameters")
        if any(allowed.table_name(table) == name for table in allowed.tables(tree)):
            raise InvalidRequest("sql-refused", f"it reads {name}, the table that it fills")
        check_columns([item.alias_or_name for item in tree.selects], schema_to_pyarrow(target.schema()))
    except (InvalidRequest, TableError) as error:
        raise DatasetError(path, 0, 0, error.message) from error
    return replace(
        dataset,
        key=(),
        sorted=(),
        params={},
        rules=(),
        columns=_columns(tree, target.schema()),
        limits=Limits(),
        path=path,
        sql_line=1,
        sql=text,
        tree=tree,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def check_output(source: Dataset, target: Table, tables: Tables) -> None:
    """Refuse, with DatasetError, a result column whose type Athena would not store in the table's column.

    Types that the parser cannot tell are left to the engine.
    """
    names = allowed.table_names(source.tree)
    schemas = {name: sql_schema(tables.pin(name).schema) for name in names}
    tree = annotate_types(qualified(source.tree, schemas), schema=nested(schemas), dialect="athena")
    assert isinstance(tree, exp.Query)  # noqa: S101 - annotating keeps the kind
    for item in tree.selects:
        column = target.schema().find_field(item.alias_or_name, case_sensitive=False)
        wanted = exp.DataType.build(sql_type(column.field_type), dialect="athena")
        if item.type is None or item.type.is_type(_T.UNKNOWN, _T.NULL):
            continue
        if item.type.this not in _FITTING.get(wanted.this, (wanted.this,)):
            raise DatasetError(
                source.path,
                0,
                0,
                f"column {column.name!r} is {item.type.sql('athena')} and the table has "
                f"{wanted.sql('athena')}; write CAST(… AS {wanted.sql('athena')})",
            )


def _path(dataset: Dataset, said: Materialize | None) -> Path:
    if said is None or said.query is None:
        raise DatasetError(dataset.path, 0, 0, f"{dataset.name} has no [materialize] with table and query")
    folder = dataset.path.parent.resolve()
    path = (folder / said.query).resolve()
    if not path.is_relative_to(folder):
        raise DatasetError(dataset.path, 0, 0, f"query = {said.query!r} lies outside of the datasets' folder")
    return dataset.path.parent / said.query


def _columns(tree: exp.Query, schema: Schema) -> tuple[Column, ...]:
    arrow = schema_to_pyarrow(schema, include_field_ids=False)
    fields = [arrow.field(item.alias_or_name) for item in tree.selects]
    return tuple(Column(field.name, field.type, field.nullable) for field in fields)
