"""A server with no more rights than deploy/iam-policy.json gives it, on Glue and S3 that refuse the rest."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server import server as composition
from flight_server.server import Server
from flight_server.service.flight_sql import messages
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, Labs
from tests.lake import ROWS

DEPLOY = Path(__file__).parents[2] / "deploy"
# What pyiceberg's catalog of Glue can ask.
GLUE = "GetDatabase GetDatabases GetTable GetTables CreateDatabase CreateTable UpdateTable DeleteTable DeleteDatabase"
Allow = Callable[..., Server]


def granted(*policies: str) -> set[str]:
    """The actions of shipped policies."""
    found = [json.loads((DEPLOY / f"{name}.json").read_text())["Statement"] for name in policies]
    return {action for statements in found for statement in statements for action in statement["Action"]}


@pytest.fixture
def serve(labs: Labs, aws: LocalAws) -> Iterator[Allow]:
    """A server on what the shipped policies grant, but for the actions in `without`."""
    opened: list[Server] = []

    def start(*policies: str, without: frozenset[str] = frozenset()) -> Server:
        actions = granted(*policies) - without
        refused = [f"/AWSGlue.{each}" for each in GLUE.split() if f"glue:{each}" not in actions]
        writes = [("POST", "/warehouse"), ("PUT", "/warehouse"), ("DELETE", "/warehouse")]
        if "iam-policy-maintain" in policies:
            writes = []
        config = labs.configure({"ids": IDS}, sql={"ad_hoc_roles": ("*",)})
        aws.s3_faults(
            *({"kind": "denied", "method": "POST", "match": each, "count": 10**6} for each in refused),
            *({"kind": "denied", "method": method, "match": part, "count": 10**6} for method, part in writes),
        )
        opened.append(composition.build(config))
        composition.start_in_thread(opened[-1])
        return opened[-1]

    yield start
    aws.s3_faults()
    for each in opened:
        each.stop(0)


def tables(client: flight.FlightClient) -> list[str]:
    command = flight.FlightDescriptor.for_command(messages.pack("CommandGetTables"))
    found = client.do_get(client.get_flight_info(command).endpoints[0].ticket).read_all()
    return [str(name) for name in found.column("table_name").to_pylist()]


def pin(client: flight.FlightClient) -> dict[str, int]:
    body = json.dumps({"name": "eom", "tables": ["lake.prices"]}).encode()
    made = json.loads(next(iter(client.do_action(flight.Action("pin", body)))).body.to_pybytes())
    list(client.do_action(flight.Action("unpin", b'{"name": "eom"}')))
    return dict(made["tables"])


def ready(server: Server) -> bool:
    with urllib.request.urlopen(f"http://localhost:{server.http.port}/readyz", timeout=20) as reply:
        return bool(reply.status == 200)


def test_all_that_is_served_works_with_the_policy_of_the_server(serve: Allow) -> None:
    server = serve("iam-policy")
    assert ready(server)
    with flight.connect(f"grpc://localhost:{server.port}") as client:
        for engine in ("athena", "duckdb"):
            assert client.do_get(flight.Ticket(f"ids?first=0&_engine={engine}".encode())).read_all().num_rows == ROWS
        assert {"ids", "prices"} <= set(tables(client))
        # What it may not write, it cannot pin.
        with pytest.raises(flight.FlightInternalError, match=r"\[internal\]"):
            pin(client)


def test_pins_are_made_with_the_policy_of_maintenance(serve: Allow) -> None:
    server = serve("iam-policy", "iam-policy-maintain")
    with flight.connect(f"grpc://localhost:{server.port}") as client:
        assert set(pin(client)) == {"lake.prices"}


def test_datasets_are_served_where_tables_may_not_be_listed(serve: Allow) -> None:
    server = serve("iam-policy", without=frozenset({"glue:GetDatabases", "glue:GetTables"}))
    assert ready(server)
    with flight.connect(f"grpc://localhost:{server.port}") as client:
        assert client.do_get(flight.Ticket(b"ids?first=0")).read_all().num_rows == ROWS


def test_databases_of_others_are_left_out_of_the_list(serve: Allow) -> None:
    server = serve("iam-policy", without=frozenset({"glue:GetTables"}))
    with flight.connect(f"grpc://localhost:{server.port}") as client:
        assert tables(client) == ["ids"]
