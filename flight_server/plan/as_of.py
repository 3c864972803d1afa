"""What an `as_of` names: a moment, a pin or a receipt; and which snapshot of a table that is.

A pin is an Iceberg tag of that name on each of its tables (tables/pins.py): any replica finds it there, no expiry takes
its snapshots, and Spark, Trino and Athena know it by the same name. A receipt is what an answer was made from, and is
told with it: it keeps nothing, and is refused once its snapshots have been expired.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType

from flight_server.errors import NotFound, nearest
from flight_server.model import Plan, to_json

# As a pin's name is written: never like a timestamp, which starts with a digit, nor like a receipt, which has dots.
PIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
# Says what it is, and carries the version of what follows.
_RECEIPT = "r1."
# Trailers of a call share 8 KiB before gRPC refuses some; with more tables than fit, there is no receipt.
RECEIPT_BYTES_MAX = 4096
_KINDS = "a pin's name, a receipt, or an ISO timestamp such as 2024-01-31T00:00:00Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """What tables held then (lake time), not what was known then."""

    at: datetime

    def snapshot(self, name: str, table: Table) -> int | None:
        found = table.snapshot_as_of_timestamp(int(self.at.timestamp() * 1000))
        if found is None:
            first = min((entry.timestamp_ms for entry in table.history()), default=None)
            known = "it has none at all"
            if first is not None:
                # Exact, and without a plus, which is a blank in the query form, so that what is said can be asked for.
                known = f"its first is of {to_json(_EPOCH + timedelta(milliseconds=first))}"
            raise NotFound("unknown-pin", f"{name} has no snapshot as old as {self.at.isoformat()}; {known}")
        return found.snapshot_id


@dataclass(frozen=True, slots=True)
class Pin:
    """What tables held when the pin was made, or at the snapshots that it was made of."""

    name: str

    def snapshot(self, name: str, table: Table) -> int | None:
        found = tags(table)
        if self.name not in found:
            hint = nearest(self.name, found, end=f"; as_of takes {_KINDS}")
            raise NotFound("unknown-pin", f"{name} is in no pin {self.name!r}{hint}")
        return found[self.name]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an earlier answer was made from: the snapshot of each of its tables, None of one that was empty."""

    snapshots: Mapping[str, int | None]

    def snapshot(self, name: str, table: Table) -> int | None:
        if name not in self.snapshots:
            raise NotFound("unknown-pin", f"the receipt is of an answer that was not made from {name}")
        found = self.snapshots[name]
        if found is None and table.metadata.current_snapshot_id is not None:
            raise NotFound("unknown-pin", f"{name} was empty when the receipt was given, which cannot be read any more")
        if found is not None and (table.snapshot_by_id(found) is None or found not in _given(table)):
            raise NotFound("unknown-pin", f"{name} has no snapshot {found} any more, which the receipt names")
        return found


AsOf = Moment | Pin | Receipt


def parse(text: str) -> AsOf:
    """What a client's `as_of` names. A moment without a zone is UTC. Raises NotFound (unknown-pin)."""
    if text.startswith(_RECEIPT):
        return Receipt(_snapshots(text))
    if PIN_NAME.fullmatch(text):
        return Pin(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise NotFound("unknown-pin", f"as_of {text[:80]!r} is nothing that it takes: {_KINDS}") from None
    return Moment(found if found.tzinfo else found.replace(tzinfo=UTC))


def tags(table: Table) -> dict[str, int]:
    """The tags of a table that can be asked for, with their snapshots. A branch is none: it moves."""
    refs = table.metadata.refs.items()
    return {
        name: ref.snapshot_id
        for name, ref in refs
        if ref.snapshot_ref_type is SnapshotRefType.TAG and PIN_NAME.fullmatch(name)
    }


def _given(table: Table) -> set[int]:
    """The snapshots that readers were ever given: a receipt is not signed, and must not name those of a branch."""
    return {entry.snapshot_id for entry in table.metadata.snapshot_log} | set(tags(table).values())


def receipt(plan: Plan) -> str:
    """What the plan's answer is made from, as text for `as_of`: equal for equal questions to unchanged tables.

    Not signed, so that it outlives every secret: it gives no access, as each request is held against the policies of
    its own time. Its digest finds what was cut or mistyped. Empty where it would be too long for a trailer.
    """
    said = {
        "dataset": plan.dataset.name,
        "version": plan.dataset.version,
        "fingerprint": plan.fingerprint,
        "snapshots": {pin.table: pin.snapshot_id for pin in plan.pins},
    }
    body = base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode().rstrip("=")
    found = f"{_RECEIPT}{body}.{_digest(body)}"
    return found if len(found) <= RECEIPT_BYTES_MAX else ""


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:8]


def _snapshots(text: str) -> Mapping[str, int | None]:
    body, _, digest = text.removeprefix(_RECEIPT).partition(".")
    try:
        if digest != _digest(body):
            raise ValueError(digest)
        found: dict[str, int | None] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["snapshots"]
        if not all(snapshot is None or type(snapshot) is int for snapshot in found.values()):
            raise ValueError(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise NotFound("unknown-pin", "the receipt is not whole: copy x-athena-flight-receipt to its end") from None
    return found
