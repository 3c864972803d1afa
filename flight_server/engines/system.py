"""The engine of the server's own tables: a small DuckDB of its own, which can read nothing else.

A query sees the tables as they are when it starts. It has its own memory, so that an operator can look while the
embedded engine is full, and no way to a file or to another query's tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import duckdb
import pyarrow as pa

from flight_server.config import System
from flight_server.engines.duckdb import DuckDBExecution, load_extension
from flight_server.errors import EngineFailed
from flight_server.model import EngineName, Plan, StoredResult


class SystemEngine:
    """Runs plans over the server's own tables; `table` gives the rows of one as they are now."""

    name: EngineName = "system"
    keeps: Literal["nothing", "here", "shared"] = "nothing"

    def __init__(self, settings: System, table: Callable[[str], pa.Table]) -> None:
        self._table = table
        self._connection = duckdb.connect(
            ":memory:",
            config={
                # Small tables and few askers; the cores are for the callers' queries.
                "threads": 1,
                "memory_limit": settings.memory,
                # No spilling: what does not fit is refused.
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        # As in the embedded engine.
        self._connection.execute("SET enable_progress_bar = false")
        # Moments with a time zone are its business.
        load_extension(self._connection, "icu")
        for setting in (
            "TimeZone = 'UTC'",
            # Tables are those that were registered, not whatever variable has the name.
            "GLOBAL python_enable_replacements = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def start(self, plan: Plan) -> DuckDBExecution:
        cursor = self._connection.cursor()
        for pin in plan.pins:
            # A view of this cursor alone.
            cursor.register(pin.table, self._table(pin.table))
        return DuckDBExecution(cursor, plan.sql, plan.bounds.batch_rows, self.name)

    def stored(self, plan: Plan) -> StoredResult | None:  # noqa: ARG002 - no result is kept
        return None

    def ping(self) -> None:
        try:
            self._connection.cursor().execute("SELECT 1").fetchall()
        except duckdb.Error as error:
            raise EngineFailed(f"DuckDB: {type(error).__name__}") from error

    def close(self) -> None:
        self._connection.close()
