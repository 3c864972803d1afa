"""What runs a plan, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from flight_server.model.plan import Plan
from flight_server.model.request import EngineName


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
