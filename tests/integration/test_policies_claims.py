"""Claims in row filters: typed, no rows in any doubt, never more than a value, and part of the fingerprint."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_server.model import Caller, Claim
from tests.fix_identity import POLICIES, Desk
from tests.policies import ALICE, ALL, NOBODY, RISK, only


@pytest.mark.parametrize(
    ("where", "claims", "seen"),
    [
        ("port_id IN (:caller.p)", {"p": (1, 2)}, {1, 2}),
        ("port_id IN (:caller.p)", {"p": 3}, {3}),
        ("port_id IN (:caller.p)", {"p": ("1", "4")}, {1, 4}),
        ("port_id IN (4, :caller.p)", {"p": (1,)}, {1, 4}),
        ("port_id IN (:caller.p)", {"p": ()}, set()),
        ("port_id IN (:caller.p)", {}, set()),
        ("port_id NOT IN (:caller.p)", {"p": (1, 2)}, {3, 4}),
        ("port_id NOT IN (:caller.p)", {"p": ()}, set()),
        ("port_id NOT IN (:caller.p)", {}, set()),
        ("port_id = 1 OR port_id = :caller.p", {}, set()),
        ("NOT (port_id = :caller.p)", {}, set()),
        ("port_id = :caller.p", {"p": 2}, {2}),
        ("port_id = :caller.p", {"p": "2"}, {2}),
        ("port_id = :caller.p", {"p": "02"}, set()),
        ("port_id = :caller.p", {"p": "2 OR TRUE"}, set()),
        ("port_id = :caller.p", {"p": True}, set()),
        ("port_id = :caller.p", {"p": 2**70}, set()),
        ("port_id = :caller.p", {"p": (2,)}, set()),
        ("port_id >= :caller.low AND port_id < :caller.high", {"low": 2, "high": 4}, {2, 3}),
        ("port_id BETWEEN :caller.low AND :caller.high", {"low": 2, "high": 3}, {2, 3}),
        (":caller.low <= port_id", {"low": 4}, {4}),
        ("value > :caller.x", {"x": 300}, {3, 4}),
        ("value > :caller.x", {"x": float("nan")}, set()),
        ("value > :caller.x", {"x": float("-inf")}, set()),
        ("trade_date = :caller.day AND port_id = 1", {"day": "2024-01-03"}, {1}),
        ("trade_date = :caller.day", {"day": "yesterday"}, set()),
        ("desk = :caller.desk", {"desk": "desk3"}, {3}),
        ("desk = :caller.desk", {"desk": 3}, set()),
        ("desk = :caller.desk", {"desk": "desk3\0"}, set()),
        ("desk = :caller.desk", {"desk": "\ud800"}, set()),
        ("desk = lower(:caller.desk)", {"desk": "DESK3"}, {3}),
        ("desk LIKE :caller.desk", {"desk": "%4"}, {4}),
        (":caller.all", {"all": True}, ALL),
        (":caller.all", {"all": False}, set()),
        (":caller.level >= 3", {"level": 3}, ALL),
        (":caller.level >= 3", {"level": 2}, set()),
        ("concat('desk', CAST(port_id AS VARCHAR)) = :caller.name", {"name": "desk1"}, set()),
        ('port_id = :caller."odd claim"', {"odd claim": 1}, {1}),
        ("false", {}, set()),
    ],
)
def test_claims_are_typed_and_every_doubt_means_no_rows(
    desk: Desk, where: str, claims: dict[str, Claim], seen: set[int]
) -> None:
    caller = Caller("desk2", claims=claims)
    if ":caller.name" in where:
        # The verified name, never a claim of that name.
        seen = {2}
    assert {*desk.ask("SELECT n.port_id FROM p.nav AS n", "port_id int32", caller, only(where))} == seen


@settings(max_examples=40)
@given(
    claim=st.one_of(
        st.text(), st.text(alphabet="'\"\\;-) (/*%_:?\n\0éa1"), st.sampled_from(["desk1", "' OR '1'='1", "');--"])
    )
)
def test_no_text_in_a_claim_is_more_than_text(desk: Desk, claim: str) -> None:
    expected = {1} if claim == "desk1" else set()
    policies = only("desk IN (:caller.desks)")
    rows = desk.ask(
        "SELECT n.port_id FROM p.nav AS n", "port_id int32", Caller("x", claims={"desks": (claim,)}), policies
    )
    assert {*rows} == expected


def test_fingerprints_differ_by_policy_value_and_by_nothing_else_of_the_caller(desk: Desk) -> None:
    def fingerprint(caller: Caller, policies: str = POLICIES) -> str:
        return desk.plan("SELECT n.port_id FROM p.nav AS n", "port_id int32", caller, policies).fingerprint

    twin = Caller("another", frozenset({"pm", "more"}), {"portfolios": (1, 2), "mail": "a@b"})
    assert fingerprint(ALICE) == fingerprint(twin)
    others = [
        fingerprint(Caller("alice", frozenset({"pm"}), {"portfolios": (1, 3)})),
        fingerprint(RISK),
        fingerprint(NOBODY),
        fingerprint(ALICE, POLICIES.replace("port_id IN", "port_id NOT IN")),
    ]
    assert len({fingerprint(ALICE), *others}) == 5


def test_equal_looking_claims_of_other_types_do_not_share_a_plan(desk: Desk) -> None:
    def seen(claim: Claim) -> set[int]:
        return {
            *desk.ask("SELECT n.port_id FROM p.nav AS n", "port_id int32", Caller("x", claims={"p": claim}), policies)
        }

    policies = only("port_id = :caller.p")
    # To Python 1 == True == 1.0; the plan of one must not be found for the other.
    assert [seen(1), seen(True), seen(1.0), seen("1"), seen((1,))] == [{1}, set(), set(), {1}, set()]
