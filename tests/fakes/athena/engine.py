"""DuckDB as the query engine: one database for the process, one cursor for each query.

A query is translated, bound, and answered as a stream of record batches whose columns have the types that Athena's
have. Errors of DuckDB become AthenaErrors with Athena's words in front, as far as clients look at them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

from tests.fakes.athena.athena_types import UNKNOWN, AthenaType, from_duckdb
from tests.fakes.athena.catalog import Catalog, Entry, position
from tests.fakes.athena.dialect import MACROS, _type, is_cte, translate
from tests.fakes.athena.errors import SYSTEM, QueryFailed, QueryStopped
from tests.fakes.athena.scan import Scanned, scanned_bytes
from tests.fakes.athena.text import java_double

BATCH_ROWS = 65_536
# Stands for the name of a select item that has none.
_UNNAMED = "__unnamed_item_"
_CAST_ALWAYS = re.compile(r"HUGEINT|UBIGINT|UINTEGER|USMALLINT|UTINYINT|STRUCT|ENUM|TIMESTAMP_NS")


@dataclass(frozen=True)
class Column:
    """One column of an answer; `named` is False where the query gives it no name."""

    name: str
    type: AthenaType
    named: bool = True


@dataclass(frozen=True)
class Answer:
    """A bound query: columns are known, nothing has run. `batches` runs it; `interrupt` stops it from any thread."""

    columns: tuple[Column, ...]
    sql: str
    cursor: duckdb.DuckDBPyConnection
    scanned_bytes: int
    tree: exp.Expr

    def batches(self, as_text: bool = False) -> Iterator[pa.RecordBatch]:
        """Batches of at most BATCH_ROWS rows, in the query's order. `as_text` casts what Arrow cannot say to text."""
        try:
            relation = self.cursor.sql(self._typed_sql(as_text))
            yield from relation.to_arrow_reader(BATCH_ROWS)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise failure(error, self.tree) from error

    def _typed_sql(self, as_text: bool) -> str:
        raw = self.cursor.sql(self.sql).types
        items = []
        for i, (column, kind) in enumerate(zip(self.columns, raw, strict=True)):
            item = f'"c{i}"'
            if as_text and (column.type.name in ("json", "uuid") or column.type.name.startswith("interval")):
                item = f"CAST({item} AS VARCHAR)"
            elif _CAST_ALWAYS.search(str(kind)):
                item = f"CAST({item} AS {column.type.duckdb})"
            items.append(item)
        if items == [f'"c{i}"' for i in range(len(items))]:
            return self.sql
        names = ", ".join(f'"c{i}"' for i in range(len(items)))
        return f"SELECT {', '.join(items)} FROM ({self.sql}) AS answer({names})"

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of `batches`; nothing runs."""
        limited = f"SELECT * FROM ({self._typed_sql(False)}) AS typed LIMIT 0"
        return self.cursor.sql(limited).to_arrow_reader(1).schema

    def interrupt(self) -> None:
        with contextlib.suppress(duckdb.Error):
            self.cursor.interrupt()

    def close(self) -> None:
        self.cursor.close()


class Engine:
    """The database. `answer` binds a query; it raises QueryFailed on unknown tables, columns, functions, types."""

    def __init__(self, catalog: Catalog, threads: int = 2, memory: str = "2GB") -> None:
        self.catalog = catalog
        self._database = duckdb.connect(config={"threads": threads, "memory_limit": memory})
        for name in ("avro", "httpfs", "iceberg", "icu"):
            self._database.execute(f"LOAD '{_extension(name)}'")
        store = catalog.store
        scheme, _, host = store.s3_endpoint.partition("://")
        self._database.execute(
            f"CREATE SECRET moto (TYPE s3, ENDPOINT '{host}', URL_STYLE 'path', USE_SSL {scheme == 'https'}, "
            f"REGION '{store.region}', KEY_ID '{store.access_key}', SECRET '{store.secret_key}')"
        )
        for setting in ("TimeZone='UTC'", "integer_division=true", "unsafe_enable_version_guessing=false"):
            self._database.execute(f"SET GLOBAL {setting}")
        self._database.create_function("athena_java_double", java_double, ["DOUBLE"], "VARCHAR")
        self._database.execute(MACROS)

    def close(self) -> None:
        self._database.close()

    def answer(self, tree: exp.Expr, database: str) -> Answer:
        """Bind one query; its tables are resolved now, at their current or at their named snapshots."""
        tree = tree.copy()
        _mark_unnamed(tree)
        cursor = self._database.cursor()
        try:
            sources, mentions = self._sources(tree, database, cursor)
            scanned = scanned_bytes(tree, mentions)
            keys = {str(n): i for i, n in enumerate(sources)}
            text = relation = None
            for rows in ("map", "row"):
                try:
                    text = translate(_keyed(tree, keys), lambda t: list(sources.values())[int(t.name)], rows)
                    relation = cursor.sql(text)
                    break
                except duckdb.BinderException as error:
                    if rows == "row" or "map_entries" not in str(error):
                        raise
            assert text is not None
            assert relation is not None
        except duckdb.Error as error:
            cursor.close()
            raise failure(error, tree) from error
        except BaseException:
            cursor.close()
            raise
        return Answer(_columns(tree, relation), text, cursor, scanned, tree)

    def explain(self, answer: Answer) -> str:
        rows = answer.cursor.sql(f"EXPLAIN {answer.sql}").fetchall()
        return "\n".join(str(row[-1]) for row in rows)

    def _sources(
        self, tree: exp.Expr, database: str, cursor: duckdb.DuckDBPyConnection
    ) -> tuple[dict[int, str], dict[int, Scanned]]:
        """The FROM items of all catalog tables, and those of Iceberg for the bill, by `id` of their nodes."""
        sources: dict[int, str] = {}
        mentions: dict[int, Scanned] = {}
        for node in tree.find_all(exp.Table):
            if not isinstance(node.this, exp.Identifier) or is_cte(node):
                continue
            entry = self.catalog.find(node, database)
            if not entry.iceberg:
                sources[id(node)] = self._parquet(entry)
                continue
            table = self.catalog.opened(entry)
            snapshot = self.catalog.snapshot_of(entry, node, lambda value: _millis(cursor, value))
            if entry.suffix:
                sources[id(node)] = _metadata_table(entry, table, cursor, node)
            elif snapshot is None and table.current_snapshot() is None:
                sources[id(node)] = _empty(table.schema().as_arrow(), cursor, f"empty_{len(sources)}")
            else:
                pin = f", snapshot_from_id => {snapshot}" if snapshot is not None else ""
                sources[id(node)] = f"iceberg_scan('{_text(entry.metadata_location)}'{pin})"
                mentions[id(node)] = Scanned(table, snapshot)
        return sources, mentions

    def _parquet(self, entry: Entry) -> str:
        """A Hive table of Parquet files: everything below its location, cast to Glue's types."""
        files = [uri for uri, size in self.catalog.objects(entry.location.rstrip("/") + "/") if size]
        items = []
        for name, hive in entry.columns:
            kind: exp.Expr = exp.DataType.build(hive, dialect="hive")
            for node in reversed(list(kind.find_all(exp.DataType))):
                new = _type(node)
                if node is kind:
                    kind = new
                else:
                    node.replace(new)
            value = f'"{name}"' if files else "NULL"
            items.append(f'CAST({value} AS {kind.sql("duckdb")}) AS "{name}"')
        if not files:
            return f"(SELECT {', '.join(items)} WHERE false)"
        listed = ", ".join(f"'{_text(uri)}'" for uri in files)
        return f"(SELECT {', '.join(items)} FROM read_parquet([{listed}], hive_partitioning => true))"


def _keyed(tree: exp.Expr, keys: dict[str, int]) -> exp.Expr:
    """A copy whose catalog tables are named by their number, with their old name as alias."""
    copy = tree.copy()
    for original, node in zip(list(tree.find_all(exp.Table)), list(copy.find_all(exp.Table)), strict=True):
        number = keys.get(str(id(original)))
        if number is None:
            continue
        alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(node.name, quoted=True))
        name = exp.to_identifier(str(number), quoted=True)
        keep = {k: node.args[k] for k in ("joins", "sample") if node.args.get(k)}
        node.replace(exp.Table(this=name, alias=alias, **keep))
    return copy


def _millis(cursor: duckdb.DuckDBPyConnection, value: exp.Expr) -> int:
    moment = exp.cast(value.copy(), exp.DType.TIMESTAMPTZ)
    row = cursor.execute(f"SELECT epoch_ms({moment.sql('duckdb')})").fetchone()
    return int(row[0]) if row else 0


def _text(value: str) -> str:
    return value.replace("'", "''")


def _extension(name: str) -> Path:
    """The extension's file inside its wheel: nothing is downloaded."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    assert spec is not None
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).rglob(f"{name}.duckdb_extension"))


def _empty(schema: pa.Schema, cursor: duckdb.DuckDBPyConnection, name: str) -> str:
    cursor.register(name, schema.empty_table())
    return name


def _metadata_table(entry: Entry, table: Any, cursor: duckdb.DuckDBPyConnection, node: exp.Table) -> str:
    """`"t$snapshots"` and its like, as pyiceberg shows them (its columns are Iceberg's, Athena's are fewer)."""
    views = ("snapshots", "history", "files", "partitions", "manifests", "refs", "entries")
    if entry.suffix not in views:
        message = f"{position(node)}: Table 'awsdatacatalog.{entry.database}.{node.name}' does not exist"
        raise QueryFailed("TABLE_NOT_FOUND", message, error_type=1006)
    name = f"{entry.name}_{entry.suffix}"
    cursor.register(name, getattr(table.inspect, entry.suffix)())
    return f'"{name}"'


def _outer(tree: exp.Expr) -> exp.Expr:
    """The SELECT that names the columns of a query."""
    while isinstance(tree, exp.SetOperation | exp.Subquery):
        tree = tree.this
    return tree


def _mark_unnamed(tree: exp.Expr) -> None:
    select = _outer(tree)
    if not isinstance(select, exp.Select):
        return
    for i, item in enumerate(list(select.expressions)):
        if not isinstance(item, exp.Alias | exp.Column | exp.Dot | exp.Star):
            item.replace(exp.alias_(item.copy(), f"{_UNNAMED}{i}", quoted=True))


def _columns(tree: exp.Expr, relation: duckdb.DuckDBPyRelation) -> tuple[Column, ...]:
    select = _outer(tree)
    items = select.expressions if isinstance(select, exp.Select) else []
    starred = any(i.is_star for i in items)
    columns = []
    for i, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        named = not name.startswith(_UNNAMED) and isinstance(select, exp.Select)
        null = not starred and isinstance(items[i].unalias(), exp.Null) if i < len(items) else False
        null = null and not isinstance(tree, exp.SetOperation)
        kind_ = UNKNOWN if null else from_duckdb(kind)
        columns.append(Column(name.lower() if named else f"_col{i}", kind_, named))
    return tuple(columns)


def failure(error: Exception, tree: exp.Expr) -> QueryFailed | QueryStopped:
    """An error of DuckDB in Athena's words. S3 trouble is the system's fault and can be retried."""
    text = str(error)
    if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in text:
        return QueryStopped("Query cancelled by user")
    first = text.split("\n")[0]
    if found := re.search(r'[Cc]olumn "([^"]+)" (?:was )?not found|does not have a column named "([^"]+)"', text):
        name = found.group(1) or found.group(2)
        place = next((i for i in tree.find_all(exp.Identifier) if i.name.lower() == name.lower()), None)
        where = position(place) if place is not None else "line 1:1"
        message = f"{where}: Column '{name.lower()}' cannot be resolved or requester is not authorized to access "
        return QueryFailed("COLUMN_NOT_FOUND", message + "requested resources", error_type=1006)
    if found := re.search(r"Function with name (\w+) does not exist", text):
        return QueryFailed("FUNCTION_NOT_FOUND", f"line 1:1: Function '{found.group(1)}' not registered")
    kinds: list[tuple[type[Exception], str]] = [
        (duckdb.ConversionException, "INVALID_CAST_ARGUMENT"),
        (duckdb.OutOfRangeException, "NUMERIC_VALUE_OUT_OF_RANGE"),
        (duckdb.BinderException, "TYPE_MISMATCH"),
        (duckdb.ParserException, "SYNTAX_ERROR"),
        (duckdb.CatalogException, "SYNTAX_ERROR"),
        (duckdb.InvalidInputException, "INVALID_FUNCTION_ARGUMENT"),
    ]
    for kind, code in kinds:
        if isinstance(error, kind):
            return QueryFailed(code, f"line 1:1: {first}" if code in ("TYPE_MISMATCH", "SYNTAX_ERROR") else first)
    if isinstance(error, duckdb.IOException | duckdb.HTTPException | OSError):
        return QueryFailed("ICEBERG_CANNOT_OPEN_SPLIT", first, SYSTEM, 401, retryable=True)
    return QueryFailed("GENERIC_INTERNAL_ERROR", first, SYSTEM, 500)
