"""Row filters and masks on DuckDB: nothing that a query can say sees past them."""

from __future__ import annotations

import datetime as dt
from contextlib import closing

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from flight_server.errors import DatasetError, InvalidRequest, ServerError
from flight_server.model import ANONYMOUS, Caller, Request
from flight_server.plan.scan import Tables
from flight_server.tables.catalog import NAME, find_table, open_catalog
from flight_server.tables.locate import locator
from tests.fix_identity import Desk, Lake
from tests.policies import ALICE, ALL, NOBODY, RISK, only


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
