"""Statements that change tables: CTAS, INSERT, DELETE and the DDL, through Glue and pyiceberg's GlueCatalog."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from botocore.exceptions import ClientError
from pyiceberg import types as ice
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import parse_transform
from sqlglot import exp

from tests.fakes.athena.athena_types import AthenaType, refuse_for_iceberg
from tests.fakes.athena.catalog import Catalog, Entry, position
from tests.fakes.athena.engine import Answer, Column, Engine
from tests.fakes.athena.errors import SYSTEM, QueryFailed
from tests.fakes.athena.scan import convert

_ICEBERG: dict[str, ice.IcebergType] = {
    "boolean": ice.BooleanType(),
    "integer": ice.IntegerType(),
    "bigint": ice.LongType(),
    "real": ice.FloatType(),
    "double": ice.DoubleType(),
    "varchar": ice.StringType(),
    "varbinary": ice.BinaryType(),
    "date": ice.DateType(),
    "time(6)": ice.TimeType(),
    "timestamp(6)": ice.TimestampType(),
    "timestamp(3) with time zone": ice.TimestamptzType(),
    "uuid": ice.UUIDType(),
}
_WORDS = {
    exp.DType.INT: "integer",
    exp.DType.TEXT: "varchar",
    exp.DType.VARCHAR: "varchar",
    exp.DType.FLOAT: "real",
    exp.DType.BINARY: "varbinary",
    exp.DType.VARBINARY: "varbinary",
    exp.DType.TIMESTAMP: "timestamp(6)",
    exp.DType.TIMESTAMPTZ: "timestamp(3) with time zone",
}
PARQUET_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
PARQUET_INPUT = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
PARQUET_OUTPUT = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"


def create_iceberg(
    catalog: Catalog, name: tuple[str, str], columns: list[Column], location: str, partitioning: list[str]
) -> Table:
    """An empty Iceberg table in Glue. Raises QueryFailed on types that Athena's Iceberg refuses."""
    ids = itertools.count(1)
    fields = []
    for column in columns:
        refuse_for_iceberg(column.name, column.type)
        fields.append(ice.NestedField(next(ids), column.name, _iceberg_type(column.type, ids), required=False))
    schema = Schema(*fields)
    spec = PartitionSpec(*(_partition(text, schema, 1000 + i) for i, text in enumerate(partitioning)))
    return catalog.iceberg.create_table(name, schema, location=location.rstrip("/"), partition_spec=spec)


def _iceberg_type(kind: AthenaType, ids: Iterator[int]) -> ice.IcebergType:
    if kind.name == "decimal":
        return ice.DecimalType(kind.precision, kind.scale)
    inner = [t for _, t in kind.children]
    if kind.name == "array":
        return ice.ListType(next(ids), _iceberg_type(inner[0], ids), element_required=False)
    if kind.name == "map":
        key, value = next(ids), next(ids)
        return ice.MapType(key, _iceberg_type(inner[0], ids), value, _iceberg_type(inner[1], ids), value_required=False)
    if kind.name == "row":
        made = (ice.NestedField(next(ids), n.lower(), _iceberg_type(t, ids), required=False) for n, t in kind.children)
        return ice.StructType(*made)
    if kind.name not in _ICEBERG:
        raise QueryFailed("NOT_SUPPORTED", f"Type not supported for Iceberg: {kind}")
    return _ICEBERG[kind.name]


def _partition(text: str, schema: Schema, number: int) -> PartitionField:
    """`month(trade_date)`, `bucket(16, id)`, `truncate(4, name)`, `day`, …, or a bare column."""
    match = re.fullmatch(r"\s*(\w+)\s*\(\s*(?:(\d+)\s*,\s*)?[\"`]?(\w+)[\"`]?\s*(?:,\s*(\d+)\s*)?\)\s*", text)
    if match:
        word, width, column = match.group(1).lower(), match.group(2) or match.group(4), match.group(3)
        transform = parse_transform(f"{word}[{width}]" if width else word)
        suffix = {"truncate": "trunc"}.get(word, word)
    else:
        column, transform, suffix = text.strip().strip('"`'), parse_transform("identity"), ""
    try:
        source = schema.find_field(column, case_sensitive=False)
    except ValueError as error:
        raise QueryFailed("INVALID_TABLE_PROPERTY", f"Unable to parse partitioning value: {text}") from error
    name = f"{source.name}_{suffix}" if suffix else source.name
    return PartitionField(source.field_id, number, transform, name)


def append(table: Table, batches: Iterator[pa.RecordBatch], columns: tuple[str, ...]) -> int:
    """Append rows whose columns stand, in order, for `columns` of the table (none named = all). One snapshot."""
    target = table.schema().as_arrow()
    names = [c.lower() for c in columns] or [f.name.lower() for f in target]
    rows = list(batches)
    if not rows:
        return 0
    read = pa.Table.from_batches(rows)
    if len(names) != read.num_columns:
        message = f"Insert query has mismatched column types: Table: {names}, Query: {read.schema.names}"
        raise QueryFailed("TYPE_MISMATCH", f"line 1:1: {message}")
    made = []
    for field in target:
        if field.name.lower() in names:
            made.append(_fit(read.column(names.index(field.name.lower())), field.type))
        else:
            made.append(pa.chunked_array([pa.nulls(read.num_rows, field.type)]))
    fitted = pa.Table.from_arrays(made, schema=target)
    if fitted.num_rows:
        _commit(lambda: table.append(fitted))
    return int(fitted.num_rows)


def _fit(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"line 1:1: Insert query has mismatched column types: {column.type} is no {kind}: {error}"
        raise QueryFailed("TYPE_MISMATCH", message) from error


def _commit(change: Callable[[], None]) -> None:
    try:
        change()
    except CommitFailedException as error:
        raise QueryFailed("ICEBERG_COMMIT_ERROR", f"Failed to commit: {error}", SYSTEM, 233, retryable=True) from error


def delete(engine: Engine, entry: Entry, node: exp.Table, where: exp.Expr | None, database: str) -> tuple[int, int]:
    """Delete the rows that meet `where`, copy-on-write. Returns (rows deleted, bytes scanned)."""
    condition = where.this if isinstance(where, exp.Where) else exp.true()
    count = exp.select(exp.alias_(exp.Count(this=exp.Star()), "n")).from_(node.copy()).where(condition.copy())
    matched, scanned = _scalar(engine.answer(count, database))
    if not matched:
        return 0, scanned
    table = engine.catalog.iceberg.load_table((entry.database, entry.name))
    if where is None:
        _commit(lambda: table.delete())
        return matched, scanned
    exact = convert(condition, table.schema())
    if exact is not None:
        _commit(lambda: table.delete(exact, case_sensitive=False))
        return matched, scanned
    kept = exp.Not(this=exp.Coalesce(this=exp.Paren(this=condition.copy()), expressions=[exp.false()]))
    rest = engine.answer(exp.select("*").from_(node.copy()).where(kept), database)
    target = table.schema().as_arrow()
    rows = [
        pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(b.columns, target, strict=True)], schema=target)
        for b in rest.batches()
    ]
    rest.close()
    _commit(lambda: table.overwrite(pa.Table.from_batches(rows, schema=target)))
    return matched, scanned


def optimize(catalog: Catalog, entry: Entry) -> int:
    """Write the rows of an Iceberg table again. Returns the bytes read."""
    table = catalog.iceberg.load_table((entry.database, entry.name))
    scanned = sum(task.file.file_size_in_bytes for task in table.scan().plan_files())
    if scanned:
        _commit(lambda: table.overwrite(table.scan().to_arrow()))
    return scanned


def _scalar(answer: Answer) -> tuple[int, int]:
    value = next(answer.batches()).column(0)[0].as_py()
    answer.close()
    return int(value), answer.scanned_bytes


def register_parquet(
    catalog: Catalog, name: tuple[str, str], columns: list[Column], location: str, keys: list[str]
) -> None:
    """Put the files of a CTAS below `location` into Glue as a Hive table of Parquet."""
    described = [{"Name": c.name, "Type": c.type.hive} for c in columns]
    catalog.glue.create_table(
        DatabaseName=name[0],
        TableInput={
            "Name": name[1],
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {"EXTERNAL": "TRUE", "has_encrypted_data": "false", "classification": "parquet"},
            "PartitionKeys": [d for d in described if d["Name"] in keys],
            "StorageDescriptor": {
                "Columns": [d for d in described if d["Name"] not in keys],
                "Location": location.rstrip("/") + "/",
                "InputFormat": PARQUET_INPUT,
                "OutputFormat": PARQUET_OUTPUT,
                "SerdeInfo": {"SerializationLibrary": PARQUET_SERDE},
            },
        },
    )


def create_table(catalog: Catalog, tree: exp.Expr, text: str, database: str, lenient: bool) -> None:
    """`CREATE TABLE … LOCATION … TBLPROPERTIES ('table_type'='ICEBERG')`, the DDL of design.md's tables."""
    properties = {p.name.lower(): p.args["value"].name for p in tree.find_all(exp.Property) if "value" in p.args}
    location = tree.find(exp.LocationProperty)
    name = catalog.name_of(tree.this.this, database)
    if properties.get("table_type", "").upper() != "ICEBERG":
        raise QueryFailed("NOT_SUPPORTED", "line 1:1: this Athena creates Iceberg tables only")
    if location is None:
        raise QueryFailed("INVALID_TABLE_PROPERTY", "Table location can not be null")
    if not catalog.has_database(name[0]):
        raise QueryFailed("SCHEMA_NOT_FOUND", f"{position(tree)}: Schema '{name[0]}' does not exist", error_type=1006)
    if catalog.lookup(*name) is not None:
        if lenient:
            return
        message = f"line 1:1: Table 'awsdatacatalog.{name[0]}.{name[1]}' already exists"
        raise QueryFailed("TABLE_ALREADY_EXISTS", message)
    columns = [Column(c.name.lower(), declared(c.args["kind"])) for c in tree.this.expressions]
    found = re.search(r"PARTITIONED\s+BY\s*\((.*?)\)\s*(?:LOCATION|TBLPROPERTIES|COMMENT|$)", text, re.I | re.S)
    parts = re.findall(r"[^,()]+(?:\([^)]*\))?", found.group(1)) if found else []
    partitioning = [p.strip() for p in parts if p.strip()]
    create_iceberg(catalog, name, columns, location.this.name, partitioning)


def declared(kind: exp.DataType) -> AthenaType:
    """The type that DDL declares; a timestamp of an Iceberg table is timestamp(6)."""
    inner = kind.expressions
    if kind.this is exp.DType.DECIMAL:
        sizes = [int(p.name) for p in inner] or [10]
        return AthenaType("decimal", sizes[0], sizes[1] if len(sizes) > 1 else 0)
    if kind.this in (exp.DType.ARRAY, exp.DType.LIST):
        return AthenaType("array", children=(("", declared(inner[0])),))
    if kind.this is exp.DType.MAP:
        return AthenaType("map", children=(("key", declared(inner[0])), ("value", declared(inner[1]))))
    if kind.this is exp.DType.STRUCT:
        return AthenaType("row", children=tuple((c.name, declared(c.args["kind"])) for c in inner))
    return AthenaType(_WORDS.get(kind.this, str(kind.this.value).lower()))


def drop_table(catalog: Catalog, node: exp.Table, database: str, lenient: bool) -> None:
    """Out of Glue; an Iceberg table's files go with it, a Hive table's stay, as on Athena."""
    name = catalog.name_of(node, database)
    entry = catalog.lookup(*name)
    if entry is None:
        if lenient:
            return
        raise QueryFailed("", f"FAILED: SemanticException [Error 10001]: Table not found {name[1]}", error_type=1006)
    catalog.glue.delete_table(DatabaseName=name[0], Name=name[1])
    if entry.iceberg:
        for uri, _ in catalog.objects(entry.location.rstrip("/") + "/"):
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            catalog.s3.delete_object(Bucket=bucket, Key=key)


def create_database(catalog: Catalog, node: exp.Expr, tree: exp.Expr, lenient: bool) -> None:
    name = (node.args.get("db") or node).name.lower()
    location = tree.find(exp.LocationProperty)
    described: dict[str, Any] = {"Name": name}
    if location is not None:
        described["LocationUri"] = location.this.name
    try:
        catalog.glue.create_database(DatabaseInput=described)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AlreadyExistsException":
            raise
        if not lenient:
            raise QueryFailed("", f"FAILED: Execution Error: Database {name} already exists") from error


def drop_database(catalog: Catalog, node: exp.Expr, tree: exp.Expr, lenient: bool) -> None:
    name = (node.args.get("db") or node).name.lower()
    if not catalog.has_database(name):
        if lenient:
            return
        raise QueryFailed("", f"FAILED: SemanticException [Error 10072]: Database does not exist: {name}")
    tables = catalog.glue.get_tables(DatabaseName=name)["TableList"]
    if tables and not tree.args.get("cascade"):
        raise QueryFailed("", f"FAILED: InvalidOperationException(message:Database {name} is not empty)")
    for table in tables:
        catalog.glue.delete_table(DatabaseName=name, Name=table["Name"])
    catalog.glue.delete_database(Name=name)
