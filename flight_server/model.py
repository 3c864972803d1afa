"""The values that pass between the layers: what can be asked, what was asked, how it will be answered.

All are frozen. Nothing here does I/O or knows how it is parsed, planned or run; `datasets`, `plan`, `engines` and
`results` meet only through these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
from sqlglot import exp

Scalar = bool | int | float | Decimal | str | date | datetime
# A list is a tuple of scalars, a map a tuple of (key, value) pairs in key order: hashable, so that a plan can be a key.
Value = Scalar | tuple[Scalar, ...] | tuple[tuple[Scalar, Scalar], ...]
Claim = str | int | float | bool | tuple[str | int, ...]
# `system` has the server's own tables; datasets and callers choose among the others.
EngineName = Literal["duckdb", "athena", "system"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the verified name, roles and claims of a credential."""

    name: str
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Claim] = field(default_factory=dict)


# With authentication off everybody is this caller, whom no role keeps out. Row filters and masks hold for it too: a
# policy exempts the roles that it names, and nobody else.
ANONYMOUS = Caller("anonymous", frozenset({"*"}))


class Text(tuple[str, ...]):
    """All values that the query form gave for one parameter, still text: `a=1&a=2` is `Text(("1", "2"))`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded question. Values in `params` are `Text` (query form) or JSON values; none is checked yet."""

    dataset: str
    params: Mapping[str, object] = field(default_factory=dict)
    version: int | None = None
    as_of: str | None = None
    engine: str | None = None
    sql: str | None = None
    # From a server-issued ticket: the snapshots to read, the contract and the engine that were promised.
    pins: Mapping[str, int | None] | None = None
    contract: str | None = None
    issued_engine: str | None = None
    # From the ticket of a submitted query's result: the query's id.
    submission: str | None = None


@dataclass(frozen=True, slots=True)
class ParamType:
    """A declared parameter type, for example `list<int32>`. `kind` is the word before any bracket."""

    kind: str
    precision: int = 0
    scale: int = 0
    item: ParamType | None = None
    key: ParamType | None = None

    def __str__(self) -> str:
        if self.kind == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.kind == "list":
            return f"list<{self.item}>"
        if self.kind == "map":
            return f"map<{self.key}, {self.item}>"
        return "timestamp(tz)" if self.kind == "timestamptz" else self.kind


@dataclass(frozen=True, slots=True)
class Parameter:
    """One typed parameter of a dataset. Bounds hold for the items of a list and for the values of a map."""

    name: str
    type: ParamType
    optional: bool = False
    # A TOML literal already parsed to the type, or one of the words `today - 30d`, `month_start`, `year_start`.
    default: Value | RelativeDate | None = None
    min: Scalar | None = None
    max: Scalar | None = None
    min_items: int = 1
    max_items: int = 1000
    max_length: int = 1000
    pattern: str | None = None
    choices: tuple[Scalar, ...] = ()
    ordered: bool = False
    suggest: str | None = None
    unit: str | None = None
    example: Value | None = None
    doc: str = ""

    @property
    def required(self) -> bool:
        return not self.optional and self.default is None


@dataclass(frozen=True, slots=True)
class RelativeDate:
    """A default that the server resolves on the day of the request: `anchor` minus `days`."""

    anchor: Literal["today", "month_start", "year_start"]
    days: int = 0

    def __str__(self) -> str:
        return f"{self.anchor} - {self.days}d" if self.days else self.anchor


@dataclass(frozen=True, slots=True)
class Rule:
    """A comparison between parameters that every request must satisfy; skipped when one of them is absent."""

    name: str
    left: str
    operator: Literal["<", "<=", ">", ">=", "==", "!="]
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract, in order."""

    name: str
    type: pa.DataType
    nullable: bool = True
    doc: str = ""
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class SortKey:
    """One term of a dataset's declared order. Athena and DuckDB both put nulls last unless told otherwise."""

    column: str
    descending: bool = False
    nulls_first: bool = False

    def __str__(self) -> str:
        return self.column + " desc" * self.descending + " nulls first" * self.nulls_first


@dataclass(frozen=True, slots=True)
class Limits:
    """What a dataset file says one of its requests may cost; None = the server's own limit."""

    max_scan_bytes: int | None = None
    max_rows: int | None = None
    max_cost_usd: float | None = None
    timeout_s: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may cost in effect: the stricter of the dataset's limits and the server's."""

    rows: int
    timeout_s: float
    batch_rows: int
    batch_bytes: int
    scan_bytes: int | None = None
    cost_usd: float | None = None
    # Of the result, as Arrow holds it.
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long a stored result may be served: until a read file changes, for `ttl_s` seconds, or never."""

    mode: Literal["snapshot", "ttl", "off"] = "snapshot"
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Materialize:
    """The table that a dataset's query fills, for datasets that are read from a prepared table."""

    table: str
    partition: str | None = None
    refresh: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A condition that every row of `table` (database.table, lower case) must satisfy, but for the `exempt` roles.

    `where` is a parsed condition over the table's columns; a claim of the caller is `Dot(Placeholder("caller"), name)`.
    """

    name: str
    table: str
    where: exp.Expr
    exempt: frozenset[str]
    # The claims that it names.
    claims: tuple[str, ...]
    doc: str
    # Where it is written, for errors.
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Mask:
    """What is read instead of one column of `table`, but for the `exempt` roles. `value` is as `RowFilter.where`."""

    name: str
    table: str
    column: str
    value: exp.Expr
    exempt: frozenset[str]
    claims: tuple[str, ...]
    doc: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Policies:
    """All row filters and masks in force."""

    row_filters: tuple[RowFilter, ...] = ()
    masks: tuple[Mask, ...] = ()
    # Of the file: what was planned under another text is not served under this one.
    digest: str = ""

    @property
    def all(self) -> tuple[RowFilter | Mask, ...]:
        return (*self.row_filters, *self.masks)


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """A policy that holds for one plan, and why. Carries no SQL: it may be shown to the caller."""

    name: str
    kind: Literal["row_filter", "mask"]
    table: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset file: the contract and the parsed query."""

    name: str
    version: int
    title: str
    doc: str
    owner: str
    tags: tuple[str, ...]
    key: tuple[str, ...]
    sorted: tuple[SortKey, ...]
    params: Mapping[str, Parameter]
    rules: tuple[Rule, ...]
    columns: tuple[Column, ...]
    limits: Limits
    cache: CachePolicy
    roles: frozenset[str]
    engine: Literal["auto", "duckdb", "athena", "system"]
    materialize: Materialize | None
    deprecated: str | None
    path: Path
    # Line of the file on which the query starts, so that errors in it can be placed.
    sql_line: int
    sql: str
    tree: exp.Query
    # Digest of the whole file: a ticket issued for another text of the dataset is no longer good.
    digest: str
    # Of a statement's: so many trailing columns carry its order only, and are not sent.
    hidden: int = 0

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema that every answer has, with the contract in its metadata (protocol.md)."""
        return self._schema(len(self.columns) - self.hidden)

    @property
    def unnamed(self) -> bool:
        """Whether this is a statement's, made for one request; files have versions from 1 on."""
        return self.version == 0

    @property
    def result_schema(self) -> pa.Schema:
        """The same with the hidden columns: what the engine gives."""
        return self._schema(len(self.columns))

    def _schema(self, width: int) -> pa.Schema:
        fields = []
        for column in self.columns[:width]:
            notes = {"doc": column.doc, "unit": column.unit or ""}
            metadata = {k: v for k, v in notes.items() if v}
            fields.append(pa.field(column.name, column.type, column.nullable, metadata or None))
        notes = {
            "athena_flight.dataset": self.name,
            "athena_flight.version": str(self.version),
            "athena_flight.key": ",".join(self.key),
            "athena_flight.sorted": ",".join(map(str, self.sorted)),
            "athena_flight.doc": self.doc,
        }
        return pa.schema(fields, metadata=notes)


@dataclass(frozen=True, slots=True)
class TablePin:
    """One table of a plan at one snapshot. `snapshot_id` is None for a table that has never been written to."""

    table: str
    snapshot_id: int | None
    schema_id: int
    metadata_location: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan will read, from the Iceberg manifests: data and delete files, bytes of the columns used, dollars."""

    files: int
    bytes: int
    usd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request will be answered. Nothing has run yet; equal plans give equal results."""

    dataset: Dataset
    params: Mapping[str, Value]
    engine: EngineName
    # What the engine runs, in its dialect, at the pinned snapshots.
    sql: str
    # The same in the Athena dialect without pins: what the fingerprint is of.
    bound_sql: str
    # `bound_sql` before policies were put around its scans: what `explain` shows to callers.
    asked_sql: str
    dropped: tuple[str, ...]
    pins: tuple[TablePin, ...]
    fingerprint: str
    estimate: Estimate
    # The estimate that callers are told: where rows are hidden, `estimate` would tell of those too.
    told: Estimate
    bounds: Bounds
    cache: Literal["hit", "miss", "off"] = "off"
    # The row filters and masks in `sql`, which has the caller's claims bound.
    policies: tuple[AppliedPolicy, ...] = ()
    # Digest of the policies that held and the claims they used: who has another one may not see this plan's rows.
    guard: str = ""
    # What was asked where the dataset is unnamed, and so cannot be asked for by name again.
    statement: Request | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStats:
    """What running a plan cost. `scanned_bytes` and `usd` are the engine's own figures where it has any."""

    query_id: str = ""
    scanned_bytes: int = 0
    usd: float = 0.0
    # Stopped by us while it ran: what it had scanned until then is billed, and not in the figures.
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet object of a stored result: `bucket/key`, rows and bytes as its footer says, S3's tag of it."""

    path: str
    rows: int
    bytes: int
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A complete result under a fingerprint: its parts, and what making it cost. `created` in epoch seconds."""

    fingerprint: str
    query_id: str
    parts: tuple[Part, ...]
    scanned_bytes: int
    created: float

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


class Execution(Protocol):
    """One running query. `batches` is called once and blocks; `cancel` may come from any thread, any time, twice."""

    def batches(self) -> Iterator[pa.RecordBatch]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...

    @property
    def stats(self) -> ExecutionStats: ...


class Engine(Protocol):
    """What can run plans. `start` returns at once; the query runs when `batches` is first asked for."""

    name: EngineName
    # Results for equal plans: not kept, kept here as long as there is room, or kept where any replica has them.
    keeps: Literal["nothing", "here", "shared"]

    def start(self, plan: Plan) -> Execution: ...

    def stored(self, plan: Plan) -> StoredResult | None:
        """The result of an equal plan where the engine keeps results and the plan's cache policy allows it."""

    def ping(self) -> None:
        """Raise EngineFailed when the engine does not answer."""

    def close(self) -> None: ...


def to_json(value: Value) -> object:
    """A value as the JSON form of the protocol writes it: dates ISO 8601, decimals as strings, a map as an object."""
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return {str(to_json(pair[0])): to_json(pair[1]) for pair in value}
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def plan_json(plan: Plan) -> dict[str, object]:
    """The plan JSON of protocol.md."""
    bounds = plan.bounds
    return {
        "dataset": plan.dataset.name,
        "version": plan.dataset.version,
        "params": {name: to_json(value) for name, value in plan.params.items()},
        "engine": plan.engine,
        "dropped": list(plan.dropped),
        "snapshots": {pin.table: pin.snapshot_id for pin in plan.pins},
        "fingerprint": plan.fingerprint,
        "cache": plan.cache,
        "estimate": {"files": plan.told.files, "bytes": plan.told.bytes, "usd": plan.told.usd},
        "limits": {
            "rows": bounds.rows,
            "bytes": bounds.bytes,
            "timeout_s": bounds.timeout_s,
            "scan_bytes": bounds.scan_bytes,
            "cost_usd": bounds.cost_usd,
        },
    }
