"""The golden files (tests/golden/README.md) hold for the server and for the Python client; Java reads the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_client import Connection, errors
from flight_server.datasets.params import resolve
from flight_server.errors import Error, InvalidRequest
from flight_server.model import ANONYMOUS, Request, to_json
from flight_server.server import Server
from flight_server.service import descriptors
from flight_server.service.descriptors import Tickets
from tests.fix_client import SECRET

GOLDEN = Path(__file__).parent.parent / "golden"
BYTES_MAX = 65_536
STATUS = {
    pa.ArrowInvalid: "INVALID_ARGUMENT",
    pa.ArrowKeyError: "NOT_FOUND",
    pa.ArrowNotImplementedError: "UNIMPLEMENTED",
}


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


REQUESTS, ERRORS, TICKETS = golden("requests"), golden("errors"), golden("tickets")
named = pytest.mark.parametrize("case", REQUESTS, ids=[case["name"] for case in REQUESTS])


def decoded(case: dict[str, Any]) -> Iterator[Request]:
    """The request as each of its forms says it."""
    yield descriptors.decode(json.dumps(case["json"]).encode(), BYTES_MAX)
    if case["query"] is not None:
        yield descriptors.decode(case["query"].encode(), BYTES_MAX)
    if case["path"] is not None:
        yield descriptors.decode_path([element.encode() for element in case["path"]], BYTES_MAX)


@named
def test_server_decodes_every_form_to_the_same(case: dict[str, Any], client_server: Server) -> None:
    for request in decoded(case):
        for name in ("dataset", "version", "as_of", "engine"):
            assert getattr(request, name) == case[name]
        dataset = client_server.pipeline.describe(request, ANONYMOUS)
        values = resolve(dataset, request.params, datetime.now(UTC).date())
        assert {name: to_json(value) for name, value in values.items()} == case["params"]


@named
def test_client_writes_the_json_form(case: dict[str, Any], db: Connection) -> None:
    query = db.dataset(case["dataset"], case["version"])(**case["args"])
    if case["as_of"] is not None:
        query = query.as_of(case["as_of"])
    if case["engine"] is not None:
        query = query.engine(case["engine"])
    # The client always says the version whose contract it has read, and leaves out what is null.
    written = {**case["json"], "version": case["version"] or 1}
    written["params"] = {name: value for name, value in written["params"].items() if value is not None}
    assert query.request == written


@named
def test_all_forms_have_one_plan_over_the_wire(case: dict[str, Any], url: str) -> None:
    asked = [flight.FlightDescriptor.for_command(json.dumps(case["json"]).encode())]
    if case["query"] is not None:
        asked.append(flight.FlightDescriptor.for_command(case["query"].encode()))
    if case["path"] is not None:
        asked.append(flight.FlightDescriptor.for_path(*case["path"]))
    with flight.connect(url) as client:
        plans = [json.loads(client.get_flight_info(each).app_metadata) for each in asked]
    assert all(plan["params"] == case["params"] for plan in plans)
    assert len({plan["fingerprint"] for plan in plans}) == 1


def call(client: flight.FlightClient, rpc: str, body: bytes) -> None:
    if rpc == "DoGet":
        client.do_get(flight.Ticket(body)).read_all()
    elif rpc == "GetFlightInfo":
        client.get_flight_info(flight.FlightDescriptor.for_command(body))
    elif rpc == "GetSchema":
        client.get_schema(flight.FlightDescriptor.for_command(body))
    else:
        list(client.do_action(flight.Action(rpc, body)))


@pytest.mark.parametrize("case", ERRORS, ids=[f"{case['rpc']} {case['request'][:60]}" for case in ERRORS])
def test_error_has_its_status_code_and_message(case: dict[str, Any], url: str) -> None:
    with flight.connect(url) as client, pytest.raises((pa.ArrowException, KeyError)) as caught:
        call(client, case["rpc"], case["request"].encode())
    assert STATUS[type(caught.value)] == case["status"]
    assert str(caught.value).startswith(f"[{case['code']}] {case['message']}")
    ours = errors.from_wire(caught.value)
    assert (ours.code, ours.message) == (case["code"], case["message"])


@pytest.mark.parametrize("case", TICKETS["tickets"], ids=[case["name"] for case in TICKETS["tickets"]])
def test_ticket_opens_or_is_refused(case: dict[str, Any], url: str) -> None:
    assert TICKETS["secret"] == SECRET
    tickets = Tickets(TICKETS["secret"].encode(), ttl_s=1)
    ticket = case["ticket"].encode()
    if "request" in case:
        found = descriptors.decode_ticket(ticket, tickets, BYTES_MAX)
        said = {**case["request"], "issued_engine": case["request"]["engine"], "engine": None}
        assert {name: getattr(found, name) for name in said} == said
        return
    with pytest.raises(InvalidRequest) as refused:
        descriptors.decode_ticket(ticket, tickets, BYTES_MAX)
    assert refused.value.code == case["code"]
    with flight.connect(url) as client, pytest.raises(pa.ArrowInvalid, match=rf"^\[{case['code']}\] "):
        client.do_get(flight.Ticket(ticket))


def test_every_golden_code_is_one_of_the_servers() -> None:
    from flight_server.errors import CODES

    assert {case["code"] for case in ERRORS} <= set(CODES)
    assert issubclass(CODES["bad-ticket"], Error)
