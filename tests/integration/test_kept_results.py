"""The same question to the embedded engine again: read from disk, exact, never stale, never another caller's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pyiceberg.catalog import Catalog

from flight_server.server import Server
from flight_server.tables.catalog import find_table, open_catalog
from tests.fix_identity import STATIC, Client, Lake, write_datasets
from tests.waiting import until

NOISE = {
    name: (
        f'title = "N"\n[columns]\nport_id = {{ type = "int32" }}\n[cache]\n{mode}',
        "SELECT n.port_id FROM p.nav AS n",
    )
    for name, mode in {"uncached": 'mode = "off"', "brief": 'mode = "ttl"\nttl = "1ms"'}.items()
}


@pytest.fixture
def running(lake_copy: Lake) -> Iterator[Server]:
    write_datasets(lake_copy.folder / "sql", **NOISE)
    with lake_copy.serve() as server:
        yield server


@pytest.fixture
def carol(running: Server) -> Iterator[Client]:
    with flight.connect(f"grpc://localhost:{running.port}") as connection:
        yield Client(connection, STATIC["carol"])


@pytest.fixture
def tables(lake_copy: Lake) -> Iterator[Catalog]:
    with closing(open_catalog(lake_copy.settings())) as catalog:
        yield catalog


def plan(client: Client, command: str = "nav") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.info(command).app_metadata)
    return found


def cache(client: Client, command: str = "nav") -> str:
    return str(plan(client, command)["cache"])


def append(tables: Catalog, table: str, rows: dict[str, Any]) -> None:
    found = find_table(tables, table)
    found.append(pa.Table.from_pydict(rows, found.schema().as_arrow()))


def test_a_question_asked_again_is_read_from_disk(carol: Client) -> None:
    assert cache(carol) == "miss"
    first = carol.rows("nav")
    info = carol.info("nav")
    assert json.loads(info.app_metadata)["cache"] == "hit"
    assert info.total_records == len(first) == 8
    assert carol.rows("nav") == first
    assert carol.rows(info.endpoints[0].ticket.ticket) == first


def test_all_forms_of_a_question_are_one_result(carol: Client) -> None:
    carol.rows("nav?port_id=3")
    assert cache(carol, '{"dataset": "nav", "params": {"port_id": 3}}') == "hit"
    assert cache(carol, '{"dataset": "nav", "params": {"port_id": 4}}') == "miss"


def test_statements_are_kept_as_well(carol: Client) -> None:
    statement = '{"sql": "SELECT n.port_id FROM nav(port_id => 2) AS n"}'
    assert cache(carol, statement) == "miss"
    assert carol.rows(statement) == [{"port_id": 2}, {"port_id": 2}]
    assert cache(carol, statement) == "hit"
    assert carol.rows(statement) == [{"port_id": 2}, {"port_id": 2}]


def test_a_commit_is_seen_at_once(carol: Client, tables: Catalog) -> None:
    assert len(carol.rows("nav")) == 8
    append(tables, "p.nav", {"port_id": [9], "trade_date": [None], "value": [1.0], "desk": ["x"]})
    assert cache(carol) == "miss"
    assert 9 in carol.ports()
    assert len(carol.rows("nav")) == 9


def test_a_commit_to_another_table_changes_nothing(carol: Client, tables: Catalog) -> None:
    carol.rows("nav")
    append(tables, "p.open", {"name": ["three"]})
    assert cache(carol) == "hit"


def test_deleted_rows_are_gone_at_once(carol: Client, tables: Catalog) -> None:
    carol.rows("nav")
    find_table(tables, "p.nav").delete("port_id = 3")
    assert carol.ports() == {1, 2, 4}


def test_callers_share_results_exactly_when_they_see_the_same(carol: Client) -> None:
    alice, bob = (Client(carol.flight, STATIC[name]) for name in ("alice", "bob"))
    assert carol.ports() == {1, 2, 3, 4}
    assert (cache(alice), cache(bob)) == ("miss", "miss")
    assert (alice.ports(), bob.ports()) == ({1, 2}, {3})
    assert (cache(alice), cache(bob), cache(carol)) == ("hit", "hit", "hit")
    assert (alice.ports(), bob.ports(), carol.ports()) == ({1, 2}, {3}, {1, 2, 3, 4})


@pytest.mark.parametrize(("dataset", "said"), [("uncached", "off"), ("brief", "miss")])
def test_a_dataset_can_do_without(carol: Client, dataset: str, said: str) -> None:
    carol.rows(dataset)
    assert cache(carol, dataset) == said
    assert len(carol.rows(dataset)) == 8


def test_without_room_nothing_is_kept(lake_copy: Lake) -> None:
    with lake_copy.serve(duckdb={"results_bytes_max": 0}) as server:
        with flight.connect(f"grpc://localhost:{server.port}") as connection:
            carol = Client(connection, STATIC["carol"])
            assert cache(carol) == "off"
            assert len(carol.rows("nav")) == 8
            assert cache(carol) == "off"


def test_a_result_that_is_lost_is_made_again(lake_copy: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with lake_copy.serve() as server:
        with flight.connect(f"grpc://localhost:{server.port}") as connection:
            carol = Client(connection, STATIC["carol"])
            first = carol.rows("nav")
            (file,) = tmp_path.rglob("athena-flight-results-*/*.arrow")
            file.unlink()
            assert cache(carol) == "hit"
            assert carol.rows("nav") == first
            assert cache(carol) == "hit"
    assert list(tmp_path.glob("athena-flight-results-*")) == []


LONG = '{"sql": "SELECT a.n FROM UNNEST(SEQUENCE(1, 3000)) AS a(n) CROSS JOIN UNNEST(SEQUENCE(1, 3000)) AS b(n)"}'


def test_what_a_client_breaks_off_is_not_kept(lake_copy: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with lake_copy.serve() as server:
        with flight.connect(f"grpc://localhost:{server.port}") as connection:
            carol = Client(connection, STATIC["carol"])
            reader = carol.flight.do_get(flight.Ticket(LONG.encode()), carol.options)
            assert next(iter(reader)).data.num_rows > 0
            assert len(list(tmp_path.rglob("athena-flight-results-*/*.arrow"))) == 1
            reader.cancel()
            until(lambda: server.flight.calls.count == 0)
            assert list(tmp_path.rglob("athena-flight-results-*/*.arrow")) == []
            assert cache(carol, LONG) == "miss"
