"""Pins and receipts of the Python client, over tables that change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from flight_client import Connection, Denied, InvalidRequest, NotFound, connect
from flight_server.server import Server
from flight_server.tables.catalog import find_table, open_catalog
from tests.fix_identity import STATIC, Lake


@pytest.fixture
def served(lake_copy: Lake) -> Iterator[Server]:
    with lake_copy.serve() as running:
        yield running


@pytest.fixture
def operator(served: Server, lake_copy: Lake) -> Iterator[Connection]:
    token = lake_copy.issuer.token(sub="olga", roles=["operator"])
    with connect(f"grpc://localhost:{served.port}", token=token) as found:
        yield found


@pytest.fixture
def db(served: Server) -> Iterator[Connection]:
    with connect(f"grpc://localhost:{served.port}", token=STATIC["alice"]) as found:
        yield found


def write(lake: Lake) -> None:
    with closing(open_catalog(lake.settings())) as catalog:
        find_table(catalog, "p.open").append(pa.table({"name": ["three"]}))


def test_a_receipt_reads_the_same_again(db: Connection, lake_copy: Lake, tmp_path: Path) -> None:
    query = db.public_names()
    assert query.receipt is None
    first = query.arrow()
    said = query.receipt
    assert said is not None
    write(lake_copy)
    assert query.arrow().num_rows == 3
    assert query.receipt != said
    again = query.as_of(said)
    assert again.arrow() == first
    for read in (
        lambda: list(again),
        lambda: again.reader().read_all(),
        lambda: again.to_parquet(tmp_path / "names.parquet"),
    ):
        assert query.receipt != said
        read()
        assert again.receipt == said
    submitted = again.submit()
    submitted.arrow()
    assert submitted.receipt == said


def test_a_reading_that_is_left_early_has_no_receipt(db: Connection) -> None:
    query = db.public_names()
    reader = query.reader()
    reader.close()
    assert query.receipt is None


def test_a_pin_is_made_listed_read_and_removed(operator: Connection, db: Connection, lake_copy: Lake) -> None:
    first = db.public_names().arrow()
    made = operator.pin("month-end", ["p.open"])
    assert operator.pin("plan", db.public_names().plan().snapshots) == made
    write(lake_copy)
    assert db.pins() == {"month-end": made, "plan": made}
    assert db.public_names().as_of("month-end").arrow() == first
    assert operator.unpin("month-end") == made
    with pytest.raises(NotFound, match=r"p\.open is in no pin 'month-end'"):
        db.public_names().as_of("month-end").arrow()
    assert set(operator.pin("all")) == {"p.nav", "p.open"}


def test_what_is_wrong_with_a_pin_is_an_error_with_its_code(operator: Connection, db: Connection) -> None:
    with pytest.raises(Denied, match="operator"):
        db.pin("month-end")
    with pytest.raises(InvalidRequest, match="did you mean 'p.open'"):
        operator.pin("month-end", ["p.opem"])
    with pytest.raises(NotFound, match="there is no pin 'month-end'"):
        operator.unpin("month-end")
