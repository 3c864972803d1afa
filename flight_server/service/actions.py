"""The server's own actions (protocol.md): a JSON body in, JSON or a serialised FlightInfo out.

Those of Flight SQL and of Flight itself are in `flight_sql/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow.flight as flight

from flight_server.datasets.describe import contract_json
from flight_server.errors import InvalidRequest
from flight_server.model import Request, plan_json
from flight_server.pipeline import ENGINE_ROLE, Pipeline
from flight_server.service import descriptors, infos
from flight_server.service.admission import Rate
from flight_server.service.call import Call
from flight_server.service.descriptors import Tickets
from flight_server.service.pins import Pins
from flight_server.service.plans import Plans
from flight_server.service.spending import Spending
from flight_server.service.submissions import Submissions

ACTIONS = {
    "describe": 'The contract of a dataset as JSON. Body: {"dataset": "daily_prices"}',
    "explain": "The plan of a request and the SQL that the engine would run, as JSON. Body: a request in JSON form",
    "whoami": "Who you are here, and what is left of your budget and rate of statements, as JSON. Body: none",
    "submit": "Start a query and return at once. Body: a request in JSON form",
    "status": 'How a submitted query stands, as JSON. Body: {"id": "…"}',
    "result": 'A FlightInfo for the result of a submitted query that succeeded. Body: {"id": "…"}',
    "cancel": 'Stop a submitted query. Body: {"id": "…"}',
    "pins": "The pins that as_of accepts here, each with its tables and their snapshots, as JSON. Body: none",
    "pin": 'Keep snapshots for as_of. Body: {"name": "…"}, perhaps "tables": a list of them, or an object of snapshots',
    "unpin": 'Remove a pin. Body: {"name": "…"}',
}


class Actions:
    """Answers `ACTIONS` over a pipeline and its submitted queries. No body is longer than `body_max` bytes."""

    def __init__(
        self,
        pipeline: Pipeline,
        plans: Plans,
        submissions: Submissions,
        spending: Spending,
        statements: Rate,
        tickets: Tickets,
        pins: Pins,
        body_max: int,
    ) -> None:
        self._pipeline = pipeline
        self._plans = plans
        self._spending = spending
        self._statements = statements
        self._submissions = submissions
        self._tickets = tickets
        self._pins = pins
        self._body_max = body_max

    def act(self, kind: str, call: Call, body: bytes) -> bytes:
        """The result of one of `ACTIONS`."""
        if kind == "result":
            return self._result(call, body)
        answers: dict[str, Callable[[Call, bytes], dict[str, object]]] = {
            "describe": self._describe,
            "explain": self._explain,
            "whoami": self._whoami,
            "submit": self._submit,
            "status": self._status,
            "cancel": self._cancel,
            "pins": self._listed_pins,
            "pin": lambda call, body: self._pins.pin(self._object(body, ["name", "tables"]), call.asker),
            "unpin": lambda call, body: self._pins.unpin(self._object(body, ["name"]), call.asker),
        }
        return json.dumps(answers[kind](call, body)).encode()

    def _describe(self, call: Call, body: bytes) -> dict[str, object]:
        found = self._object(body, ["dataset", "version"])
        name, version = found.get("dataset"), found.get("version")
        if not isinstance(name, str) or not (version is None or type(version) is int):
            raise InvalidRequest("bad-request", 'write {"dataset": "daily_prices"}')
        request = Request(name, version=version)
        call.outcome.asked(request)
        dataset = self._pipeline.describe(request, call.asker)
        call.outcome.dataset = dataset.name
        return contract_json(dataset)

    def _explain(self, call: Call, body: bytes) -> dict[str, object]:
        plan = self._plans.of(call, descriptors.decode(body, self._body_max))
        # What a policy says, constants and all, is for those who run the server.
        sql = plan.bound_sql if ENGINE_ROLE in call.asker.roles else plan.asked_sql
        return {**plan_json(plan), "sql": sql, "row_filters": [asdict(each) for each in plan.policies]}

    def _whoami(self, call: Call, body: bytes) -> dict[str, object]:
        self._object(body or b"{}", [])
        caller, rate = call.asker, self._statements
        account = self._spending.account(caller)
        # Nobody's name is known without authentication, and then the rate holds for nobody.
        statements = {"per_minute": rate.per_min, "at_once": rate.burst, "left": rate.left(caller.name)}
        return {
            "name": caller.name,
            "roles": sorted(caller.roles),
            "budget": account and account.json(),
            "statements": statements if call.named else None,
        }

    def _submit(self, call: Call, body: bytes) -> dict[str, object]:
        plan = self._plans.to_run(call, descriptors.decode(body, self._body_max))
        query = self._submissions.submit(plan, call.asker, named=call.named)
        return {"id": query.id, "state": query.state}

    def _status(self, call: Call, body: bytes) -> dict[str, object]:
        return self._submissions.seen(self._id(body), call.asker).status()

    def _cancel(self, call: Call, body: bytes) -> dict[str, object]:
        query = self._submissions.cancel(self._id(body), call.asker)
        return {"id": query.id, "state": query.state}

    def _listed_pins(self, call: Call, body: bytes) -> dict[str, object]:
        self._object(body or b"{}", [])
        return self._pins.listed(call.asker)

    def _result(self, call: Call, body: bytes) -> bytes:
        query = self._submissions.finished(self._id(body), call.asker)
        call.outcome.planned(query.plan)
        asked = flight.FlightDescriptor.for_path(query.plan.dataset.name)
        ticket = self._tickets.issue(query.plan, query.id if query.kept else None)
        size = (query.rows, query.bytes) if query.kept else self._pipeline.size(query.plan)
        return bytes(infos.planned(asked, query.plan, ticket, size).serialize())

    def _id(self, body: bytes) -> str:
        found = self._object(body, ["id"]).get("id")
        if not isinstance(found, str):
            raise InvalidRequest("bad-request", 'write {"id": "…"}, as submit answered it')
        return found

    def _object(self, body: bytes, known: Sequence[str]) -> dict[str, Any]:
        return descriptors.decode_object(body, self._body_max, known)
