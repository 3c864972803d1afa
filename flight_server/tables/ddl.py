"""DDL files: one Iceberg table each, `sql/tables/<database>.<table>.sql`, in the Athena dialect.

Athena's Iceberg DDL knows neither NOT NULL nor a comment of the table, so both stand in a leading block of TOML in line
comments, shaped like that of a dataset, and Athena skips it:

    -- /// table
    -- doc      = "Daily prices of US stocks."
    -- not_null = ["meta_id", "trade_date"]
    -- ///
    CREATE TABLE market_data.us_stocks_price (meta_id int COMMENT 'Stock', trade_date date)
    PARTITIONED BY (month(trade_date))
    TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')

The files have no LOCATION: it follows from the configured warehouse. To run one in Athena's console by hand, add
`LOCATION 's3://…'` before TBLPROPERTIES. Files are read here and never executed; `catalog.py` creates the tables.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypedDict

import sqlglot
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField
from sqlglot import exp

from flight_server.errors import TableError, nearest
from flight_server.tables.ddl_types import Bad, iceberg_type, partition_transform

# Athena's word for a property of an Iceberg table, and Iceberg's.
_ICEBERG_PROPERTIES = {
    "format": "write.format.default",
    "write_compression": "write.parquet.compression-codec",
    "compression_level": "write.parquet.compression-level",
    "write_target_data_file_size_bytes": "write.target-file-size-bytes",
}
# Athena reads these itself, from the table's properties, in OPTIMIZE and VACUUM.
_ATHENA_PROPERTIES = {
    "optimize_rewrite_data_file_threshold",
    "optimize_rewrite_delete_file_threshold",
    "optimize_rewrite_min_data_file_size_bytes",
    "optimize_rewrite_max_data_file_size_bytes",
    "vacuum_max_metadata_files_to_keep",
    "vacuum_max_snapshot_age_seconds",
    "vacuum_min_snapshots_to_keep",
}
_CODECS = {"zstd", "snappy", "gzip", "lz4", "none"}


@dataclass(frozen=True, slots=True)
class Definition:
    """What one DDL file says. `name` is `database.table`; `properties` are Iceberg's, with `doc` as `comment`."""

    name: str
    doc: str
    schema: Schema
    spec: PartitionSpec
    properties: Mapping[str, str]
    path: Path


def read_all(directory: Path) -> dict[str, Definition]:
    """Every `*.sql` file of `directory` by table name, sorted. TableError for none, or for the first wrong one."""
    paths = sorted(directory.glob("*.sql"))
    if not paths:
        raise TableError(f"no DDL file in {str(directory)!r}: expected <database>.<table>.sql")
    return {definition.name: definition for definition in map(read, paths)}


def read(path: Path) -> Definition:
    """The table that the file at `path` defines. TableError names file, line and column (counted from 1)."""
    try:
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot read it: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Definition:
    """Like `read`, for text already in memory; `path` gives the expected name and stands in messages."""
    return _File(text, path).definition()


class _Contract(TypedDict):
    doc: str
    not_null: list[str]


class _File:
    """One DDL file while it is read: the text and its place, so that every error can say where."""

    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = path

    def definition(self) -> Definition:
        contract = self._contract()
        create = self._statement()
        name = self._name(create)
        schema = self._schema(create, contract["not_null"])
        properties = self._properties(create)
        doc = contract["doc"]
        return Definition(
            name=name,
            doc=doc,
            schema=schema,
            spec=self._spec(create, schema),
            properties=properties | ({"comment": doc} if doc else {}),
            path=self.path,
        )

    def fail(self, message: str, at: exp.Expr | None = None) -> NoReturn:
        """TableError for this file; the place is that of the first identifier in `at`."""
        found = at.find(exp.Identifier) if at is not None else None
        if found is None or "start" not in found.meta:
            raise TableError(f"{self.path}: {message}")
        before = self.text[: found.meta["start"]]
        raise TableError(f"{self.path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: {message}")

    def _contract(self) -> _Contract:
        lines = self.text.splitlines()
        first = next((i for i, line in enumerate(lines) if line.strip()), 0)
        if not lines or lines[first].rstrip() != "-- /// table":
            return {"doc": "", "not_null": []}
        last = next((i for i in range(first + 1, len(lines)) if lines[i].rstrip() == "-- ///"), None)
        if last is None:
            raise TableError(f"{self.path}:{first + 1}: the block '-- /// table' has no end '-- ///'")
        block = lines[first + 1 : last]
        for number, line in enumerate(block, start=first + 2):
            if line.rstrip() != "--" and not line.startswith("-- "):
                raise TableError(f"{self.path}:{number}: every line of the block starts with '-- ', this does not")
        try:
            # Blank lines in front, so that the line in tomllib's message is that of the file.
            found = tomllib.loads("\n" * (first + 1) + "\n".join(line[3:] for line in block))
        except tomllib.TOMLDecodeError as error:
            raise TableError(f"{self.path}: {error}") from error
        for key in found:
            if key not in ("doc", "not_null"):
                self.fail(f"unknown key {key!r} in the block '-- /// table'{nearest(key, ['doc', 'not_null'])}")
        doc, not_null = found.get("doc", ""), found.get("not_null", [])
        if not isinstance(doc, str):
            self.fail(f"doc must be a text, got {doc!r}")
        if not isinstance(not_null, list) or not all(isinstance(column, str) for column in not_null):
            self.fail(f"not_null must be a list of column names, got {not_null!r}")
        return {"doc": doc, "not_null": not_null}

    def _statement(self) -> exp.Create:
        try:
            found = [tree for tree in sqlglot.parse(self.text, read="athena") if tree is not None]
        except sqlglot.errors.ParseError as error:
            first = error.errors[0]
            place = f"{self.path}:{first['line']}:{first['col']}"
            what = re.sub(r" but got <Token.*", "", str(first["description"]))
            raise TableError(f"{place}: {what} near {first['highlight']!r}") from error
        except sqlglot.errors.TokenError as error:
            # The cause reads `Missing ' from 3:17`; without one there is no place.
            what, _, place = str(error.__cause__ or error).partition(" from ")
            at = f":{place}" if re.fullmatch(r"\d+:\d+", place) else ""
            raise TableError(f"{self.path}{at}: {what}") from error
        if len(found) != 1:
            self.fail(f"expected one CREATE TABLE statement, found {len(found)} statements")
        create = found[0]
        if not isinstance(create, exp.Create) or create.kind != "TABLE" or not isinstance(create.this, exp.Schema):
            self.fail(f"expected CREATE TABLE database.table (column type, …), found {_words(create)}", create)
        if create.args.get("replace") or create.expression is not None:
            self.fail("CREATE OR REPLACE and CREATE TABLE AS are not supported in a DDL file", create)
        return create

    def _name(self, create: exp.Create) -> str:
        table = create.this.this
        if not table.db or table.catalog:
            self.fail(f"the table is named database.table, got {table.sql()!r}", table)
        name = f"{table.db}.{table.name}"
        if name != name.lower():
            self.fail(f"Athena turns names into lower case: write {name.lower()!r}", table)
        if self.path.name != f"{name}.sql":
            self.fail(f"a file named {self.path.name!r} cannot define {name!r}: expected {name + '.sql'!r}", table)
        return name

    def _schema(self, create: exp.Create, not_null: list[str]) -> Schema:
        columns = create.this.expressions
        names = [column.name for column in columns]
        for name in not_null:
            if name not in names:
                self.fail(f"not_null names {name!r}, which is no column{nearest(name, names)}", create.this)
        ids = itertools.count(1)
        numbered = [(next(ids), column) for column in columns]
        fields: list[NestedField] = []
        for number, column in numbered:
            doc = self._comment(column)
            if column.name in [field.name for field in fields]:
                self.fail(f"two columns are named {column.name!r}", column)
            if column.name != column.name.lower():
                self.fail(f"Athena turns names into lower case: write {column.name.lower()!r}", column)
            try:
                kind = iceberg_type(column.args["kind"], ids)
            except Bad as error:
                self.fail(f"column {column.name!r}: {error}", column)
            fields.append(NestedField(number, column.name, kind, required=column.name in not_null, doc=doc))
        return Schema(*fields)

    def _comment(self, column: exp.ColumnDef) -> str | None:
        doc = None
        for constraint in column.constraints:
            if not isinstance(constraint.kind, exp.CommentColumnConstraint):
                self.fail(
                    f"column {column.name!r}: Athena's Iceberg DDL has no {constraint.sql()};"
                    " put required columns into not_null of the block '-- /// table'",
                    column,
                )
            doc = constraint.kind.this.name
        return doc

    def _properties(self, create: exp.Create) -> dict[str, str]:
        found = create.args.get("properties")
        given: dict[str, str] = {}
        for item in found.expressions if found is not None else []:
            if isinstance(item, exp.LocationProperty):
                self.fail("LOCATION follows from the configured warehouse; leave it out", create)
            elif type(item) is exp.Property and item.this.is_string:
                given[item.name] = item.args["value"].name
            elif not isinstance(item, exp.PartitionedByProperty):
                self.fail(f"{item.sql('athena')} is not part of Athena's Iceberg DDL", create)
        if given.pop("table_type", "").upper() != "ICEBERG":
            self.fail("TBLPROPERTIES must say 'table_type'='ICEBERG'", create)
        if given.setdefault("format", "parquet").lower() != "parquet":
            self.fail(f"'format'={given['format']!r}: only 'parquet' is written and read here", create)
        if given.setdefault("write_compression", "zstd").lower() not in _CODECS:
            self.fail(
                f"'write_compression'={given['write_compression']!r}: one of {', '.join(sorted(_CODECS))}", create
            )
        for key in given:
            if key not in _ICEBERG_PROPERTIES and key not in _ATHENA_PROPERTIES:
                close = nearest(key, [*_ICEBERG_PROPERTIES, *_ATHENA_PROPERTIES])
                self.fail(f"Athena has no table property {key!r}{close}", create)
        given["format"], given["write_compression"] = given["format"].lower(), given["write_compression"].lower()
        if given["write_compression"] == "none":
            given["write_compression"] = "uncompressed"
        return {_ICEBERG_PROPERTIES.get(key, key): value for key, value in given.items()}

    def _spec(self, create: exp.Create, schema: Schema) -> PartitionSpec:
        clause = create.find(exp.PartitionedByProperty)
        fields: list[PartitionField] = []
        for number, term in enumerate(clause.this.expressions if clause is not None else []):
            try:
                source, transform, name = partition_transform(term, schema)
            except Bad as error:
                self.fail(f"PARTITIONED BY: {error}", term)
            if name in [field.name for field in fields]:
                self.fail(f"PARTITIONED BY: {name!r} is there already", term)
            fields.append(PartitionField(source, PARTITION_FIELD_ID_START + number, transform, name))
        return PartitionSpec(*fields)


def _words(tree: exp.Expr) -> str:
    if not isinstance(tree, exp.Create):
        return tree.key.upper()
    return f"CREATE {tree.kind}" + (" AS" if tree.kind == "TABLE" and tree.expression is not None else "")
