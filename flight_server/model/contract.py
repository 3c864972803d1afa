"""What can be asked: a dataset file as a value, and the Arrow schema that it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from flight_server.model.request import Scalar, Value


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
    # Of a statement's: the datasets that it calls, sorted.
    called: tuple[str, ...] = ()

    # The Arrow schema that every answer has, with the contract in its metadata (protocol.md).
    schema: pa.Schema = field(init=False, repr=False, compare=False)
    # The same with the hidden columns: what the engine gives.
    result_schema: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once: every request asks for it several times.
        object.__setattr__(self, "schema", self._schema(len(self.columns) - self.hidden))
        object.__setattr__(self, "result_schema", self._schema(len(self.columns)))

    @property
    def unnamed(self) -> bool:
        """Whether this is a statement's, made for one request; files have versions from 1 on."""
        return self.version == 0

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
