"""A table that is filled from a query, over a catalog of this machine (`shop`) and over the local AWS (`depot`)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server import server
from flight_server.authoring import local
from flight_server.config import Config
from flight_server.engines.athena.engine import AthenaEngine
from flight_server.model import ANONYMOUS, Engine, EngineName, Request
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.server import build_engines
from flight_server.tables import lock
from flight_server.tables.catalog import create_table, find_table, open_catalog
from flight_server.tables.ddl import read_all
from flight_server.tables.locate import locator
from flight_server.tables.materialize import Materialized, materialize
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs

JANUARY, FEBRUARY, MARCH = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)
Rows = list[tuple[Any, ...]]

TOTALS = """\
-- /// dataset
-- title = "Totals"
-- key = ["day"]
-- sorted = ["day"]
-- [params]
-- first = { type = "date", optional = true }
-- [columns]
-- day = { type = "date", null = false }
-- total = { type = "float64" }
-- [materialize]
-- table = "made.totals"
-- query = "materialize/totals.sql"
-- ///
SELECT t.day, t.total FROM made.totals AS t WHERE t.day >= :first ORDER BY t.day
"""
QUERY = "SELECT s.day, SUM(s.amount) AS total, COUNT(*) AS n FROM raw.sales AS s GROUP BY s.day ORDER BY s.day\n"
TABLES = {
    "raw.sales": "(day date, amount double)",
    "made.totals": "(day date, total double, n bigint, note string) PARTITIONED BY (month(day))",
}


@dataclass
class Shop:
    """A catalog with `raw.sales`, the datasets' folder, and the command's function over both."""

    config: Config
    catalog: Catalog
    engine: Engine
    folder: Path

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sell(self, *rows: tuple[date, float | None]) -> None:
        days, amounts = zip(*rows, strict=True)
        self.table("raw.sales").append(
            pa.table({"day": pa.array(days, pa.date32()), "amount": pa.array(amounts, pa.float64())})
        )

    def table(self, name: str = "made.totals") -> Table:
        return find_table(self.catalog, name)

    def fill(self, *, force: bool = False) -> Materialized:
        found, errors = server.load_datasets(self.folder)
        assert not errors
        tables = Tables(self.catalog, locator(self.catalog))
        return materialize(
            found.get("totals", None, ANONYMOUS),
            self.catalog,
            tables,
            Planner(tables, self.config.cost),
            self.engine,
            lambda name: lock.held(self.place(name), f"materialize {name}", 100),
            force=force,
        )

    def place(self, name: str = "made.totals") -> lock.Place:
        return lock.place_of(self.config, self.catalog.properties["warehouse"], name)

    def read(self, **params: object) -> list[tuple[Any, ...]]:
        """The rows of the dataset, as its readers get them."""
        with local.opened(self.config) as pipeline:
            plan = local.plan(pipeline, Request("totals", params))
            with local.answered(pipeline, plan) as batches:
                return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "sql"
    config = Config.model_validate(
        {
            "datasets": {"directory": folder},
            "catalog": {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": str(tmp_path / "warehouse")},
        }
    )
    with closing(open_catalog(config)) as catalog, closing(build_engines(config, catalog)["duckdb"]) as engine:
        made = Shop(config, catalog, engine, folder)
        for name, columns in TABLES.items():
            block = '-- /// table\n-- not_null = ["day"]\n-- ///\n' if name == "made.totals" else ""
            made.write(
                f"tables/{name}.sql", f"{block}CREATE TABLE {name} {columns} TBLPROPERTIES ('table_type'='ICEBERG')"
            )
        made.write("totals.sql", TOTALS)
        made.write("materialize/totals.sql", QUERY)
        create_table(catalog, read_all(folder / "tables")["raw.sales"])
        made.sell((date(2024, 1, 1), 1.0), (date(2024, 1, 1), 2.0), (date(2024, 2, 1), 4.0))
        yield made


@dataclass
class Depot:
    """`raw.sales` and `made.totals` under names of their own in Glue, and a pipeline with both engines over them."""

    lab: Lab
    aws: LocalAws
    suffix: str

    def table(self, name: str = "made.totals") -> Table:
        return find_table(self.lab.catalog, name.replace(".", f"{self.suffix}."))

    def sell(self, *rows: tuple[date, float]) -> None:
        days, amounts = zip(*rows, strict=True)
        found = pa.table({"day": pa.array(days, pa.date32()), "amount": pa.array(amounts, pa.float64())})
        self.table("raw.sales").append(found)

    def fill(self, name: EngineName = "athena", *, force: bool = False) -> Materialized:
        tables, engine = Tables(self.lab.catalog, locator(self.lab.catalog)), self.lab.engines["athena"]
        assert isinstance(engine, AthenaEngine)
        return materialize(
            self.lab.pipeline.registry.get("totals", None, ANONYMOUS),
            self.lab.catalog,
            tables,
            Planner(tables, self.lab.config.cost),
            self.lab.engines[name],
            lambda name: lock.held(self.place(name), f"materialize {name}", 0.0, engine.has_ended),
            force=force,
        )

    def place(self, name: str) -> lock.Place:
        return lock.place_of(self.lab.config, "", name)

    def read(self, engine: str = "athena") -> Rows:
        return [tuple(row.values()) for row in self.lab.ask("totals", engine).to_pylist()]

    def started(self) -> list[str]:
        """The statements that Athena was given, without their text."""
        mine = [query for query in self.aws.athena.state()["queries"] if self.suffix in query]
        return [query.split()[0] for query in mine if not query.startswith("UNLOAD")]


@pytest.fixture
def depot(labs: Labs, aws: LocalAws) -> Iterator[Depot]:
    suffix = f"_{uuid.uuid4().hex[:8]}"

    def renamed(text: str) -> str:
        return text.replace("raw.", f"raw{suffix}.").replace("made.", f"made{suffix}.")

    config = labs.configure({"totals": renamed(TOTALS)}, lock={"age_s": 100})
    folder = config.datasets.directory
    for name, columns in TABLES.items():
        block = '-- /// table\n-- not_null = ["day"]\n-- ///\n' if name == "made.totals" else ""
        text = f"{block}CREATE TABLE {renamed(name)} {columns} TBLPROPERTIES ('table_type'='ICEBERG')"
        (folder / "tables").mkdir(exist_ok=True)
        (folder / "tables" / f"{renamed(name)}.sql").write_text(text)
    write(folder, renamed(QUERY))
    made = Depot(labs.open_again(config), aws, suffix)
    create_table(made.lab.catalog, read_all(folder / "tables")[renamed("raw.sales")])
    made.sell((JANUARY, 1.0), (JANUARY, 2.0), (FEBRUARY, 4.0))
    yield made
    for query in aws.athena.state()["executions"]:
        assert query["state"] not in ("RUNNING", "QUEUED")


def write(folder: Path, query: str) -> None:
    (folder / "materialize").mkdir(exist_ok=True)
    (folder / "materialize" / "totals.sql").write_text(query)
