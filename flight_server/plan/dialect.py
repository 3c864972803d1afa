"""Printing a bound tree for the engine that will run it, with every table at its pinned snapshot.

Athena gets `FOR VERSION AS OF`; DuckDB gets `iceberg_scan` on the pinned metadata and Athena's meanings (translate.py).
What an engine cannot say is refused, not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, UnsupportedError
from sqlglot.optimizer.annotate_types import annotate_types

from flight_server.errors import InvalidRequest
from flight_server.model import Dataset, TablePin
from flight_server.plan import allowed, carriers, sizes
from flight_server.plan.translate import translate

# database.table → column → Athena type.
Schemas = Mapping[str, Mapping[str, str]]


def canonical(tree: exp.Query) -> str:
    """The tree as Athena SQL without pins: equal trees give equal text, whatever the spelling of the file."""
    return _printed(tree, "athena")


def to_athena(tree: exp.Query, pins: Mapping[str, TablePin], schemas: Schemas, dataset: Dataset) -> str:
    """The Athena text, ready to be put into UNLOAD: every type in a carrier that Hive can write, ordered outside.

    `tree` must be qualified. A table that was never written to has no version to name and no rows.
    """
    pinned = typed(tree, schemas)
    sql_types = {item.alias_or_name: item.type.sql("athena") for item in pinned.selects if item.type}
    return carriers.project(_at_versions(pinned, pins), dataset.columns, sql_types, dataset.sorted)


def to_insert(bound_sql: str, pins: Mapping[str, TablePin], table: str) -> str:
    """The Athena statement that appends the rows of a bound query (`canonical`'s text) to `database.table`."""
    tree = sqlglot.parse_one(bound_sql, read="athena")
    assert isinstance(tree, exp.Query)  # noqa: S101 - printed from one
    columns = ", ".join(carriers.quoted(item.alias_or_name) for item in tree.selects)
    return f"INSERT INTO {table_sql(table)} ({columns}) {_at_versions(tree, pins)}"


def table_sql(table: str) -> str:
    """`"database"."table"` as Athena's DML writes it."""
    return ".".join(carriers.quoted(part) for part in table.split("."))


def _at_versions(tree: exp.Query, pins: Mapping[str, TablePin]) -> str:
    """The text of `tree`, which is changed: every table at its pin, no ORDER BY where it means nothing."""
    if not tree.args.get("limit") and not tree.args.get("offset"):
        # Athena drops the ORDER BY of a subquery; without a LIMIT it means nothing there.
        tree.set("order", None)
    for table in allowed.tables(tree):
        snapshot = pins[allowed.table_name(table)].snapshot_id
        if snapshot is not None:
            version = exp.Version(this="VERSION", expression=exp.Literal.number(snapshot), kind="AS OF")
            table.set("version", version)
    return _printed(tree, "athena")


def to_duckdb(tree: exp.Query, pins: Mapping[str, TablePin], schemas: Schemas) -> str:
    """The DuckDB text. `tree` must be qualified, or integer division cannot be told from the other kind."""
    return _duckdb(tree, schemas, lambda table: _iceberg_scan(table, pins[allowed.table_name(table)]))


def to_duckdb_typed(tree: exp.Query, schemas: Schemas) -> str:
    """The DuckDB text over tables without rows: gives the types of the result, and needs no table to be bound."""
    return _duckdb(tree, schemas, lambda table: _no_rows(table, schemas[allowed.table_name(table)]))


def _duckdb(tree: exp.Query, schemas: Schemas, source: Callable[[exp.Table], exp.Expr]) -> str:
    pinned = typed(tree, schemas)
    for table in list(allowed.tables(pinned)):
        table.replace(source(table))
    for unnest in list(pinned.find_all(exp.Unnest)):
        if isinstance(unnest.parent, (exp.From, exp.Join, exp.Lateral)):
            unnest.replace(_unnest(unnest))
    translate(pinned)
    sizes.bound(pinned)
    return _printed(pinned, "duckdb")


def _printed(tree: exp.Query, engine: str) -> str:
    """The text for an engine; sql-refused where it has no words for something, which sqlglot would leave out."""
    try:
        return tree.sql(engine, identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        name = {"athena": "Athena", "duckdb": "DuckDB"}[engine]
        raise InvalidRequest("sql-refused", f"{name} cannot say this: {str(error).splitlines()[0]}") from error


def nested(schemas: Schemas) -> dict[str, object]:
    """The schemas as sqlglot takes them: database → table → column → type."""
    databases: dict[str, dict[str, Mapping[str, str]]] = {}
    for name, columns in schemas.items():
        database, _, table = name.partition(".")
        databases.setdefault(database, {})[table] = columns
    return dict(databases)


def typed(tree: exp.Query, schemas: Schemas) -> exp.Query:
    """A copy of the tree in which every node knows its type, from the columns of the tables upwards."""
    return annotate_types(tree.copy(), schema=nested(schemas), dialect="athena")


def _iceberg_scan(table: exp.Table, pin: TablePin) -> exp.Table:
    if not pin.metadata_location:
        # A table of the server's own: its engine has it under the whole name.
        own = exp.Table(this=exp.to_identifier(pin.table, quoted=True), alias=table.args["alias"].copy())
        own.set("joins", table.args.get("joins"))
        return own
    arguments: list[exp.Expr] = [exp.Literal.string(pin.metadata_location)]
    if pin.snapshot_id is not None:
        name = exp.to_identifier("snapshot_from_id", quoted=False)
        arguments.append(exp.PropertyEQ(this=name, expression=exp.Literal.number(pin.snapshot_id)))
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
    scan = exp.Table(this=exp.Anonymous(this="iceberg_scan", expressions=arguments), alias=alias.copy())
    if sample := table.args.get("joins"):
        scan.set("joins", sample)
    return scan


def _no_rows(table: exp.Table, columns: Mapping[str, str]) -> exp.Subquery:
    items = [
        exp.alias_(exp.cast(exp.null(), kind, dialect="athena"), name, quoted=True) for name, kind in columns.items()
    ]
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
    empty = exp.Select(expressions=items).where(exp.false(), copy=False)
    return exp.Subquery(this=empty, alias=alias.copy(), joins=table.args.get("joins"))


def _unnest(node: exp.Unnest) -> exp.Subquery:
    """Trino's UNNEST zips several arrays into columns and opens a map into two; DuckDB does that in a SELECT list."""
    alias = node.args.get("alias") or exp.TableAlias()
    names = list(alias.args.get("columns") or [])
    values: list[exp.Expr] = []
    for value in node.expressions:
        if isinstance(value, exp.Map) or value.is_type(exp.DataType.Type.MAP):
            values += [exp.Anonymous(this=f"map_{part}", expressions=[value.copy()]) for part in ("keys", "values")]
        else:
            values.append(value.copy())
    if offset := node.args.get("offset"):
        # The parser takes the name of the ordinal out of the alias's columns.
        names += [offset] if names and isinstance(offset, exp.Identifier) else []
        longest = exp.Greatest(this=_length(values[0]), expressions=[_length(v) for v in values[1:]])
        values.append(exp.Anonymous(this="generate_series", expressions=[exp.Literal.number(1), longest]))
    columns: list[exp.Expr] = [
        exp.alias_(exp.Anonymous(this="unnest", expressions=[value]), name)
        for value, name in zip(values, names or [f"_col{i}" for i in range(len(values))], strict=False)
    ]
    return exp.Subquery(this=exp.Select(expressions=columns), alias=exp.TableAlias(this=alias.this))


def _length(value: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="len", expressions=[value.copy()])
