"""The actions `pin`, `unpin` and `pins`: named sets of snapshots that `as_of` accepts and no expiry takes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from flight_server.errors import Denied, InvalidRequest, NotFound, nearest
from flight_server.model import Caller
from flight_server.pipeline import ENGINE_ROLE, Pipeline
from flight_server.plan.as_of import PIN_NAME
from flight_server.telemetry import log

_HOW = (
    'write {"name": "month-end", "tables": ["database.table"]}, or {"database.table": snapshot}, or no tables for all'
)


class Keeper(Protocol):
    """Where pins are written: `tables/pins.py`."""

    def create(self, name: str, snapshots: Mapping[str, int]) -> None: ...

    def remove(self, name: str, tables: Iterable[str]) -> None: ...


class Pins:
    """What the pins of a pipeline's tables are, and who may change them."""

    def __init__(self, pipeline: Pipeline, keeper: Keeper) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        # A name is free or not for one at a time; of replicas, the catalog lets one have it on each table.
        self._changing = threading.Lock()

    def listed(self, caller: Caller) -> dict[str, object]:
        """The pins that the caller can ask with."""
        found = self._pipeline.pins(caller)
        return {"pins": [{"name": name, "tables": tables} for name, tables in found.items()]}

    def pin(self, body: Mapping[str, Any], caller: Caller) -> dict[str, object]:
        """Make a pin. The same again changes nothing, so that it can be repeated when its answer was lost."""
        _check_operator(caller)
        name = _name(body)
        with self._changing:
            snapshots = self._snapshots(body.get("tables"), caller)
            there = self._pipeline.all_pins().get(name)
            if there is not None and there != snapshots:
                raise InvalidRequest(
                    "bad-request", f"there is a pin {name!r} already; choose another name, or unpin it"
                )
            self._keeper.create(name, snapshots)
        log.info("pinned", pin=name, tables=snapshots, caller=caller.name)
        return {"name": name, "tables": snapshots}

    def unpin(self, body: Mapping[str, Any], caller: Caller) -> dict[str, object]:
        """Remove a pin from all its tables, which may then be expired."""
        _check_operator(caller)
        name = _name(body)
        with self._changing:
            known = self._pipeline.all_pins()
            if name not in known:
                raise NotFound("unknown-pin", f"there is no pin {name!r}{nearest(name, known)}")
            self._keeper.remove(name, known[name])
        log.info("unpinned", pin=name, tables=known[name], caller=caller.name)
        return {"name": name, "tables": known[name]}

    def _snapshots(self, asked: object, caller: Caller) -> dict[str, int]:
        """The snapshots that a body asks for: of all tables, of those in a list, or those that an object names."""
        known = self._pipeline.snapshots(self._pipeline.readable(caller))
        if asked is None:
            found = {name: at for name, at in known.items() if at is not None}
            if not found:
                raise InvalidRequest("bad-request", "there is no table to pin: none of those that you read has rows")
            return found
        if not isinstance(asked, list | dict) or not asked or not all(isinstance(each, str) for each in asked):
            raise InvalidRequest("bad-request", _HOW)
        for name in asked:
            if name not in known:
                raise InvalidRequest("bad-request", f"there is no table {name[:80]!r}{nearest(name, known)}")
        given = asked if isinstance(asked, dict) else {}
        if any(at is not None and type(at) is not int for at in given.values()):
            raise InvalidRequest("bad-request", f"a snapshot is a whole number, as in a plan; {_HOW}")
        found = {}
        for name in sorted(asked):
            at = known[name] if given.get(name) is None else given[name]
            if at is None:
                raise InvalidRequest("bad-request", f"{name} is empty: there is no snapshot to pin")
            found[name] = at
        return found


def _check_operator(caller: Caller) -> None:
    if not {"*", ENGINE_ROLE} & caller.roles:
        raise Denied("not-allowed", f"the role {ENGINE_ROLE!r} is needed to make and remove pins")


def _name(body: Mapping[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("bad-request", _HOW)
    if not PIN_NAME.fullmatch(name):
        raise InvalidRequest(
            "bad-request", f"{name[:80]!r} is no name of a pin: a letter, then letters, digits, _ or -, at most 63"
        )
    return name
