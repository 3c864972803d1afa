"""A Flight server for clients in other languages: what it does with a request is chosen by the dataset's name.

Such a client cannot put a Python function into the server as tests/clients/peer.py has it, so the behaviours are here,
and the actions `calls` and `heard` tell what the server has seen.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.errors import CODES, ContractViolated, EngineFailed
from flight_server.service import status
from tests.clients.peer import SCHEMA, Batches, Peer, failing, giving, numbers

# With brackets, a comma and what pyarrow itself puts behind messages.
MESSAGE = "daily_prices.x = 'a. Detail: b' [not-a-code] is no value; write [1, 2]. It takes x"
_BUSY = flight.FlightUnavailableError("[busy] all places are taken")


class Scripted(Peer):
    """Answers `numbers`, `busy`, `short` and so on; `code:<code>` and `later:<code>` raise that code."""

    def __init__(self) -> None:
        # By dataset: its calls, and whether it was told that nobody reads.
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.heard: set[str] = set()
        super().__init__()

    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        return iter([])

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        name = json.loads(descriptor.command)["dataset"]
        self._note(name, "info", context)
        where = ["grpc://elsewhere.invalid:1"] if name == "elsewhere" else []
        count = 2 if name == "two" else 1
        endpoints = [flight.FlightEndpoint(f"{name}/{index}".encode(), where) for index in range(count)]
        return flight.FlightInfo(SCHEMA, descriptor, endpoints, -1, -1, ordered=True)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        name, _, index = ticket.ticket.decode().partition("/")
        self._note(name, "get", context)
        return flight.GeneratorStream(SCHEMA, self._batches(name, int(index))(context))

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:
        name = json.loads(action.body.to_pybytes() or b"{}").get("dataset", "")
        if action.type == "calls":
            yield json.dumps(self.seen[name]).encode()
        elif action.type == "heard":
            yield json.dumps(name in self.heard).encode()
        else:
            raise raised(name.partition(":")[2])

    def _note(self, name: str, call: str, context: flight.ServerCallContext) -> None:
        tries = self.seen[name]
        tries.append(call)
        # Two of each are turned away.
        if name in ("always-busy", f"always-busy-{call}") or (name == "busy" and tries.count(call) <= 2):
            raise _BUSY
        if name == "no-code":
            raise flight.FlightUnavailableError("come back some day")
        if name == "refused" and call == "get":
            raise flight.FlightInternalError("[engine-failed] no")
        if name.startswith("code:"):
            raise raised(name.removeprefix("code:"))

    def _batches(self, name: str, index: int) -> Batches:
        if name.startswith("later:"):
            return failing(raised(name.removeprefix("later:")), 1)
        scripts: dict[str, Batches] = {
            "two": giving(2 * index, 2 * index + 1),
            "short": giving(1, 2, 3, trailer="4"),
            "long": giving(1, 2, 3, trailer="2"),
            "silent": self._silent,
            "breaks-off": failing(flight.FlightUnavailableError("the line is dead"), 1),
        }
        return scripts.get(name, giving(1, 2, 3))

    def _silent(self, context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        yield numbers(1)
        while not context.is_cancelled():
            time.sleep(0.01)
        self.heard.add("silent")


def raised(code: str) -> Exception:
    """What the server raises for one of its codes, or for one that a later server might have."""
    if code == "of-a-later-server":
        return flight.FlightUnauthorizedError(f"[{code}] {MESSAGE}")
    kind: Callable[..., Exception] = CODES[code]
    error = kind(MESSAGE) if kind in (EngineFailed, ContractViolated) else kind(code, MESSAGE)
    return status.to_wire(error)  # type: ignore[arg-type]
