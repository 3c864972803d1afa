"""Pins and receipts where the tables are in Glue: both engines read at them, and Athena is not asked twice."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server.errors import NotFound
from flight_server.plan.as_of import receipt
from flight_server.tables.pins import Tags
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs, dataset

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def table(aws: LocalAws, lake: Catalog) -> Table:
    """A table of its own with the rows 0, 1, 2 in one snapshot."""
    name = f"pinned_{uuid.uuid4().hex[:8]}"
    made = lake.create_table(("lake", name), SCHEMA, location=f"{aws.warehouse}/{name}")
    made.append(pa.table({"n": [0, 1, 2]}, SCHEMA))
    return made


@pytest.fixture
def lab(labs: Labs, table: Table) -> Lab:
    sql = f"SELECT t.n AS n FROM lake.{table.name()[-1]} AS t ORDER BY t.n"
    return labs.open({"moving": dataset({"n": "int64"}, sql, ("n",))})


def read(lab: Lab, engine: str, as_of: str | None = None) -> list[int]:
    return list(lab.collect(lab.plan("moving", engine, as_of=as_of)).column("n").to_pylist())


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_a_pin_and_a_receipt_are_read_again_on_both_engines(lab: Lab, table: Table, engine: str) -> None:
    name = ".".join(table.name())
    assert read(lab, engine) == [0, 1, 2]
    said = receipt(lab.plan("moving", engine))
    Tags(lab.catalog).create("eom", {name: table.metadata.current_snapshot_id or 0})
    # A tag is a new state of the table, and no new rows.
    assert receipt(lab.plan("moving", engine)) == said
    table.refresh().append(pa.table({"n": [3]}, SCHEMA))
    assert read(lab, engine) == [0, 1, 2, 3]
    for as_of in ("eom", said):
        assert read(lab, engine, as_of) == [0, 1, 2]
    Tags(lab.catalog).remove("eom", [name])
    with pytest.raises(NotFound, match="is in no pin 'eom'"):
        read(lab, engine, "eom")
    assert read(lab, engine, said) == [0, 1, 2]


def test_what_was_asked_before_it_was_pinned_is_a_hit(lab: Lab, table: Table, aws: LocalAws) -> None:
    assert read(lab, "athena") == [0, 1, 2]
    started = aws.athena.state()["started"]
    Tags(lab.catalog).create("eom", {".".join(table.name()): table.metadata.current_snapshot_id or 0})
    table.refresh().append(pa.table({"n": [3]}, SCHEMA))
    assert lab.plan("moving", as_of="eom").cache == "hit"
    assert read(lab, "athena", "eom") == [0, 1, 2]
    assert aws.athena.state()["started"] == started
