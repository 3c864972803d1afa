"""A commented starter dataset and its test file, over one of the tables: what `check` and `test` accept as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pyiceberg import types as ice
from pyiceberg.types import NestedField

from flight_server.authoring.check import TABLES
from flight_server.errors import SetupError, TableError, nearest
from flight_server.tables import ddl
from flight_server.tables.ddl import Definition

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Contract type and a value in a test file, for columns that can be a parameter or a value in TOML.
_WORDS: dict[type[ice.IcebergType], tuple[str, str]] = {
    ice.BooleanType: ("bool", "true"),
    ice.IntegerType: ("int32", "1"),
    ice.LongType: ("int64", "1"),
    ice.FloatType: ("float32", "1.5"),
    ice.DoubleType: ("float64", "1.5"),
    ice.StringType: ("string", '"A"'),
    ice.DateType: ("date", "2024-01-02"),
    ice.TimestampType: ("timestamp", "2024-01-02T09:30:00"),
}


def create(directory: Path, name: str, table: str | None = None) -> tuple[Path, Path]:
    """Write `<name>.sql` and `<name>.test.toml` into `directory`, reading `table`, by default the first one with dates.

    Raises SetupError (bad-dataset) for a name that is taken or cannot be one, TableError when there is no such table.
    """
    if not _NAME.fullmatch(name):
        raise SetupError("bad-dataset", f"{name!r} is no dataset name: lower case, digits and underscores, not first")
    sql, test = directory / f"{name}.sql", directory / f"{name}.test.toml"
    for path in (sql, test):
        if path.exists():
            raise SetupError("bad-dataset", f"there is a file {str(path)!r} already; it is left as it is")
    definition = _table(directory, table)
    columns = [field for field in definition.schema.fields if type(field.field_type) in _WORDS]
    # "x" refuses what appeared since the look above.
    with sql.open("x", encoding="utf-8") as file:
        file.write(_sql(name, definition, columns))
    with test.open("x", encoding="utf-8") as file:
        file.write(_test(definition, columns))
    return sql, test


def _table(directory: Path, name: str | None) -> Definition:
    found = ddl.read_all(directory / TABLES)
    if name is None:
        dated = [each for each in found.values() if _date(each.schema.fields)]
        return (dated or list(found.values()))[0]
    if name not in found:
        raise TableError(f"there is no DDL of table {name!r}{nearest(name, found)}")
    return found[name]


def _date(columns: Sequence[NestedField]) -> NestedField | None:
    return next((field for field in columns if isinstance(field.field_type, ice.DateType)), None)


def _filter(columns: Sequence[NestedField]) -> NestedField | None:
    """A column to choose rows by: the first that is never null and neither a date nor a fraction."""
    kinds = (ice.IntegerType, ice.LongType, ice.StringType)
    fitting = [field for field in columns if isinstance(field.field_type, kinds)]
    return next((field for field in fitting if field.required), next(iter(fitting), None))


def _sql(name: str, definition: Definition, columns: Sequence[NestedField]) -> str:
    date, chosen = _date(columns), _filter(columns)
    params, terms = [], []
    if chosen is not None:
        word, value = _WORDS[type(chosen.field_type)]
        doc = _quoted(chosen.doc or chosen.name)
        params.append(f'-- {chosen.name:<10} = {{ type = "{word}", example = {value}, doc = {doc} }}')
        terms.append(f"t.{chosen.name} = :{chosen.name}")
    if date is not None:
        params += [
            '-- start_date = { type = "date", example = 2024-01-02, doc = "First day, inclusive" }',
            "-- # optional: when a caller leaves it out, its term is removed from the query",
            '-- end_date   = { type = "date", optional = true, example = 2024-01-31, doc = "Last day, inclusive" }',
        ]
        terms += [f"t.{date.name} >= :start_date", f"t.{date.name} <= :end_date"]
    order = date or chosen or columns[0]
    width = max(len(field.name) for field in columns)
    declared = [
        f'-- {field.name:<{width}} = {{ type = "{_WORDS[type(field.field_type)][0]}"'
        f"{', null = false' if field.required else ''}, doc = {_quoted(field.doc or '')} }}"
        for field in columns
    ]
    return "\n".join(
        [
            "-- /// dataset",
            "-- # The contract, in TOML. All keys: docs/datasets.md. `athena-flight check` names what is wrong.",
            f"-- title   = {_quoted(name.replace('_', ' ').capitalize())}",
            f"-- doc     = {_quoted(definition.doc or 'What one row is, and the unit of its values.')}",
            '-- owner   = "my-team"',
            '-- tags    = ["new"]',
            "-- version = 1",
            "-- # What is unique in every answer, for example:",
            f"-- # key   = [{_quoted(columns[0].name)}]",
            f"-- sorted  = [{_quoted(order.name)}]",
            *(["--", "-- [params]", *params] if params else []),
            *(["--", "-- [rules]", '-- range = "start_date <= end_date"'] if date else []),
            "--",
            "-- # Every column of the result, in the order of the SELECT.",
            "-- [columns]",
            *declared,
            "--",
            "-- [limits]",
            '-- max_scan = "2 GB"',
            '-- timeout  = "60s"',
            "-- max_rows = 50_000",
            "-- ///",
            f"SELECT {', '.join(f't.{field.name}' for field in columns)}",
            f"FROM {definition.name} AS t",
            *(f"{'WHERE' if number == 0 else '  AND'} {term}" for number, term in enumerate(terms)),
            f"ORDER BY t.{order.name}",
            "",
        ]
    )


def _test(definition: Definition, columns: Sequence[NestedField]) -> str:
    date, chosen = _date(columns), _filter(columns)
    row = ", ".join(f"{field.name} = {_WORDS[type(field.field_type)][1]}" for field in columns)
    params = [f"{chosen.name} = {_WORDS[type(chosen.field_type)][1]}"] if chosen else []
    reversed_ = [*params, "start_date = 2024-01-02", "end_date = 2024-01-01"]
    params += ["start_date = 2024-01-02"] if date else []
    lines = [
        "# `athena-flight test` runs these cases over tables that hold these rows and nothing else.",
        f'[inputs."{definition.name}"]',
        f"rows = [{{ {row} }}]",
        "",
        "[[case]]",
        'name   = "the row is found"',
        f"params = {{ {', '.join(params)} }}",
        f"rows   = [{{ {row} }}]",
    ]
    if date:
        lines += [
            "",
            "[[case]]",
            'name   = "range reversed"',
            f"params = {{ {', '.join(reversed_)} }}",
            'error  = "range"',
        ]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
