"""What the server says before a query runs: the plan, and the SQL of `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class Plan:
    """How a query would be answered now. `params` are the resolved values, as JSON; `cache` is hit, miss or off."""

    dataset: str
    version: int
    params: Mapping[str, Any]
    dropped: tuple[str, ...]
    engine: str
    cache: str
    files: int
    bytes: int
    usd: float
    snapshots: Mapping[str, int | None]
    fingerprint: str
    limits: Mapping[str, Any]

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items()) or "none"
        dropped = f"   (not given: {', '.join(self.dropped)})" if self.dropped else ""
        limits = ", ".join(f"{name} {_figure(value)}" for name, value in self.limits.items() if value is not None)
        return "\n".join(
            [
                f"Plan of {self.dataset} version {self.version} on {self.engine}, cache {self.cache}",
                f"  params     {given}{dropped}",
                f"  reads      {self.files:,} files, {size(self.bytes)}, at most {self.usd:.6f} USD",
                f"  limits     {limits}",
                *(f"  snapshot   {table} {snapshot}" for table, snapshot in self.snapshots.items()),
            ]
        )


@dataclass(frozen=True, repr=False)
class Explanation:
    """A plan, the SQL that it would run, and the row filters that hold for this caller."""

    plan: Plan
    sql: str
    row_filters: tuple[Any, ...]

    def __repr__(self) -> str:
        filters = [f"row filter: {each}" for each in self.row_filters]
        return "\n".join([repr(self.plan), *filters, "", self.sql])


def plan_of(found: Mapping[str, Any]) -> Plan:
    """The plan in the server's plan JSON."""
    estimate = found["estimate"]
    return Plan(
        dataset=found["dataset"],
        version=found["version"],
        params=found["params"],
        dropped=tuple(found["dropped"]),
        engine=found["engine"],
        cache=found["cache"],
        files=estimate["files"],
        bytes=estimate["bytes"],
        usd=estimate["usd"],
        snapshots=found["snapshots"],
        fingerprint=found["fingerprint"],
        limits=found["limits"],
    )


def explanation_of(found: Mapping[str, Any]) -> Explanation:
    """The answer of the `explain` action."""
    return Explanation(plan_of(found), found["sql"], tuple(found["row_filters"]))


def size(count: float) -> str:
    """Bytes for people, in powers of ten as Athena bills them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:,.3g} TB"


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
