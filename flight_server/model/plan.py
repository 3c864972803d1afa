"""How one request will be answered: pinned, priced, and nothing run yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flight_server.model.contract import Dataset
from flight_server.model.policies import AppliedPolicy
from flight_server.model.request import EngineName, Request, Value, to_json


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
class TablePin:
    """One table of a plan at one snapshot. `snapshot_id` is None for a table that has never been written to."""

    table: str
    snapshot_id: int | None
    schema_id: int
    metadata_location: str


@dataclass(frozen=True, slots=True)
class Read:
    """One table of a plan, and what of it is seen: SQL with the caller's claims bound, for the audit log alone.

    Without filters all rows of the snapshot are seen, without masks all values: no policy holds for the caller.
    """

    table: str
    snapshot: int | None
    # Conditions that every row seen satisfies.
    filters: tuple[str, ...] = ()
    # What is read in place of a column.
    masks: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.table


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a plan reads: its tables, and the datasets that a statement calls, whose tables are among them."""

    tables: tuple[Read, ...] = ()
    datasets: tuple[str, ...] = ()


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
    reading: Reading = Reading()


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
