"""What callers may take: calls and streams, submitted queries, and money. The other settings are in sections.py."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from flight_server.config.section import Section


class Limits(Section):
    """Bounds that hold for every request, whatever its dataset says."""

    request_bytes_max: int = Field(
        65_536, ge=1024, description="Longest ticket, descriptor, action body or row of parameters; 1,000 weights fit."
    )
    calls_max: int = Field(
        16, ge=1, description="Calls at once, streams not among them: milliseconds of one core, or a catalog's answer."
    )
    calls_per_caller: int = Field(
        8, ge=1, description="Those of one caller, so that half of them are there for the others."
    )
    streams_max: int = Field(
        32,
        ge=1,
        description="Streams at once; each has two threads and two batches, and the engine only so many cores.",
    )
    streams_per_caller: int = Field(
        12, ge=1, description="Those of one caller: three full clients of four readers; others find places left."
    )
    queue_max: int = Field(
        64,
        ge=0,
        description="Calls, and as many streams, that wait for a place: those of about a second. Past it `busy`.",
    )
    queue_wait_s: float = Field(
        1.0, ge=0, description="How long a call waits for a place before `busy`; clients come again by themselves."
    )
    backlog_max: int = Field(
        64,
        ge=1,
        description="Calls whose threads wait for their first turn; past it new ones are `busy`, as each slows all.",
    )
    stream_idle_s: float = Field(
        300.0,
        gt=0,
        description="How long a stream waits for its reader, holding a query: longer than a slow cell runs.",
    )
    stream_life_s: float = Field(
        14_400.0, gt=0, description="Longest stream, however slowly it is read; a night's export takes less."
    )
    upload_s: float = Field(
        30.0, gt=0, description="How long a client may take to send parameters; past it its connection is cut."
    )
    unread_max: int = Field(
        32, ge=0, description="Ended streams that nobody reads; each holds a thread. Past it connections are cut."
    )
    received_bytes_max: int = Field(
        16_777_216,
        ge=1_048_576,
        description="Bytes of a connection without a call, past which it is cut: gRPC takes requests of any length.",
    )
    connections_max: int = Field(
        4096, ge=1, description="Open files from which connections without a call are cut: 60 MiB of them."
    )
    probes_max: int = Field(
        64, ge=1, description="Connections that each of the probes' ports keeps then; a probe has one for milliseconds."
    )
    gone_s: float = Field(
        60.0, ge=2, description="A client whose machine answers nothing for so long is gone; networks mend in less."
    )
    statements_per_min: float = Field(
        600.0,
        gt=0,
        description="SQL statements of one caller that run: enough for people and dashboards, "
        "not for a loop that ran away.",
    )
    statements_burst: int = Field(100, ge=1, description="Those at once: a few dashboards open with as many.")
    timeout_s: float = Field(300.0, gt=0, description="Engine time of one query, unless its dataset says less.")
    rows_max: int = Field(100_000_000, ge=1, description="Rows of one result, unless its dataset says less.")
    bytes_max: int = Field(
        20_000_000_000, ge=1, description="Arrow bytes of one result, unless its dataset says less: 200 for each row."
    )
    scan_bytes_max: int = Field(
        1_000_000_000_000,
        ge=1,
        description="Bytes that one query may read, unless its dataset says less: $5 on Athena.",
    )
    batch_rows_max: int = Field(65_536, ge=1, description="Rows of one record batch; larger ones delay the first.")
    disk_free_min: int = Field(
        500_000_000,
        ge=0,
        description="Free bytes of the temporary disk below which the server is not ready.",
    )
    batch_bytes_max: int = Field(8 << 20, ge=65_536, description="Bytes of one batch; Go clients refuse 16 MiB.")


class Submitted(Section):
    """Queries that run without anybody waiting for them, and their results."""

    queries_max: int = Field(200, ge=1, description="Submitted queries kept at once; past it `busy`.")
    queries_per_caller: int = Field(
        100, ge=1, description="Those of one caller, so that half of them are there for the others."
    )
    running_max: int = Field(2, ge=1, description="Submitted queries that run at once; people who wait go before them.")
    bytes_max: int = Field(
        10_000_000_000,
        ge=1 << 20,
        description="Disk for results of the embedded engine; a quarter of a small task's disk.",
    )
    ttl_s: float = Field(3600.0, gt=0, description="How long a query that has ended is kept: as long as a ticket.")


class Cost(Section):
    """What scanning costs, for estimates and bills."""

    usd_per_tb: float = Field(5.0, ge=0, description="Athena's price of one TB (10^12 bytes) scanned.")
    bytes_min: int = Field(10_000_000, ge=0, description="Athena bills at least this much for each query.")

    def usd(self, scanned_bytes: int) -> float:
        """Athena's price of one query that scans so much."""
        return max(scanned_bytes, self.bytes_min) / 1e12 * self.usd_per_tb


class Budget(Section):
    """What callers may spend in a day (UTC) at this server; without any of these there is no limit."""

    usd_per_day: float | None = Field(None, ge=0, description="Dollars of each caller for whom nothing else is said.")
    roles: dict[str, float] = Field({}, description="Dollars by role; the largest of a caller's roles holds.")
    callers: dict[str, float] = Field({}, description="Dollars by the caller's name; holds before the roles.")
    file: Path | None = Field(
        None, description="SQLite file of what was spent, kept over a restart; unset = in memory."
    )
    busy_s: float = Field(
        5.0,
        ge=0,
        description="How long another process that holds the file is waited for; its writes take milliseconds.",
    )
