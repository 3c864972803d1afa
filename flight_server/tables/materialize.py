"""`athena-flight materialize`: a dataset's table filled with the rows of its query, at most once for the same inputs.

What was filled is written down in the table as the fingerprint of the query and of the files that it read; as long as
neither changes there is nothing to do. A lock (`lock.py`) keeps two runs from paying for the same. The rows are
replaced as a whole, and readers see the old ones or the new ones (`fill.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server.engines.athena.engine import AthenaEngine
from flight_server.errors import DatasetError, TableError, nearest
from flight_server.model import Bounds, Dataset, Engine, ExecutionStats, Plan
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables, published
from flight_server.tables import source
from flight_server.tables.catalog import create_table, find_table, translated
from flight_server.tables.ddl import read_all
from flight_server.tables.fill import FINGERPRINT, fill_embedded, fill_on_athena
from flight_server.tables.load import Loaded
from flight_server.tables.lock import Held

# The planner's bounds are for requests; nothing here is cut off by them.
_BOUNDS = Bounds(rows=2**63 - 1, timeout_s=float("inf"), batch_rows=65_536, batch_bytes=8 << 20)


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a run did. `filled` is None when the table was up to date; `spent` has one entry for each Athena query."""

    table: str
    plan: Plan
    filled: Loaded | None
    spent: tuple[ExecutionStats, ...] = ()


def materialize(
    dataset: Dataset,
    catalog: Catalog,
    tables: Tables,
    planner: Planner,
    engine: Engine,
    lock: Callable[[str], AbstractContextManager[Held]],
    *,
    force: bool = False,
) -> Materialized:
    """Fill the dataset's `[materialize] table` from its `query`; blocks until the rows are published.

    The table is created from its DDL when missing. `lock` gives the lock of a table. With `force` it is filled even
    when it is up to date. Raises DatasetError for a wrong query, TableError when another run holds the lock or when the
    rows do not fit, EngineFailed; readers have the rows then that they had before.
    """
    target = _target(dataset, catalog)
    name = ".".join(target.name())
    query = source.read_source(dataset, target)
    source.check_output(query, target, tables)
    plan = planner.plan(query, {}, engine.name, _BOUNDS)
    if not force and _holds(target, plan):
        return Materialized(name, plan, None)
    with lock(name) as held:
        with translated(f"open table {name!r}"):
            target.refresh()
        # Another run may have done it while this one planned.
        if not force and _holds(target, plan):
            return Materialized(name, plan, None)
        if isinstance(engine, AthenaEngine):
            filled, spent = fill_on_athena(target, engine, plan, held.note)
        else:
            filled, spent = fill_embedded(target, engine, plan)
    return Materialized(name, plan, filled, tuple(spent))


def _holds(target: Table, plan: Plan) -> bool:
    """Whether the table publishes the rows of this plan, and nothing was written to it since."""
    properties, current = target.properties, target.metadata.current_snapshot_id
    return properties.get(FINGERPRINT) == plan.fingerprint and published(target) == current


def _target(dataset: Dataset, catalog: Catalog) -> Table:
    if dataset.materialize is None:
        raise DatasetError(dataset.path, 0, 0, f"{dataset.name} has no [materialize] with table and query")
    name = dataset.materialize.table
    if not catalog.table_exists(name):
        definitions = read_all(dataset.path.parent / "tables")
        if name not in definitions:
            raise TableError(f"there is no table {name!r} and no DDL file for it{nearest(name, definitions)}")
        create_table(catalog, definitions[name])
    return find_table(catalog, name)
