"""/metrics of a running server: what one call adds, and what is there while a query runs."""

from __future__ import annotations

import urllib.request

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flight_server.server import Server
from tests.fix_server import ASKED, Serve, Write, connect, dataset
from tests.waiting import until

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(server: Server) -> Series:
    with urllib.request.urlopen(f"http://localhost:{server.http.port}/metrics", timeout=20) as reply:
        families = list(text_string_to_metric_families(reply.read().decode()))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found: Series, name: str, **labels: str) -> float:
    return found.get((f"athena_flight_{name}", tuple(sorted(labels.items()))), 0.0)


def test_one_call_adds_what_it_was(serve: Serve) -> None:
    server = serve()
    before = scraped(server)
    with connect(server) as client:
        table = client.do_get(flight.Ticket(ASKED)).read_all()
        with pytest.raises(pa.ArrowInvalid):
            client.do_get(flight.Ticket(b"daily_prices")).read_all()
        with pytest.raises(KeyError):
            client.do_get(flight.Ticket(b"planted_name")).read_all()
    until(lambda: server.flight.calls.count == 0)
    after = scraped(server)

    def added(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert added("calls_total", method="DoGet", dataset="daily_prices", code="ok") == 1
    # A request that is wrong is its dataset's; one for what there is not makes no series of its own.
    assert added("calls_total", method="DoGet", dataset="daily_prices", code="missing-parameter") == 1
    assert added("calls_total", method="DoGet", dataset="", code="unknown-dataset") == 1
    assert not any("planted_name" in repr(key) for key in after)
    assert added("call_seconds_count", method="DoGet") == 3
    assert added("first_batch_seconds_count", engine="duckdb", cache="miss") == 1
    assert added("answers_total", engine="duckdb", cache="miss") == 1
    assert added("rows_total", dataset="daily_prices") == table.num_rows == 19
    assert added("bytes_total", dataset="daily_prices") > 0
    assert value(after, "datasets") == 9


def test_sums_of_a_dataset_are_there_before_its_first_call(serve: Serve, datasets: Write) -> None:
    server = serve(datasets(at_start=dataset("SELECT CAST(1 AS BIGINT) AS x")))
    datasets(later=dataset("SELECT CAST(1 AS BIGINT) AS x"))
    assert server.reload() == []
    found = scraped(server)
    for name in ("rows_total", "bytes_total", "scanned_bytes_total", "usd_total"):
        for known in ("", "at_start", "later"):
            assert found[f"athena_flight_{name}", (("dataset", known),)] >= 0


def test_a_query_that_runs_is_counted_until_it_ends(serve: Serve, datasets: Write) -> None:
    many = "SELECT CAST(a.x AS BIGINT) * b.y AS x FROM UNNEST(SEQUENCE(1, 5000)) AS a (x) CROSS JOIN UNNEST(SEQUENCE(1, 5000)) AS b (y)"
    server = serve(datasets(many=dataset(many)))
    before = value(scraped(server), "queries_running", engine="duckdb")
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"many"))
        assert reader.read_chunk().data.num_rows > 0
        running = scraped(server)
        assert value(running, "queries_running", engine="duckdb") == before + 1
        assert value(running, "calls_running") == 1
        assert value(running, "duckdb_bytes") > 0
        reader.cancel()
    until(lambda: value(scraped(server), "queries_running", engine="duckdb") == before)
    # The query ends before its call does.
    until(lambda: value(scraped(server), "calls_running") == 0)


def test_metrics_are_answered_after_an_engine_was_closed(serve: Serve) -> None:
    server = serve()
    server.engines["duckdb"].close()
    assert value(scraped(server), "datasets") == 9
