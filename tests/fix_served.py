"""Datasets served from the local AWS: pipelines in this process, and servers in this or in another one."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from flight_server import config, server
from flight_server.model import ANONYMOUS, Engine, EngineName, Plan, Request
from flight_server.pipeline import Answer, Pipeline
from flight_server.tables.catalog import open_catalog
from tests.fakes.aws import LocalAws

# One row for each `id` of lake.prices from `first` on; the parameter makes fingerprints differ.
IDS = """\
-- /// dataset
-- title = "Ids"
-- key = ["id"]
-- sorted = ["id"]
-- [params]
-- first = { type = "int64" }
-- [columns]
-- id = { type = "int64", null = false }
-- price = { type = "float64" }
-- ///
SELECT p.id, p.price FROM lake.prices AS p WHERE p.id >= :first ORDER BY p.id
"""
# The same rows in no order.
LOOSE = IDS.replace('sorted = ["id"]', "sorted = []").replace(" ORDER BY p.id", "").replace("Ids", "Loose")

# Some rows of the table for those who have tickers, and some of their prices.
POLICIES = """\
[[row_filter]]
table = "lake.prices"
where = "ticker IN (:caller.tickers)"
except = ["risk"]
[[mask]]
table = "lake.prices"
column = "price"
as = "CASE WHEN id < 10 THEN price END"
unless = ["risk"]
"""


def dataset(columns: Mapping[str, str], sql: str, order: tuple[str, ...] = (), more: str = "") -> str:
    """The text of a dataset file; `more` is TOML that follows the columns."""
    listed = "".join(f"-- {name} = {{ type = {kind!r} }}\n" for name, kind in columns.items())
    keys = ", ".join(f'"{key}"' for key in order)
    rest = "".join(f"-- {line}\n" for line in more.splitlines())
    return f'-- /// dataset\n-- title = "Test"\n-- sorted = [{keys}]\n-- [columns]\n{listed}{rest}-- ///\n{sql}\n'


@dataclass
class Lab:
    """A pipeline over the local AWS without Flight around it."""

    config: config.Config
    catalog: Catalog
    engines: dict[EngineName, Engine]
    pipeline: Pipeline

    def plan(self, name: str, engine: str = "athena", as_of: str | None = None, **params: Any) -> Plan:
        return self.pipeline.plan(Request(name, params, as_of=as_of, engine=engine), ANONYMOUS)

    def start(self, plan: Plan) -> Answer:
        return self.pipeline.answer(plan)

    def ask(self, name: str, engine: str = "athena", **params: Any) -> pa.Table:
        """All rows, with the contract's schema."""
        return self.collect(self.plan(name, engine, **params))

    def collect(self, plan: Plan) -> pa.Table:
        answer = self.start(plan)
        try:
            return pa.Table.from_batches(answer.batches, plan.dataset.schema)
        finally:
            answer.execution.close()

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()
        self.catalog.close()


def endpoints(aws: LocalAws) -> dict[str, Any]:
    return {
        "region": aws.store.region,
        "athena_endpoint": aws.athena_endpoint,
        "glue_endpoint": aws.glue_endpoint,
        "s3_endpoint": aws.s3_endpoint,
    }


def settings(local: LocalAws, datasets: Path, **sections: dict[str, Any]) -> config.Config:
    """Both engines over the local AWS, results under a prefix of their own. `sections` go over what is said here."""
    said: dict[str, dict[str, Any]] = {
        "server": {"port": 0, "engines": ("athena", "duckdb"), "ticket_secret": "s" * 32, "grace_s": 2.0},
        "datasets": {"directory": datasets},
        "catalog": {"kind": "glue", "warehouse": local.warehouse},
        "aws": endpoints(local),
        "athena": {"results": f"s3://{local.bucket}/flight/{uuid.uuid4().hex[:8]}"},
    }
    merged = {name: {**said.get(name, {}), **sections.get(name, {})} for name in {*said, *sections}}
    return config.load(None, **merged)


def open_lab(found: config.Config) -> Lab:
    catalog = open_catalog(found)
    engines = server.build_engines(found, catalog)
    registry, errors = server.load_datasets(found.datasets.directory)
    assert not errors
    return Lab(found, catalog, engines, server.build_pipeline(found, catalog, engines, registry))


@dataclass
class Labs:
    """Makes pipelines over datasets given as text, and closes them."""

    aws: LocalAws
    folder: Path
    opened: list[Lab] = field(default_factory=list)

    @property
    def endpoints(self) -> dict[str, Any]:
        return endpoints(self.aws)

    def configure(self, datasets: Mapping[str, str], **sections: dict[str, Any]) -> config.Config:
        folder = self.folder / uuid.uuid4().hex[:8]
        folder.mkdir()
        for name, text in datasets.items():
            (folder / f"{name}.sql").write_text(text)
        return settings(self.aws, folder, **sections)

    def open(self, datasets: Mapping[str, str], **sections: dict[str, Any]) -> Lab:
        return self.open_again(self.configure(datasets, **sections))

    def open_again(self, found: config.Config) -> Lab:
        """A pipeline on settings that another one has, as a second replica."""
        self.opened.append(open_lab(found))
        return self.opened[-1]


@pytest.fixture
def labs(aws_environment: LocalAws, lake: Catalog, tmp_path: Path) -> Iterator[Labs]:
    """Pipelines over the tables of fix_lake."""
    made = Labs(aws_environment, tmp_path)
    yield made
    for lab in made.opened:
        lab.close()


@pytest.fixture(scope="session")
def lab_session(
    aws_session: LocalAws, lake_session: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    made = Labs(aws_session, tmp_path_factory.mktemp("lab"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_session.environment.items():
            patch.setenv(name, value)
        opened = made.open({"ids": IDS, "loose": LOOSE})
    yield opened
    opened.close()


@pytest.fixture
def lab(aws_environment: LocalAws, lab_session: Lab) -> Lab:
    """A pipeline over the datasets `ids` and `loose`, shared by all tests: what one asked is stored for the next."""
    return lab_session


@dataclass
class Background:
    """A call in a thread, and what came of it."""

    thread: threading.Thread
    result: Any = None
    error: BaseException | None = None

    def get(self, timeout_s: float = 60.0) -> Any:
        self.thread.join(timeout_s)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def in_background(call: Any, *arguments: Any) -> Background:
    found: Background

    def run() -> None:
        try:
            found.result = call(*arguments)
        except BaseException as error:  # noqa: BLE001 - a thread's top: `get` raises it
            found.error = error

    found = Background(threading.Thread(target=run, daemon=True))
    found.thread.start()
    return found
