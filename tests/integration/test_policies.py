"""Row filters and masks on DuckDB: nothing that a query can say sees past them."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from flight_server.errors import DatasetError, EngineFailed, InvalidRequest, ServerError
from flight_server.model import ANONYMOUS, Caller, Claim, Estimate, Request
from flight_server.plan.scan import Tables
from flight_server.tables.catalog import NAME, find_table, open_catalog
from flight_server.tables.locate import locator
from tests.fix_identity import NAV, POLICIES, Desk, Lake

ALICE = Caller("alice", frozenset({"pm"}), {"portfolios": (1, 2)})
RISK = Caller("carol", frozenset({"risk"}))
NOBODY = Caller("dave")
ALL = {1, 2, 3, 4}


def only(where: str, more: str = "") -> str:
    """Policies with one row filter on p.nav."""
    return f'[[row_filter]]\ntable = "p.nav"\nwhere = """{where}"""\n{more}\n'


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n.port_id FROM p.nav AS n",
        "SELECT port_id FROM p.nav",
        "SELECT nav.port_id FROM p.nav",
        'SELECT n."port_id" FROM "p"."nav" AS n',
        "SELECT n.PORT_ID AS port_id FROM P.NAV AS n",
        'SELECT n."PORT_ID" AS port_id FROM "P"."Nav" AS n',
        "SELECT x.a AS port_id FROM p.nav AS x(a, b, c, d)",
        "SELECT c.port_id FROM (SELECT * FROM p.nav) AS c".replace("*", "port_id, value"),
        "WITH w AS (SELECT port_id FROM p.nav) SELECT w.port_id FROM w",
        "WITH nav AS (SELECT port_id FROM p.nav) SELECT nav.port_id FROM nav",
        "WITH p AS (SELECT 1 AS one) SELECT n.port_id FROM p.nav AS n",
        "WITH a AS (SELECT port_id FROM p.nav), b AS (SELECT port_id FROM a) SELECT b.port_id FROM b",
        "SELECT n.port_id FROM p.nav AS n UNION ALL SELECT m.port_id FROM p.nav AS m",
        "SELECT n.port_id FROM p.nav AS n UNION SELECT 1 AS port_id",
        "SELECT n.port_id FROM p.nav AS n INTERSECT SELECT m.port_id FROM p.nav AS m",
        "SELECT n.port_id FROM p.nav AS n WHERE n.port_id = 3 OR TRUE",
        "SELECT n.port_id FROM p.nav AS n WHERE EXISTS (SELECT 1 AS one FROM p.nav AS m WHERE m.port_id = n.port_id)",
        "SELECT n.port_id FROM p.nav AS n WHERE n.port_id IN (SELECT m.port_id FROM p.nav AS m)",
        "SELECT (SELECT MAX(m.port_id) FROM p.nav AS m WHERE m.port_id = n.port_id) AS port_id FROM p.nav AS n",
        "SELECT b.port_id FROM p.open AS o LEFT JOIN p.nav AS b ON TRUE",
        "SELECT b.port_id FROM p.nav AS b RIGHT JOIN p.open AS o ON TRUE",
        "SELECT COALESCE(a.port_id, b.port_id) AS port_id FROM p.nav AS a FULL JOIN p.nav AS b ON TRUE",
        "SELECT port_id FROM p.nav AS a JOIN p.nav AS b USING (port_id)",
        "SELECT port_id FROM p.nav AS a NATURAL JOIN p.nav AS b",
        "SELECT a.port_id FROM p.nav AS a, p.nav AS b",
        "SELECT u.k AS port_id FROM p.nav AS n CROSS JOIN UNNEST(ARRAY[n.port_id]) AS u(k)",
        "SELECT n.port_id FROM p.nav AS n GROUP BY n.port_id HAVING COUNT(*) > 0",
        "SELECT MAX(n.port_id) OVER () AS port_id FROM p.nav AS n",
        "SELECT s.port_id FROM (SELECT n.port_id FROM p.nav AS n ORDER BY n.value DESC LIMIT 1) AS s",
        "SELECT CAST(MAX(n.port_id) AS INTEGER) AS port_id FROM p.nav AS n",
    ],
)
def test_no_query_sees_rows_that_the_filter_hides(desk: Desk, sql: str) -> None:
    policies = only("port_id IN (:caller.portfolios)", 'except = ["risk"]')
    risk, alice, nobody = ({*desk.ask(sql, "port_id int32", who, policies)} for who in (RISK, ALICE, NOBODY))
    assert risk & {3, 4}, "the query is about the rows that are hidden"
    assert alice & {1, 2}
    assert alice <= {1, 2, None}
    assert nobody <= ({1} if "1 AS port_id" in sql else {None})


def test_counts_are_of_the_rows_that_are_seen(desk: Desk) -> None:
    sql = "SELECT COUNT(*) AS n FROM p.nav AS n"
    assert [desk.ask(sql, "n int64", who) for who in (RISK, ALICE, NOBODY, ANONYMOUS)] == [[8], [4], [0], [0]]


def test_going_back_in_time_is_filtered_too(desk: Desk, policed: Lake) -> None:
    with closing(open_catalog(policed.settings())) as catalog:
        made = find_table(catalog, "p.nav").metadata.snapshots[0].timestamp_ms
    as_of = dt.datetime.fromtimestamp(made / 1000 + 1, dt.UTC).isoformat()
    assert {*desk.ask("SELECT n.port_id FROM p.nav AS n", "port_id int32", ALICE, as_of=as_of)} == {1, 2}


def test_a_caller_cannot_drop_the_filter_with_an_optional_parameter(desk: Desk) -> None:
    header = '[params]\nport_id = { type = "int32", optional = true }'
    sql = "SELECT n.port_id FROM p.nav AS n WHERE n.port_id = :port_id"
    assert {*desk.ask(sql, "port_id int32", ALICE, header=header)} == {1, 2}
    assert {*desk.ask(sql, "port_id int32", ALICE, header=header, params={"port_id": 2})} == {2}
    assert desk.ask(sql, "port_id int32", ALICE, header=header, params={"port_id": 3}) == []


def test_a_mask_stands_for_the_column_wherever_it_is_named(desk: Desk) -> None:
    assert {*desk.ask("SELECT n.desk FROM p.nav AS n", "desk string", ALICE)} == {None}
    assert desk.ask("SELECT n.port_id FROM p.nav AS n WHERE n.desk = 'desk1'", "port_id int32", ALICE) == []
    assert {*desk.ask("SELECT n.desk FROM p.nav AS n", "desk string", RISK)} == {f"desk{n}" for n in ALL}


def test_a_filter_sees_the_values_behind_a_mask(desk: Desk) -> None:
    policies = only("desk = :caller.desk") + '[[mask]]\ntable = "p.nav"\ncolumn = "desk"\nas = "\'hidden\'"\n'
    caller = Caller("x", claims={"desk": "desk2"})
    assert desk.ask("SELECT n.port_id, n.desk FROM p.nav AS n", "port_id int32, desk string", caller, policies) == [
        (2, "hidden"),
        (2, "hidden"),
    ]


def test_a_mask_has_the_type_of_its_column(desk: Desk) -> None:
    policies = '[[mask]]\ntable = "p.nav"\ncolumn = "value"\nas = "round(value)"\n'
    plan = desk.plan("SELECT n.value FROM p.nav AS n", "value float64", NOBODY, policies)
    assert 'CAST((ROUND("n"."value")) AS DOUBLE) AS "value"' in plan.bound_sql


def test_several_filters_all_hold_and_each_has_its_own_exemptions(desk: Desk) -> None:
    policies = only("port_id < 4", 'except = ["risk"]') + only("port_id > 1", 'except = ["pm"]')
    seen = {
        who.name: {*desk.ask("SELECT n.port_id FROM p.nav AS n", "port_id int32", who, policies)}
        for who in (ALICE, RISK, NOBODY)
    }
    assert seen == {"alice": {1, 2, 3}, "carol": {2, 3, 4}, "dave": {2, 3}}


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


def test_an_engines_reason_is_withheld_where_policies_hold(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    sql = "SELECT CAST(n.desk AS INTEGER) AS x FROM p.nav AS n"
    with pytest.raises(EngineFailed, match="desk"):
        desk.ask(sql, "x int32", RISK)
    with pytest.raises(EngineFailed) as caught:
        desk.ask(sql, "x int32", ALICE, only("port_id IN (:caller.portfolios)"))
    assert "desk" not in caught.value.message


@pytest.mark.parametrize(
    ("policies", "line", "message"),
    [
        ('[[row_filter]]\ntable = "p.nav"\nwher = "true"', 1, "'where' is missing"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "true"\nexcpet = []', 4, "no key 'excpet'; did you mean 'except'?"),
        ('[[row_filters]]\ntable = "p.nav"', 1, "did you mean 'row_filter'?"),
        ('[[row_filter]]\ntable = "nav"\nwhere = "true"', 2, "write database.table"),
        ('[[row_filter]]\ntable = "p.nv"\nwhere = "true"', 3, "there is no table 'p.nv'"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "prt_id = 1"', 3, "no column 'prt_id'; did you mean 'port_id'?"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "port_id = "', 3, "not an SQL expression"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "true) OR (true"', 3, "not one SQL expression"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "1), (2"', 3, "not one SQL expression"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "1) FROM p.nav WHERE (true"', 3, "not one SQL expression"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "1) UNION SELECT (2"', 3, "not one SQL expression"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "port_id IN (SELECT 1)"', 3, "SUBQUERY is not allowed"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "max(port_id) = 1"', 3, "is not allowed"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "nav.port_id = 1"', 3, "write the column 'port_id' alone"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "port_id = :port"', 3, "only placeholders of a policy"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "port_id = :caller"', 3, "only placeholders of a policy"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "port_id = :caller.a.b"', 3, "only placeholders of a policy"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "random() < 1"', 3, "changes from call to call"),
        ("[[row_filter]]\ntable = \"p.nav\"\nwhere = \"getenv('HOME') = ''\"", 3, "getenv() is not allowed"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "true"\nexcept = ["*"]', 4, "'*' is none of them"),
        ('[[row_filter]]\ntable = "p.nav"\nwhere = "true"\nexcept = "risk"', 4, "'except' must be a list"),
        ('[[mask]]\ntable = "p.nav"\ncolumn = "desc"\nas = "NULL"', 4, "no column 'desc'"),
        (
            '[[mask]]\ntable = "p.nav"\ncolumn = "desk"\nas = "1"\n[[mask]]\ntable = "P.NAV"\n'
            'column = "desk"\nas = "2"',
            7,
            "two",
        ),
        ("row_filter = 1", 1, "write each row_filter as a table"),
        ("[[row_filter]", 1, "not TOML"),
    ],
)
def test_what_is_wrong_in_policies_is_said_with_its_line(desk: Desk, policies: str, line: int, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        desk.plan("SELECT n.port_id FROM p.nav AS n", "port_id int32", NOBODY, policies)
    assert message in caught.value.message
    assert caught.value.line == line
    assert caught.value.path.name == "policies.toml"


def test_a_policy_that_no_longer_fits_its_table_fails_closed(lake_copy: Lake) -> None:
    with lake_copy.serve() as running:
        (lake_copy.folder / "sql" / "policies.toml").write_text(only("trade_date > DATE '2024-01-02'"))
        assert running.reload() == []
        with running.catalog.load_table("p.nav").update_schema() as update:
            update.delete_column("trade_date")
        with pytest.raises(ServerError) as caught:
            running.pipeline.plan(Request("nav"), ALICE)
        assert caught.value.code == "internal"
        assert "2024" not in caught.value.message
        assert [problem.message for problem in running.reload()] == ["p.nav has no column 'trade_date'"]


def test_a_scan_with_more_to_it_than_a_name_is_refused(desk: Desk) -> None:
    with pytest.raises((InvalidRequest, DatasetError)):
        desk.ask("SELECT n.port_id FROM p.nav FOR VERSION AS OF 1 AS n", "port_id int32", ALICE)


class Folding(SqlCatalog):
    """A catalog for which n with a tilde is an n, as one can be that folds names by rules of its own."""

    def load_table(self, identifier: str | Identifier) -> Table:
        return super().load_table(str(identifier).replace("ñ", "n"))


def test_a_name_that_only_the_catalog_takes_for_a_tables_is_no_way_around_its_policies(policed: Lake) -> None:
    catalog = policed.settings().catalog
    with closing(Folding(NAME, uri=catalog.uri, warehouse=catalog.warehouse)) as folding:
        tables = Tables(folding, locator(folding))
        assert tables.pin("p.nav").pin.table == "p.nav"
        by_catalog = Tables(folding, lambda name: folding.load_table(name).metadata_location)
        assert by_catalog.pin("p.nav").pin.table == "p.nav"
        with pytest.raises(ServerError, match="not in the catalog"):
            by_catalog.pin("p.ñav")


def test_rows_written_later_are_filtered_by_the_same_plan_inputs(lake_copy: Lake) -> None:
    with lake_copy.serve() as running:
        before = running.pipeline.plan(Request("nav"), ALICE)
        more = pa.table(
            {"port_id": pa.array([9], pa.int32()), "trade_date": [dt.date(2024, 2, 1)], "value": [1.0], "desk": ["x"]}
        )
        find_table(running.catalog, "p.nav").append(more)
        after = running.pipeline.plan(Request("nav"), ALICE)
        assert before.fingerprint != after.fingerprint
        answer = running.pipeline.answer(after)
        assert {row["port_id"] for batch in answer.batches for row in batch.to_pylist()} == {1, 2}
        answer.execution.close()


FAILING = [
    "chr(CASE WHEN n.port_id > 2 THEN -1 ELSE 65 END) <> 'q'",
    "cardinality(filter(ARRAY[2], x -> x * (CASE WHEN n.value > 300 THEN 9223372036854775807 ELSE 1 END) > 0)) < 9",
]
ODD_FILTER = POLICIES.replace("port_id IN (:caller.portfolios)", "port_id IN (:caller.portfolios) OR lower(desk) = 'x'")


@pytest.mark.parametrize("term", FAILING)
@pytest.mark.parametrize(
    "around",
    [
        "SELECT n.port_id FROM p.nav AS n WHERE {term}",
        "SELECT n.port_id FROM p.nav AS n WHERE n.port_id > 0 AND {term} AND n.trade_date >= DATE '2024-01-02'",
        "SELECT s.port_id FROM (SELECT n.port_id, {term} AS k FROM p.nav AS n) AS s WHERE s.k",
        "WITH w AS (SELECT value, port_id FROM p.nav) SELECT n.port_id FROM w AS n JOIN p.nav AS m ON m.port_id = n.port_id AND {term}",
    ],
)
def test_a_term_that_fails_at_hidden_rows_only_does_not_fail(desk: Desk, around: str, term: str) -> None:
    columns, sql = "port_id int32", around.format(term=term)
    with pytest.raises(EngineFailed):
        desk.ask(sql, columns, RISK, ODD_FILTER)
    assert set(desk.ask(sql, columns, ALICE, ODD_FILTER)) == {1, 2}


@pytest.mark.parametrize(
    ("where", "needed"),
    [
        ("n.value > 150", False),
        ("n.port_id IN (1, 2) OR n.desk LIKE 'd%' AND n.desk IS NOT NULL", False),
        ("n.trade_date >= DATE '2024-01-02' AND lower(n.desk) = 'x' AND coalesce(n.desk, 'y') <> 'z'", False),
        ("n.value > 1 + 2", False),
        ("n.port_id = 1.5", False),
        ("n.port_id = 1.50000000000000000000000000001", True),
        ("n.port_id + 1 > 2", True),
        ("CAST(n.desk AS INTEGER) = 1", True),
        ("CASE n.port_id WHEN 1 THEN TRUE END", True),
        ("n.desk = n.port_id", True),
        ("n.desk LIKE n.desk", True),
        ("EXISTS (SELECT 1 FROM p.nav AS m WHERE m.value / 2 > n.value)", True),
    ],
)
def test_only_what_can_fail_costs_a_barrier(desk: Desk, where: str, needed: bool) -> None:
    plan = desk.plan(f"SELECT n.port_id FROM p.nav AS n WHERE {where}", "port_id int32", ALICE)
    assert ("$admitted" in plan.sql) is needed


def test_plain_terms_are_repeated_within_a_barrier_for_the_engine_to_skip_files(desk: Desk) -> None:
    where = "n.trade_date >= DATE '2024-01-03' AND n.port_id + 1 > 0 AND n.desk = 'desk1' AND n.value IS NULL"
    plan = desk.plan(f"SELECT n.port_id FROM p.nav AS n WHERE {where}", "port_id int32", ALICE)
    inner = plan.bound_sql.partition('AS "$admitted" FROM')[2].partition(') AS "n"')[0]
    # Not the one about a masked column, nor one that holds for a null.
    assert inner.endswith("""WHERE ("n"."trade_date" >= CAST('2024-01-03' AS DATE))""")


def test_what_a_caller_is_told_does_not_tell_of_terms_within_a_barrier(desk: Desk) -> None:
    told = {
        desk.plan(
            f"SELECT n.port_id FROM p.nav AS n WHERE n.value + 1 > 0 AND n.port_id = {port}", "port_id int32", ALICE
        ).told
        for port in (1, 3, 99)
    }
    assert len(told) == 1
