"""Pins and receipts over the wire: what `as_of` reads again, what keeps it there, who may make pins and who sees them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from flight_server import server
from flight_server.errors import InvalidRequest
from flight_server.tables.catalog import find_table, open_catalog
from flight_server.tables.expire import expirable, expire
from flight_server.tables.pins import Tags
from tests.fix_identity import NAV, STATIC, Client, Lake
from tests.fix_server import raw
from tests.wire import ticket

NEW = pa.table({"name": ["three"]})
NAMES = {"one", "two"}
ALL = {"dataset": "nav"}


@pytest.fixture
def lake(lake_copy: Lake) -> Iterator[Catalog]:
    with closing(open_catalog(lake_copy.settings())) as catalog:
        yield catalog


@pytest.fixture
def served(lake_copy: Lake) -> Iterator[server.Server]:
    with lake_copy.serve() as running:
        yield running


@pytest.fixture
def who(served: server.Server, lake_copy: Lake) -> Iterator[Callable[[str], Client]]:
    """Clients by name; `operator` is one."""
    with flight.connect(f"grpc://localhost:{served.port}") as client:
        operator = lake_copy.issuer.token(sub="olga", roles=["operator"])
        yield lambda name: Client(client, operator if name == "operator" else STATIC[name])


def opened(lake: Catalog) -> Table:
    return find_table(lake, "p.open")


def names(client: Client, as_of: str | None = None) -> set[str]:
    return {row["name"] for row in client.rows(json.dumps({"dataset": "public_names", "as_of": as_of}))}


def receipt(served: server.Server, client: Client, request: dict[str, object]) -> str:
    reply = raw(served, "DoGet", ticket(json.dumps(request).encode()), token=client.credential)
    return reply.trailers["x-athena-flight-receipt"]


def fails(code: str, call: Callable[[], object]) -> str:
    """The message of the error with this code that `call` ends with."""
    with pytest.raises((flight.FlightError, pa.ArrowException)) as caught:
        call()
    assert f"[{code}]" in str(caught.value)
    return str(caught.value)


def test_a_pin_is_read_again_after_the_table_has_changed(lake: Catalog, who: Callable[[str], Client]) -> None:
    made = who("operator").action("pin", {"name": "month-end", "tables": ["p.open"]})
    assert made == {"name": "month-end", "tables": {"p.open": opened(lake).metadata.current_snapshot_id}}
    opened(lake).append(NEW)
    assert names(who("alice")) == NAMES | {"three"}
    assert names(who("alice"), "month-end") == NAMES
    assert {row["name"] for row in who("alice").rows("public_names?_as_of=month-end")} == NAMES
    sql = json.dumps({"sql": "SELECT o.name FROM p.open AS o", "as_of": "month-end"})
    assert {row["name"] for row in who("alice").rows(sql)} == NAMES
    plan = json.loads(who("alice").info("public_names?_as_of=month-end").app_metadata)
    assert plan["snapshots"] == made["tables"]


def test_no_expiry_takes_a_pin_and_every_expiry_takes_what_was_unpinned(
    lake: Catalog, who: Callable[[str], Client]
) -> None:
    who("operator").action("pin", {"name": "kept", "tables": ["p.open"]})
    opened(lake).append(NEW)
    late = datetime.now(UTC) + timedelta(hours=1)
    assert expirable(opened(lake), late) == []
    opened(lake).maintenance.expire_snapshots().older_than(late).commit()
    assert names(who("alice"), "kept") == NAMES
    gone = who("operator").action("unpin", {"name": "kept"})
    expire(opened(lake), expirable(opened(lake), late))
    assert opened(lake).snapshot_by_id(gone["tables"]["p.open"]) is None
    fails("unknown-pin", lambda: names(who("alice"), "kept"))
    assert who("operator").action("pins", {}) == {"pins": []}


def test_a_plan_can_be_pinned_as_it_is(lake: Catalog, who: Callable[[str], Client]) -> None:
    plan = json.loads(who("operator").info("public_names").app_metadata)
    opened(lake).append(NEW)
    who("operator").action("pin", {"name": "report", "tables": plan["snapshots"]})
    assert names(who("bob"), "report") == NAMES


def test_without_tables_all_are_pinned_that_have_rows(lake: Catalog, who: Callable[[str], Client]) -> None:
    made = who("operator").action("pin", {"name": "everything"})
    assert set(made["tables"]) == {"p.nav", "p.open"}


def test_a_pin_is_a_tag_that_other_engines_know(lake: Catalog, who: Callable[[str], Client]) -> None:
    who("operator").action("pin", {"name": "eom", "tables": ["p.open"]})
    first = opened(lake).metadata.current_snapshot_id
    assert opened(lake).snapshot_by_name("eom").snapshot_id == first  # type: ignore[union-attr]
    opened(lake).append(NEW)
    # The other way round: a tag that another engine made is a pin. A branch is none, as it moves.
    opened(lake).manage_snapshots().create_tag(opened(lake).metadata.snapshots[1].snapshot_id, "of_spark").commit()
    opened(lake).manage_snapshots().create_branch(opened(lake).metadata.snapshots[0].snapshot_id, "audit").commit()
    assert names(who("alice"), "of_spark") == NAMES | {"three"}
    fails("unknown-pin", lambda: names(who("alice"), "audit"))
    assert [pin["name"] for pin in who("alice").action("pins", {})["pins"]] == ["eom", "of_spark"]
    fails("bad-request", lambda: who("operator").action("pin", {"name": "audit", "tables": ["p.open"]}))


def test_the_same_pin_again_changes_nothing_and_another_is_refused(lake: Catalog, who: Callable[[str], Client]) -> None:
    operator = who("operator")
    made = operator.action("pin", {"name": "eom", "tables": ["p.open"]})
    location = opened(lake).metadata_location
    assert operator.action("pin", {"name": "eom", "tables": ["p.open"]}) == made
    assert opened(lake).metadata_location == location
    opened(lake).append(NEW)
    message = fails("bad-request", lambda: operator.action("pin", {"name": "eom", "tables": ["p.open"]}))
    assert "there is a pin 'eom' already" in message
    fails("bad-request", lambda: operator.action("pin", {"name": "eom", "tables": ["p.open", "p.nav"]}))
    assert operator.action("pins", {})["pins"] == [made]


BAD: list[tuple[dict[str, object], str]] = [
    ({}, "write {"),
    ({"name": "a", "table": ["p.open"]}, "there is no key 'table'; did you mean 'tables'?"),
    ({"name": "2024-01-31"}, "is no name of a pin: a letter, then"),
    ({"name": "r1.x"}, "is no name of a pin"),
    ({"name": "a" * 64}, "is no name of a pin"),
    ({"name": "a", "tables": []}, "write {"),
    ({"name": "a", "tables": "p.open"}, "write {"),
    ({"name": "a", "tables": [1]}, "write {"),
    ({"name": "a", "tables": ["p.opem"]}, "there is no table 'p.opem'; did you mean 'p.open'?"),
    ({"name": "a", "tables": {"p.open": "1"}}, "a snapshot is a whole number"),
    ({"name": "a", "tables": {"p.open": True}}, "a snapshot is a whole number"),
    ({"name": "a", "tables": {"p.nav": None, "p.open": 12345}}, "p.open has no snapshot 12345"),
]


def test_a_bad_pin_is_refused_and_nothing_is_pinned(who: Callable[[str], Client]) -> None:
    for body, said in BAD:
        assert said in fails("bad-request", lambda body=body: who("operator").action("pin", body))
    assert who("operator").action("pins", {}) == {"pins": []}


def test_only_operators_pin_and_callers_see_what_they_can_read(who: Callable[[str], Client]) -> None:
    for name in ("alice", "carol", "dave"):
        for action in ("pin", "unpin"):
            fails("not-allowed", lambda action=action, name=name: who(name).action(action, {"name": "eom"}))
    made = who("operator").action("pin", {"name": "eom"})
    who("operator").action("pin", {"name": "of_nav", "tables": ["p.nav"]})
    assert who("dave").action("pins", {})["pins"] == [
        made,
        {"name": "of_nav", "tables": {"p.nav": made["tables"]["p.nav"]}},
    ]


def test_what_a_caller_cannot_read_is_in_none_of_its_pins(lake_copy: Lake) -> None:
    (lake_copy.folder / "sql" / "nav.sql").write_text(
        (lake_copy.folder / "sql" / "nav.sql")
        .read_text()
        .replace("-- ///\nSELECT", '-- [access]\n-- roles = ["risk"]\n-- ///\nSELECT')
    )
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        operator = Client(client, lake_copy.issuer.token(sub="olga", roles=["operator", "risk"]))
        made = operator.action("pin", {"name": "both"})
        operator.action("pin", {"name": "of_nav", "tables": ["p.nav"]})
        assert set(made["tables"]) == {"p.nav", "p.open"}
        (seen,) = Client(client, STATIC["dave"]).action("pins", {})["pins"]
        assert seen == {"name": "both", "tables": {"p.open": made["tables"]["p.open"]}}
        # To an operator without the role, the table does not exist.
        blind = Client(client, lake_copy.issuer.token(sub="oscar", roles=["operator"]))
        message = fails("bad-request", lambda: blind.action("pin", {"name": "x", "tables": ["p.nav"]}))
        assert "there is no table 'p.nav'" in message


def test_row_filters_hold_at_a_pin_and_at_a_receipt(served: server.Server, who: Callable[[str], Client]) -> None:
    who("operator").action("pin", {"name": "eom"})
    carols = receipt(served, who("carol"), ALL)
    for as_of in ("eom", carols):
        asked = json.dumps({**ALL, "as_of": as_of})
        assert who("alice").ports(asked) == {1, 2}
        assert who("carol").ports(asked) == {1, 2, 3, 4}
        assert who("dave").ports(asked) == set()


def test_a_receipt_reads_what_its_answer_was_made_from(
    served: server.Server, lake: Catalog, who: Callable[[str], Client]
) -> None:
    asked: dict[str, object] = {"dataset": "public_names"}
    said = receipt(served, who("alice"), asked)
    assert said == receipt(served, who("carol"), asked), "the same answer has the same receipt"
    opened(lake).append(NEW)
    assert receipt(served, who("alice"), asked) != said
    assert names(who("alice"), said) == NAMES
    # What was read at a receipt has that receipt, and a statement may be held against it too.
    assert receipt(served, who("alice"), {**asked, "as_of": said}) == said
    sql = json.dumps({"sql": "SELECT o.name FROM p.open AS o", "as_of": said})
    assert {row["name"] for row in who("alice").rows(sql)} == NAMES
    fails("unknown-pin", lambda: who("alice").rows(json.dumps({**ALL, "as_of": said})))


def test_a_receipt_has_what_the_audit_log_has(served: server.Server, who: Callable[[str], Client]) -> None:
    _, body, _ = receipt(served, who("alice"), ALL).split(".")
    found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    plan = json.loads(who("alice").info("nav").app_metadata)
    assert found == {key: plan[key] for key in ("dataset", "version", "fingerprint", "snapshots")}


def test_a_receipt_of_expired_snapshots_is_refused(
    served: server.Server, lake: Catalog, who: Callable[[str], Client]
) -> None:
    said = receipt(served, who("alice"), {"dataset": "public_names"})
    opened(lake).append(NEW)
    expire(opened(lake), expirable(opened(lake), datetime.now(UTC) + timedelta(hours=1)))
    assert "p.open has no snapshot" in fails("unknown-pin", lambda: names(who("alice"), said))


def test_a_receipt_names_no_snapshot_that_readers_were_never_given(
    served: server.Server, lake: Catalog, who: Callable[[str], Client]
) -> None:
    """A receipt is not signed: a branch that is being audited must stay out of reach."""
    said = receipt(served, who("alice"), {"dataset": "public_names"})
    first = opened(lake).metadata.current_snapshot_id
    opened(lake).manage_snapshots().create_branch(first or 0, "audit").commit()
    opened(lake).append(NEW, branch="audit")
    staged = opened(lake).metadata.refs["audit"].snapshot_id
    forged = written(said, lambda found: found["snapshots"].update({"p.open": staged}))
    assert "p.open has no snapshot" in fails("unknown-pin", lambda: names(who("alice"), forged))
    assert names(who("alice"), said) == NAMES


def written(said: str, change: Callable[[dict[str, dict[str, int]]], object]) -> str:
    """A receipt that was changed by somebody who knows how they are written."""
    _, body, _ = said.split(".")
    found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    change(found)
    body = base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")
    return f"r1.{body}.{hashlib.sha256(body.encode()).hexdigest()[:8]}"


def test_a_receipt_that_is_not_whole_is_told_of(served: server.Server, who: Callable[[str], Client]) -> None:
    said = receipt(served, who("alice"), {"dataset": "public_names"})
    empty = written(said, lambda found: found.clear())
    wrong = written(said, lambda found: found["snapshots"].update({"p.open": "1"}))  # type: ignore[dict-item]
    for broken in (said[:-1], said[:40], said.replace("r1.", "r1.x"), "r1.", "r1.." + "0" * 8, empty, wrong):
        assert "the receipt is not whole" in fails("unknown-pin", lambda broken=broken: names(who("alice"), broken))


def append(lake: Catalog) -> None:
    """As a writer does it that meets another commit."""
    for _ in range(10):
        with suppress(CommitFailedException):
            return opened(lake).append(NEW)
    raise AssertionError("no commit got through")


def test_pins_that_are_made_at_once_are_whole_or_refused(lake: Catalog, lake_copy: Lake) -> None:
    """Replicas share no lock: the catalog decides. Writers of rows in between are no failure."""
    first = {name: find_table(lake, name).metadata.current_snapshot_id or 0 for name in ("p.nav", "p.open")}
    started = threading.Barrier(4)

    def pin(number: int) -> None:
        with closing(open_catalog(lake_copy.settings())) as own:
            started.wait(30)
            Tags(own).create(f"pin{number}", first)

    threads = [threading.Thread(target=pin, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    started.wait(30)
    append(lake)
    for thread in threads:
        thread.join(60)
    for name, snapshot in first.items():
        refs = find_table(lake, name).metadata.refs
        assert {pin: ref.snapshot_id for pin, ref in refs.items() if pin != "main"} == {
            f"pin{number}": snapshot for number in range(3)
        }
    assert opened(lake).scan().to_arrow().num_rows == 3


def test_a_pin_that_fails_halfway_leaves_no_tag(lake: Catalog) -> None:
    first = find_table(lake, "p.nav").metadata.current_snapshot_id or 0
    with pytest.raises(InvalidRequest, match=r"p\.open has no snapshot 1"):
        Tags(lake).create("half", {"p.nav": first, "p.open": 1})
    assert "half" not in find_table(lake, "p.nav").metadata.refs
    assert len(NAV) == find_table(lake, "p.nav").scan().to_arrow().num_rows
