"""One statement, run to its end: which output is written, and what the API then says about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from sqlglot import exp

from tests.fakes.athena import writes
from tests.fakes.athena.athena_types import AthenaType, refuse_for_hive
from tests.fakes.athena.catalog import Catalog, position
from tests.fakes.athena.engine import Answer, Engine
from tests.fakes.athena.errors import QueryFailed, QueryStopped
from tests.fakes.athena.faults import Faults
from tests.fakes.athena.output import PartWriter, put, target_is_empty, write_csv
from tests.fakes.athena.statements import Statement

_CODECS = ("GZIP", "SNAPPY", "ZSTD", "NONE", "UNCOMPRESSED", "LZ4")
_UNLOAD_OPTIONS = {"format", "compression", "compression_level", "partitioned_by", "field_delimiter"}
_CLEAN_UP = (
    "You may need to manually clean the data at location '{0}' before retrying. "
    "Athena will not delete data in your account."
)


@dataclass
class Outcome:
    """What a run leaves for the API. `spool` holds a SELECT's rows; `lines` those of text results."""

    location: str = ""
    columns: list[dict[str, Any]] = field(default_factory=list)
    spool: Path | None = None
    lines: list[list[str]] = field(default_factory=list)
    header: bool = False
    rows: int = 0
    update_count: int | None = None
    scanned: int = 0
    manifest: str = ""
    files: list[str] = field(default_factory=list)


@dataclass
class Run:
    """What one query execution has to work with. `check(rows)` raises when it is to stop or to fail."""

    id: str
    statement: Statement
    database: str
    result_location: str
    enforced: bool
    cutoff: int
    engine: Engine
    catalog: Catalog
    files: pafs.FileSystem
    faults: Faults
    check: Callable[[int], None]
    bound: Callable[[Answer], None]
    spool: Path
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def base(self) -> str:
        return self.result_location.rstrip("/")


def run(job: Run) -> Outcome:
    """Run the statement. Raises QueryFailed and QueryStopped; `job.outcome` says how far it came."""
    kind = job.statement.sub
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise QueryFailed("NOT_SUPPORTED", f"line 1:1: this Athena does not run {kind}")
    handler(job)
    return job.outcome


def _answer(job: Run) -> Answer:
    assert job.statement.tree is not None
    answer = job.engine.answer(job.statement.tree, job.database)
    job.bound(answer)
    job.outcome.scanned = answer.scanned_bytes
    if job.cutoff and answer.scanned_bytes > job.cutoff:
        raise QueryStopped("Query cancelled! : Bytes scanned limit was exceeded")
    return answer


def _select(job: Run) -> None:
    out = job.outcome
    out.location = f"{job.base}/{job.id}.csv"
    answer = _answer(job)
    out.columns = [c.type.info(c.name) for c in answer.columns]
    try:
        out.rows = write_csv(answer, job.files, out.location, job.spool, job.check)
    finally:
        answer.close()
    out.spool, out.header = job.spool, True
    put(job.files, f"{out.location}.metadata", _metadata(out))


def _unload(job: Run) -> None:
    statement, out = job.statement, job.outcome
    out.location = f"{job.base}/{job.id}"
    options = statement.options
    unknown = sorted(set(options) - _UNLOAD_OPTIONS)
    if unknown:
        raise QueryFailed("INVALID_TABLE_PROPERTY", f"line 1:1: Unload property '{unknown[0]}' does not exist")
    if "format" not in options:
        raise QueryFailed("INVALID_TABLE_PROPERTY", "line 1:1: Unload property 'format' is required")
    if not statement.location.startswith("s3://"):
        raise QueryFailed("INVALID_TABLE_PROPERTY", f"Not a valid S3 location: {statement.location}")
    answer = _answer(job)
    _refuse(job, answer)
    if not options.get("partitioned_by") and not target_is_empty(job.catalog.s3, statement.location):
        raise _occupied(statement.location, "unload")
    _write_parts(job, answer, statement.location)


def _refuse(job: Run, answer: Answer) -> None:
    """What the Hive writer refuses of the columns: no name, the same name twice, a type that Hive has not."""
    options = job.statement.options
    _check_names(answer)
    form = str(options.get("format", "PARQUET")).upper()
    codec = str(options.get("compression") or options.get("write_compression") or "GZIP").upper()
    if form != "PARQUET":
        raise QueryFailed("NOT_SUPPORTED", f"line 1:1: this Athena writes PARQUET only, not {form}")
    if codec not in _CODECS:
        raise QueryFailed("INVALID_TABLE_PROPERTY", f"line 1:1: compression {codec} is not supported for PARQUET")
    for column in answer.columns:
        refuse_for_hive(column.name, column.type)
    keys = [k.lower() for k in options.get("partitioned_by", [])]
    names = [c.name for c in answer.columns]
    if keys and names[-len(keys) :] != keys:
        message = "Partition keys must be the last columns in the table and in the same order as the table properties: "
        message += ", ".join(keys)
        raise QueryFailed("HIVE_COLUMN_ORDER_MISMATCH", message)


def _check_names(answer: Answer) -> None:
    seen: set[str] = set()
    for i, column in enumerate(answer.columns):
        if not column.named:
            raise QueryFailed("MISSING_COLUMN_NAME", f"line 1:1: Column name not specified at position {i + 1}")
        if column.name in seen:
            message = f"line 1:1: Column name '{column.name}' specified more than once"
            raise QueryFailed("DUPLICATE_COLUMN_NAME", message)
        seen.add(column.name)


def _occupied(location: str, table: str) -> QueryFailed:
    message = f"Target directory for table '{table}' already exists: {location}. {_CLEAN_UP.format(location)}"
    return QueryFailed("HIVE_PATH_ALREADY_EXISTS", message, error_type=1300)


def _write_parts(job: Run, answer: Answer, location: str) -> None:
    """The Parquet files below `location`, then manifest and metadata at the result location."""
    out = job.outcome
    schema = pa.schema([(c.name, f) for c, f in zip(answer.columns, _arrow_types(answer), strict=True)])
    ordered = job.statement.sub == "UNLOAD"
    writer = PartWriter(job.files, location, schema, job.statement.options, ordered)
    try:
        if job.faults.leftovers:
            _leave_attempt(job, answer, location, schema)
        writer.write(answer.batches(), job.faults, job.check)
        job.check(-1)
    except QueryFailed as error:
        raise QueryFailed(
            "", f"{error}. {_CLEAN_UP.format(location)}", error.category, error.error_type, error.retryable
        ) from error
    finally:
        answer.close()
    out.files, out.rows, out.update_count = writer.uris, writer.rows, writer.rows
    out.columns = [AthenaType("bigint").info("rows")]
    _manifest(job)


def _arrow_types(answer: Answer) -> list[pa.DataType]:
    return list(answer.arrow_schema().types)


def _leave_attempt(job: Run, answer: Answer, location: str, schema: pa.Schema) -> None:
    """Files of an attempt that Athena gave up and did again: real rows of the query, and not in the manifest."""
    first = next(answer.batches(), None)
    for _ in range(job.faults.leftovers):
        attempt = PartWriter(job.files, location, schema, job.statement.options)
        attempt.write(iter([] if first is None else [first.slice(0, 1000)]), Faults(file_count=1), lambda _: None)


def _manifest(job: Run) -> None:
    out = job.outcome
    out.manifest = f"{out.location}-manifest.csv"
    put(job.files, out.manifest, "".join(f"{uri}\n" for uri in out.files).encode())
    put(job.files, f"{out.location}.metadata", _metadata(out))


def _metadata(out: Outcome) -> bytes:
    """Athena's is an undocumented binary; nobody can read it, everybody can delete it."""
    return b"\x0a\x00" + "".join(c["Name"] for c in out.columns).encode()


def _ctas(job: Run) -> None:
    statement, out = job.statement, job.outcome
    assert statement.table is not None
    out.location = f"{job.base}/tables/{job.id}"
    name = job.catalog.name_of(statement.table, job.database)
    if job.catalog.lookup(*name) is not None:
        if statement.lenient:
            return
        message = f"{position(statement.table)}: Destination table 'awsdatacatalog.{name[0]}.{name[1]}' already exists"
        raise QueryFailed("TABLE_ALREADY_EXISTS", message)
    if not job.catalog.has_database(name[0]):
        raise QueryFailed("SCHEMA_NOT_FOUND", f"{position(statement.table)}: Schema '{name[0]}' does not exist")
    answer = _answer(job)
    if str(statement.options.get("table_type", "HIVE")).upper() == "ICEBERG":
        _ctas_iceberg(job, answer, name)
        return
    location = str(statement.options.get("external_location") or f"{out.location}/")
    _refuse(job, answer)
    if not target_is_empty(job.catalog.s3, location):
        raise _occupied(location, f"{name[0]}.{name[1]}")
    if statement.no_data:
        answer.close()
    else:
        _write_parts(job, answer, location)
    keys = [k.lower() for k in statement.options.get("partitioned_by", [])]
    writes.register_parquet(job.catalog, name, list(answer.columns), location, keys)


def _ctas_iceberg(job: Run, answer: Answer, name: tuple[str, str]) -> None:
    options = job.statement.options
    if options.get("is_external", True):
        raise QueryFailed("INVALID_TABLE_PROPERTY", "Iceberg tables require is_external = false")
    if not options.get("location"):
        raise QueryFailed("INVALID_TABLE_PROPERTY", "Table location can not be null")
    _check_names(answer)
    location = str(options["location"])
    if not target_is_empty(job.catalog.s3, location):
        raise _occupied(location, f"{name[0]}.{name[1]}")
    table = writes.create_iceberg(job.catalog, name, list(answer.columns), location, options.get("partitioning", []))
    if not job.statement.no_data:
        _append(job, answer, table, ())


def _append(job: Run, answer: Answer, table: Any, columns: tuple[str, ...]) -> None:
    out = job.outcome
    before = {f.file.file_path for f in table.scan().plan_files()} if table.current_snapshot() else set()

    def checked() -> Any:
        rows = 0
        for batch in answer.batches():
            job.check(rows)
            rows += batch.num_rows
            yield batch

    out.rows = out.update_count = writes.append(table, checked(), columns)
    answer.close()
    after = {f.file.file_path for f in table.refresh().scan().plan_files()} if table.current_snapshot() else set()
    out.files = sorted(after - before)
    out.columns = [AthenaType("bigint").info("rows")]
    _manifest(job)


def _insert(job: Run) -> None:
    statement = job.statement
    assert statement.table is not None
    job.outcome.location = f"{job.base}/{job.id}"
    entry = job.catalog.find(statement.table, job.database)
    if not entry.iceberg:
        raise QueryFailed("NOT_SUPPORTED", "line 1:1: this Athena inserts into Iceberg tables only")
    answer = _answer(job)
    _append(job, answer, job.catalog.iceberg.load_table((entry.database, entry.name)), statement.columns)


def _delete(job: Run) -> None:
    statement, out = job.statement, job.outcome
    assert statement.table is not None
    out.location = f"{job.base}/{job.id}.csv"
    entry = job.catalog.find(statement.table, job.database)
    if not entry.iceberg:
        raise QueryFailed(
            "NOT_SUPPORTED", "line 1:1: Modifying Hive table rows is only supported for transactional tables"
        )
    out.update_count, out.scanned = writes.delete(job.engine, entry, statement.table, statement.tree, job.database)
    out.columns = [AthenaType("bigint").info("rows")]


def _optimize(job: Run) -> None:
    """One file for each partition; the reading is billed. Athena keeps files that are large enough, this does not."""
    assert job.statement.table is not None
    entry = job.catalog.find(job.statement.table, job.database)
    if not entry.iceberg:
        raise QueryFailed("NOT_SUPPORTED", "line 1:1: OPTIMIZE is only supported for Iceberg tables")
    job.outcome.scanned = writes.optimize(job.catalog, entry)
    _lines(job, [], [])


def _explain(job: Run) -> None:
    answer = _answer(job)
    job.outcome.scanned = 0
    _lines(job, ["Query Plan"], [[line] for line in job.engine.explain(answer).split("\n")], "varchar")
    answer.close()


def _lines(job: Run, names: list[str], rows: list[list[str]], kind: str = "string") -> None:
    """The text file of a DDL or utility statement: tab-separated, without a header."""
    out = job.outcome
    out.location = f"{job.base}/{job.id}.txt"
    out.columns = [AthenaType(kind).info(name) for name in names]
    out.lines = rows
    put(job.files, out.location, "".join("\t".join(row) + "\n" for row in rows).encode())
    put(job.files, f"{out.location}.metadata", _metadata(out))


def _ddl(action: Callable[[Run, exp.Expr], None]) -> Callable[[Run], None]:
    def handle(job: Run) -> None:
        assert job.statement.tree is not None
        action(job, job.statement.tree)
        _lines(job, [], [])

    return handle


def _create_table(job: Run, tree: exp.Expr) -> None:
    writes.create_table(job.catalog, tree, str(job.statement.options["text"]), job.database, job.statement.lenient)


def _drop_table(job: Run, tree: exp.Expr) -> None:
    assert job.statement.table is not None
    writes.drop_table(job.catalog, job.statement.table, job.database, job.statement.lenient)


def _create_database(job: Run, tree: exp.Expr) -> None:
    writes.create_database(job.catalog, tree.this, tree, job.statement.lenient)


def _drop_database(job: Run, tree: exp.Expr) -> None:
    assert job.statement.table is not None
    writes.drop_database(job.catalog, job.statement.table, tree, job.statement.lenient)


def _show(job: Run) -> None:
    """SHOW DATABASES | SCHEMAS, SHOW TABLES [IN db], DESCRIBE [db.]table."""
    text = job.statement.tree.name if job.statement.tree is not None else ""
    glue = job.catalog.glue
    if re.match(r"SHOW\s+(DATABASES|SCHEMAS)", text, re.I):
        _lines(job, ["database_name"], sorted([d["Name"]] for d in glue.get_databases()["DatabaseList"]))
    elif found := re.match(r"SHOW\s+TABLES(?:\s+(?:IN|FROM)\s+[`\"]?(\w+)[`\"]?)?", text, re.I):
        tables = glue.get_tables(DatabaseName=found.group(1) or job.database)["TableList"]
        _lines(job, ["tab_name"], sorted([t["Name"]] for t in tables))
    elif found := re.match(r"DESC(?:RIBE)?\s+(?:FORMATTED\s+|EXTENDED\s+)?(\S+)", text, re.I):
        entry = job.catalog.find(exp.to_table(found.group(1).replace("`", '"'), dialect="trino"), job.database)
        _lines(job, ["col_name", "data_type", "comment"], [[n, t, ""] for n, t in entry.columns])
    else:
        raise QueryFailed("NOT_SUPPORTED", f"line 1:1: this Athena does not run {text.split()[0:3]}")


_HANDLERS: dict[str, Callable[[Run], None]] = {
    "SELECT": _select,
    "UNLOAD": _unload,
    "CREATE_TABLE_AS_SELECT": _ctas,
    "INSERT": _insert,
    "DELETE": _delete,
    "OPTIMIZE": _optimize,
    "EXPLAIN": _explain,
    "SHOW": _show,
    "DESCRIBE": _show,
    "CREATE_TABLE": _ddl(_create_table),
    "DROP_TABLE": _ddl(_drop_table),
    "CREATE_DATABASE": _ddl(_create_database),
    "DROP_DATABASE": _ddl(_drop_database),
}


def now_ms(since: float) -> int:
    return int((time.monotonic() - since) * 1000)
