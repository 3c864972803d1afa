"""Files, bytes and limits under policies: what a caller is told of them tells nothing of hidden rows."""

from __future__ import annotations

import re

import pytest

from flight_server.errors import InvalidRequest
from flight_server.model import Caller, Estimate
from tests.fix_identity import NAV, Desk
from tests.policies import ALICE, NOBODY, RISK, only


def test_a_limit_means_the_same_with_and_without_a_policy(desk: Desk) -> None:
    sql = "SELECT n.port_id, n.value FROM p.nav AS n WHERE n.trade_date = DATE '2031-01-01'"
    columns = "port_id int32, value float64"
    assert desk.plan(sql, columns, ALICE, only("port_id IN (:caller.portfolios)")).estimate == (
        desk.plan(sql, columns, RISK).estimate
    )
    whole = sql.partition(" WHERE")[0]
    assert desk.plan(whole, columns, ALICE, only("port_id IN (:caller.portfolios)")).estimate == (
        desk.plan(whole, columns, RISK).estimate
    )
    assert desk.plan(sql, columns, RISK).estimate.files < desk.plan(whole, columns, RISK).estimate.files


# Each would tell by the number of files whether hidden rows are there, or between which values they lie.
PROBES = (
    "n.port_id = 3",
    "n.port_id = 99",
    "n.port_id > 4",
    "n.trade_date = DATE '2031-01-01'",
    "n.desk > 'desk4'",
    "TRUE",
)


def test_what_a_caller_is_told_of_files_does_not_tell_of_hidden_rows(desk: Desk) -> None:
    def told(who: Caller, policies: str) -> set[Estimate]:
        # All read the same columns, whose bytes are no secret.
        sql = "SELECT n.port_id FROM p.nav AS n WHERE concat(n.desk, CAST(n.trade_date AS VARCHAR)) <> '' AND "
        return {desk.plan(sql + probe, "port_id int32", who, policies).told for probe in PROBES}

    filtered = only("port_id IN (:caller.portfolios)", 'except = ["risk"]')
    assert len(told(ALICE, filtered)) == 1
    assert {each.files for each in told(ALICE, filtered)} == {1}
    # What is open to somebody is told as it is: the probes do tell.
    assert {each.files for each in told(RISK, filtered)} == {0, 1}
    assert {each.files for each in told(NOBODY, filtered)} == {0}
    assert {each.files for each in told(Caller("x", claims={"portfolios": (99,)}), filtered)} == {0}


def test_a_refusal_for_a_limit_has_no_figures_of_hidden_rows(desk: Desk) -> None:
    header = '[limits]\nmax_scan = "1B"\nmax_cost = 0.00001'
    said = {}
    for who in (ALICE, RISK):
        with pytest.raises(InvalidRequest) as caught:
            desk.plan("SELECT n.port_id FROM p.nav AS n", "port_id int32", who, header=header)
        assert caught.value.code == "scan-limit"
        said[who.name] = caught.value.message
    assert "would read more than the 1 bytes that it may" in said["alice"]
    assert re.search(r"would read [0-9,]+ bytes and may read 1;", said["carol"])


def test_masks_alone_leave_the_estimate_as_it_is(desk: Desk) -> None:
    mask = '[[mask]]\ntable = "p.nav"\ncolumn = "desk"\nas = "NULL"\n'
    for probe, files in (("n.port_id = 99", 0), ("n.port_id = 3", 1), ("n.desk > 'z'", 1)):
        plan = desk.plan(f"SELECT n.port_id FROM p.nav AS n WHERE {probe}", "port_id int32", ALICE, mask)
        assert (plan.told.files, plan.told == plan.estimate) == (files, True)


def test_terms_about_a_masked_column_prune_no_files(desk: Desk) -> None:
    sql = "SELECT n.port_id FROM p.nav AS n WHERE n.port_id = 99"
    mask = '[[mask]]\ntable = "p.nav"\ncolumn = "port_id"\nas = "99"\n'
    assert desk.plan(sql, "port_id int32", NOBODY, "").estimate.files == 0
    assert desk.plan(sql, "port_id int32", NOBODY, mask).estimate.files == 1
    assert len(desk.ask(sql, "port_id int32", NOBODY, mask)) == len(NAV)


def test_renamed_columns_prune_no_files(desk: Desk) -> None:
    sql = "SELECT x.value AS port_id FROM p.nav AS x(value, trade_date, port_id, desk) WHERE x.port_id > 100"
    assert len(desk.ask(sql, "port_id int32", NOBODY, "")) == len(NAV)
    assert desk.plan(sql, "port_id int32", NOBODY, "").estimate.files == 1
