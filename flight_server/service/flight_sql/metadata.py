"""Catalogs, schemas, tables, keys and types, as a caller may see them.

One catalog. The schema `datasets` has the datasets: those without required parameters as tables, which can be selected
from by their plain names, the others under a table type of their own, because their name alone is no table. The
catalog's databases are schemas beside it for callers who may name their tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flight_server.datasets.registry import GLOB_MAX, matcher
from flight_server.errors import InvalidRequest
from flight_server.model import Caller, Dataset
from flight_server.pipeline import Pipeline
from flight_server.plan.shape import athena_type
from flight_server.plan.statement import CATALOG, SCHEMA
from flight_server.service.flight_sql import schemas

TABLE = "TABLE"
# A dataset that must be called with parameters: daily_prices(ticker => 'AAPL', …).
CALLED = "PARAMETERISED DATASET"
_NOTE = "ARROW:FLIGHT:SQL:"


@dataclass(frozen=True, slots=True)
class _Listed:
    """One entry of GetTables; its columns are looked up only when they are asked for."""

    schema: str
    name: str
    type: str
    dataset: Dataset | None


def schema_of(name: str, message: Any) -> pa.Schema | None:
    """The schema of a metadata command's result; None when the command is no such."""
    if name == "CommandGetTables" and message.include_schema:
        return schemas.TABLES_WITH_SCHEMA
    return schemas.BY_COMMAND.get(name)


def rows(name: str, message: Any, pipeline: Pipeline, caller: Caller) -> list[dict[str, object]]:
    """The rows of a metadata command's result but GetSqlInfo's, in the order that the format asks for."""
    if name == "CommandGetCatalogs":
        return [{"catalog_name": CATALOG}]
    if name == "CommandGetTableTypes":
        return [{"table_type": CALLED}, {"table_type": TABLE}]
    if name == "CommandGetDbSchemas":
        return _db_schemas(message, pipeline, caller)
    if name == "CommandGetTables":
        return list(_tables(message, pipeline, caller))
    if name == "CommandGetPrimaryKeys":
        return _primary_keys(message, pipeline, caller)
    if name == "CommandGetXdbcTypeInfo":
        wanted = message.data_type if message.HasField("data_type") else None
        return [row for row in _TYPES if wanted in (None, row["data_type"])]
    # Nothing refers to anything.
    return []


def _listed(pipeline: Pipeline, caller: Caller) -> Iterator[_Listed]:
    """All that the caller may select from, by schema and name."""
    names = [name.partition(".") for name in pipeline.tables(caller)]
    found = [_Listed(database, table, TABLE, None) for database, _, table in names]
    for dataset in pipeline.registry.visible(caller):
        needs = any(parameter.required for parameter in dataset.params.values())
        found.append(_Listed(SCHEMA, dataset.name, CALLED if needs else TABLE, dataset))
    yield from sorted(found, key=lambda each: (each.schema, each.name))


def _db_schemas(message: Any, pipeline: Pipeline, caller: Caller) -> list[dict[str, object]]:
    if not _in_catalog(message, "catalog"):
        return []
    matches = _matcher(message, "db_schema_filter_pattern")
    found = {SCHEMA} | {each.schema for each in _listed(pipeline, caller)}
    return [{"catalog_name": CATALOG, "db_schema_name": name} for name in sorted(found) if matches(name)]


def _tables(message: Any, pipeline: Pipeline, caller: Caller) -> Iterator[dict[str, object]]:
    if not _in_catalog(message, "catalog"):
        return
    in_schema = _matcher(message, "db_schema_filter_pattern")
    named = _matcher(message, "table_name_filter_pattern")
    wanted = set(message.table_types) or {TABLE, CALLED}
    for each in _listed(pipeline, caller):
        if each.type in wanted and in_schema(each.schema) and named(each.name):
            row: dict[str, object] = {
                "catalog_name": CATALOG,
                "db_schema_name": each.schema,
                "table_name": each.name,
                "table_type": each.type,
            }
            if message.include_schema:
                row["table_schema"] = _with_notes(each, pipeline, caller).serialize().to_pybytes()
            yield row


def _with_notes(listed: _Listed, pipeline: Pipeline, caller: Caller) -> pa.Schema:
    """The Arrow schema of a table, with what JDBC wants to know of a column in its metadata."""
    if listed.dataset is not None:
        schema, doc = listed.dataset.schema, listed.dataset.doc
    else:
        schema, doc = pipeline.table_schema(f"{listed.schema}.{listed.name}", caller), ""
    fields = []
    for field in schema:
        known = field.metadata or {}
        notes = {
            "CATALOG_NAME": CATALOG,
            "DB_SCHEMA_NAME": listed.schema,
            "TABLE_NAME": listed.name,
            "TYPE_NAME": athena_type(field.type),
            "IS_AUTO_INCREMENT": "0",
            "IS_CASE_SENSITIVE": "1" if pa.types.is_string(field.type) else "0",
            "IS_READ_ONLY": "1",
            "IS_SEARCHABLE": "1",
            "REMARKS": known.get(b"doc", b"").decode(),
            **_sizes(field.type),
        }
        fields.append(field.with_metadata({**known, **{_NOTE + key: value for key, value in notes.items() if value}}))
    metadata = {**(schema.metadata or {}), **({_NOTE + "REMARKS": doc} if doc else {})}
    return pa.schema(fields, metadata)


def _sizes(kind: pa.DataType) -> dict[str, str]:
    if pa.types.is_decimal(kind):
        return {"PRECISION": str(kind.precision), "SCALE": str(kind.scale)}
    digits = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19, pa.float32(): 7, pa.float64(): 15}
    return {"PRECISION": str(digits[kind])} if kind in digits else {}


def _primary_keys(message: Any, pipeline: Pipeline, caller: Caller) -> list[dict[str, object]]:
    """The keys that contracts declare. Tables of the catalog have none."""
    if not _in_catalog(message, "catalog") or (message.HasField("db_schema") and message.db_schema != SCHEMA):
        return []
    return [
        {
            "catalog_name": CATALOG,
            "db_schema_name": SCHEMA,
            "table_name": dataset.name,
            "column_name": column,
            "key_sequence": number,
            "key_name": None,
        }
        for dataset in pipeline.registry.visible(caller)
        if dataset.name == message.table
        for number, column in enumerate(dataset.key, 1)
    ]


def _in_catalog(message: Any, field: str) -> bool:
    """Whether the command asks for our catalog. Tools that know no catalogs leave it out."""
    return not message.HasField(field) or getattr(message, field) == CATALOG


def _matcher(message: Any, field: str) -> Any:
    """A test by the LIKE pattern in a field, `\\` before a sign that means itself; everything without a pattern."""
    if not message.HasField(field):
        return lambda _: True
    like = getattr(message, field)
    if len(like) > GLOB_MAX:
        raise InvalidRequest("bad-request", f"the pattern has {len(like):,} signs; no name is so long")
    signs = {"%": "*", "_": "?"}
    parts = re.findall(r"\\.|.", like, re.DOTALL)
    matches = matcher("".join(signs.get(part) or _literal(part[-1].lower()) for part in parts))
    return lambda name: matches(name.lower())


def _literal(sign: str) -> str:
    return f"[{sign}]" if sign in "*?[" else sign


def _type(name: str, number: int, size: int | None, **more: object) -> dict[str, object]:
    quoted = name in ("VARCHAR", "DATE", "TIMESTAMP", "TIME")
    prefix = "'" if name == "VARCHAR" else f"{name} '" if quoted else None
    return {
        "type_name": name,
        "data_type": number,
        "column_size": size,
        "literal_prefix": prefix,
        "literal_suffix": "'" if quoted else None,
        "create_params": None,
        # Nullable, and good for every comparison.
        "nullable": 1,
        "case_sensitive": name == "VARCHAR",
        "searchable": 3,
        "unsigned_attribute": None if quoted else False,
        "fixed_prec_scale": False,
        "auto_increment": None if quoted else False,
        "local_type_name": name,
        "minimum_scale": None,
        "maximum_scale": None,
        "sql_data_type": number,
        "datetime_subcode": None,
        "num_prec_radix": None,
        "interval_precision": None,
        **more,
    }


# By number, then name. Datetimes have one generic number in sql_data_type, and a subcode.
_TYPES = [
    _type("BOOLEAN", -7, 1),
    _type("TINYINT", -6, 3, num_prec_radix=10),
    _type("BIGINT", -5, 19, num_prec_radix=10),
    _type("VARBINARY", -3, None),
    _type("DECIMAL", 3, 38, num_prec_radix=10, minimum_scale=0, maximum_scale=38, create_params=["precision", "scale"]),
    _type("INTEGER", 4, 10, num_prec_radix=10),
    _type("SMALLINT", 5, 5, num_prec_radix=10),
    _type("REAL", 7, 24, num_prec_radix=2),
    _type("DOUBLE", 8, 53, num_prec_radix=2),
    _type("VARCHAR", 12, None),
    _type("DATE", 91, 10, sql_data_type=9, datetime_subcode=1),
    _type("TIME", 92, 15, sql_data_type=9, datetime_subcode=2, minimum_scale=0, maximum_scale=6),
    _type("TIMESTAMP", 93, 26, sql_data_type=9, datetime_subcode=3, minimum_scale=0, maximum_scale=6),
]
