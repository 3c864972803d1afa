"""Generated SELECTs over a guarded table give what they give over a table that holds only what the caller may see.

The second table is the oracle: the same rows, filtered and masked when it was filled, under no policy. Whatever shape
a statement has, the two must not differ, neither in rows nor in the way it fails.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog

from flight_server import server
from flight_server.errors import EngineFailed, InvalidRequest
from flight_server.model import Caller, Request
from flight_server.pipeline import Pipeline
from flight_server.tables.catalog import create_table, find_table, open_catalog
from flight_server.tables.ddl import parse
from tests.fix_identity import TABLES, Lake, dataset_text, make_lake

ALICE = Caller("alice", frozenset({"pm"}), {"portfolios": (1, 2)})
BOB = Caller("bob", frozenset({"pm"}), {"portfolios": ("3",)})
NOBODY = Caller("zoe", frozenset({"pm"}))
SEEN = {"alice": {1, 2}, "bob": {3}, "zoe": set[int]()}
# Two commits, so that a moment between them shows fewer rows.
ROWS = [
    [(port, dt.date(2024, 1, day), port * 100.0 + day, f"desk{port}") for port in (1, 2, 3, 4) for day in (2, 3)],
    [(port, dt.date(2024, 2, 1), port * 10.0, None if port == 2 else "moved") for port in (1, 2, 3, 4)],
]
POLICIES = """\
[[row_filter]]
table  = "p.nav"
where  = "port_id IN (:caller.portfolios)"

[[mask]]
table  = "p.nav"
column = "desk"
as     = "CASE WHEN trade_date < DATE '2024-01-03' THEN desk END"
"""
CALL = (
    'title = "NAV"\n[params]\nport_id = { type = "int32", optional = true }\n'
    '[columns]\nport_id = { type = "int32" }\ntrade_date = { type = "date" }\nvalue = { type = "float64" }\n'
    'desk = { type = "string" }',
    "WITH nav AS (SELECT n.port_id, n.trade_date, n.value, n.desk FROM p.{} AS n) "
    "SELECT n.port_id, n.trade_date, n.value, n.desk FROM nav AS n WHERE n.port_id = :port_id",
)


@dataclass
class Twins:
    """One pipeline over the guarded table and the oracles' tables."""

    pipeline: Pipeline
    between: str

    def ask(self, sql: str, who: Caller, as_of: str | None) -> Counter[str] | str:
        """The rows as a multiset, or the code of the error."""
        try:
            plan = self.pipeline.plan(Request("", sql=sql, as_of=as_of), who)
            answer = self.pipeline.answer(plan)
            try:
                table = pa.Table.from_batches(answer.batches, plan.dataset.schema)
            finally:
                answer.execution.close()
        except (InvalidRequest, EngineFailed) as error:
            return error.code
        return Counter(repr(row) for row in table.to_pylist())


def fill(catalog: Catalog, lake: Lake) -> dt.datetime:
    """The oracles' tables, both commits of all tables, and a moment between the commits."""
    for name in SEEN:
        text = f"CREATE TABLE p.{name} ({TABLES['nav']}) TBLPROPERTIES ('table_type'='ICEBERG')"
        create_table(catalog, parse(f"-- /// table\n-- ///\n{text}", Path(f"p.{name}.sql")))
    moments: list[int] = []
    for rows in ROWS:
        for name, ports in {"nav": {1, 2, 3, 4}, **SEEN}.items():
            table = find_table(catalog, f"p.{name}")
            if name == "nav" and not moments:
                continue
            kept = [row for row in rows if row[0] in ports]
            if name != "nav":
                kept = [(*row[:3], row[3] if row[1] < dt.date(2024, 1, 3) else None) for row in kept]
            columns = zip(*kept, strict=True) if kept else ([], [], [], [])
            schema = table.schema().as_arrow()
            table.append(
                pa.Table.from_arrays(
                    [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
                )
            )
            moments.append(find_table(catalog, f"p.{name}").metadata.last_updated_ms)
    return dt.datetime.fromtimestamp(moments[len(SEEN) - 1] / 1000, dt.UTC) + dt.timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    lake = make_lake(tmp_path_factory.mktemp("twins"))
    for name in ("nav", *SEEN):
        (lake.folder / "sql" / f"{name}.sql").write_text(dataset_text(CALL[0], CALL[1].format(name)))
    (lake.folder / "sql" / "policies.toml").write_text(POLICIES)
    found = lake.settings()
    with ExitStack() as stack:
        catalog = stack.enter_context(closing(open_catalog(found)))
        between = fill(catalog, lake)
        engines = server.build_engines(found, catalog)
        for engine in engines.values():
            stack.callback(engine.close)
        registry, errors = server.load_datasets(found.datasets.directory)
        assert not errors
        yield Twins(server.build_pipeline(found, catalog, engines, registry), between.isoformat())


COLUMNS = ("port_id", "trade_date", "value", "desk")
# `@` is the table, in both of its roles; what is drawn is the same text for both.
SCANS = ("p.@", '"p"."@"', "P.@", 'athena_flight."P".@', "@()", '"@"()', "datasets.@(port_id => 3)", "@(1)")
ALIASES = ("n", '"N"', "nav", "p", "desk", '"a ""b"', "alice", "Port_Id")
CONDITIONS = (
    "{a}.port_id = 3 OR TRUE",
    "{a}.port_id IN (1, 3, 4)",
    "{a}.port_id NOT IN (1)",
    "{a}.value > 150",
    "{a}.desk IS NOT NULL",
    "{a}.desk LIKE 'desk%' OR {a}.desk IS NULL",
    "{a}.trade_date >= DATE '2024-01-03'",
    "NOT ({a}.port_id BETWEEN 2 AND 3)",
    "coalesce({a}.desk, 'x') <> 'desk4'",
    "({a}.port_id, {a}.value) IN (SELECT q.port_id, q.value FROM {scan} AS q)",
    "EXISTS (SELECT 1 FROM {scan} AS q WHERE q.port_id > {a}.port_id)",
    "{a}.port_id = (SELECT max(q.port_id) FROM {scan} AS q WHERE q.port_id <= {a}.port_id)",
    "{a}.value >= ALL (SELECT q.value FROM {scan} AS q WHERE q.port_id = {a}.port_id)",
    "any_match(ARRAY[3, 4], x -> x = {a}.port_id)",
    # These fail at rows that some callers do not see.
    "{a}.port_id * 715827882 > 0",
    "chr(40 - {a}.port_id * 20) <> 'x'",
    "{a}.value / 2 > 50 AND {a}.trade_date >= DATE '2024-01-03' AND {a}.port_id < 4",
)
JOINS = (
    "JOIN {source} ON {a}.port_id = {b}.port_id",
    "LEFT JOIN {source} ON {a}.port_id < {b}.port_id",
    "RIGHT JOIN {source} ON {a}.port_id = {b}.port_id AND {a}.desk = {b}.desk",
    "FULL JOIN {source} ON {a}.value = {b}.value",
    "CROSS JOIN {source}",
    "JOIN {source} USING (port_id)",
    "NATURAL JOIN {source}",
    ", {source}",
)
ITEMS = (
    "{a}.port_id",
    '{a}."PORT_ID" AS k',
    "{a}.desk",
    "{a}.value * 2 AS twice",
    "row_number() OVER (ORDER BY {a}.port_id, {a}.value) AS r",
    "max({a}.port_id) OVER () AS top",
    "count(*) OVER (PARTITION BY {a}.desk) AS peers",
    "lead({a}.port_id) OVER (ORDER BY {a}.value, {a}.port_id) AS next_one",
    "(SELECT count(*) FROM {scan} AS q) AS all_of_them",
    "(SELECT max(q.desk) FROM {scan} AS q WHERE q.port_id = {a}.port_id) AS its_desk",
    "CASE WHEN {a}.port_id IN (SELECT q.port_id FROM {scan} AS q WHERE q.port_id > 2) THEN 'big' END AS size",
)
TOTALS = (
    "count(*) AS n",
    "count(DISTINCT {a}.desk) AS desks",
    "sum({a}.value) AS total",
    "max({a}.port_id) AS top",
    "max_by({a}.desk, {a}.value) AS best",
    "count(*) FILTER (WHERE {a}.port_id > 2) AS big",
    "array_sort(array_agg({a}.port_id)) AS ports",
)


@st.composite
def sources(draw: Any, depth: int, ctes: tuple[str, ...]) -> tuple[str, str]:
    """Something to stand in FROM, and its alias."""
    alias = draw(st.sampled_from(ALIASES))
    kinds = ["scan"] * 3 + (["query"] if depth else []) + (["cte"] if ctes else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "query":
        return f"({draw(plain(depth - 1, ctes))}) AS {alias}", alias
    name = draw(st.sampled_from(ctes if kind == "cte" else SCANS))
    return f"{name} AS {alias}", alias


@st.composite
def filled(draw: Any, template: str, alias: str) -> str:
    return template.replace("{a}", alias).replace("{scan}", draw(st.sampled_from(SCANS)))


@st.composite
def plain(draw: Any, depth: int, ctes: tuple[str, ...] = ()) -> str:
    """A SELECT of the four columns."""
    source, alias = draw(sources(depth, ctes))
    where = draw(filled(draw(st.sampled_from(CONDITIONS)), alias))
    whole = draw(st.sampled_from(("*", f"{alias}.*", ", ".join(f"{alias}.{column}" for column in COLUMNS))))
    query = f"SELECT {whole} FROM {source}" + draw(st.sampled_from(("", f" WHERE {where}")))
    if depth and draw(st.booleans()):
        operator = draw(st.sampled_from(("UNION ALL", "UNION", "INTERSECT", "EXCEPT")))
        query = f"{query} {operator} {draw(plain(depth - 1, ctes))}"
    return query


@st.composite
def statements(draw: Any) -> str:
    """A whole statement: CTEs, joins, totals or windows, over all of the above."""
    ctes: tuple[str, ...] = ()
    texts = []
    for name in draw(st.lists(st.sampled_from(("nav", "w", '"P"', "alice", "zoe")), max_size=2, unique=True)):
        texts.append(f"{name} AS ({draw(plain(1, ctes))})")
        ctes = (*ctes, name)
    source, alias = draw(sources(2, ctes))
    others = ""
    if draw(st.booleans()):
        other, its_alias = draw(sources(1, ctes))
        join = draw(st.sampled_from(JOINS))
        others = " " + join.replace("{source}", other).replace("{a}", alias).replace("{b}", its_alias)
    where = draw(filled(draw(st.sampled_from(CONDITIONS)), alias))
    tail = draw(st.sampled_from(("", f" WHERE {where}")))
    items = draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        items = draw(st.lists(st.sampled_from(TOTALS), min_size=1, max_size=3, unique=True))
        tail += draw(st.sampled_from(("", f" GROUP BY {alias}.desk", f" GROUP BY {alias}.port_id HAVING count(*) > 1")))
    selected = ", ".join(draw(filled(item, alias)) for item in items)
    head = f"WITH {', '.join(texts)} " if texts else ""
    return f"{head}SELECT {selected} FROM {source}{others}{tail}"


# What a grammar of plain SQL does not reach.
ODD = (
    "(TABLE p.@)",
    "SELECT * FROM (TABLE p.@)",
    "SELECT * FROM (FROM p.@)",
    "SELECT * EXCEPT (desk) FROM p.@",
    "SELECT * REPLACE (9 AS desk) FROM p.@",
    "SELECT p.@.port_id FROM p.@",
    'SELECT "n"."PORT_ID" FROM p.@ AS "N"',
    "WITH p AS (SELECT 1 AS one) SELECT p.one, n.port_id FROM p, p.@ AS n",
    "WITH @ AS (SELECT 7 AS port_id) SELECT port_id FROM p.@",
    "WITH @ AS (SELECT 7 AS port_id) SELECT port_id FROM @()",
    "WITH @ AS (SELECT * FROM @()) SELECT * FROM @",
    "WITH a AS (WITH @ AS (SELECT port_id FROM p.@) SELECT * FROM @) SELECT * FROM a",
    "WITH RECURSIVE @(k) AS (SELECT port_id FROM p.@ UNION ALL SELECT k + 1 FROM @ WHERE k < 3) SELECT k FROM @",
    "WITH RECURSIVE p AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM p WHERE k < 3) SELECT k, port_id FROM p, p.@",
    "SELECT port_id FROM (p.@ CROSS JOIN p.open)",
    "SELECT port_id FROM (p.@ JOIN p.open ON true) AS q",
    "SELECT a.port_id FROM p.open LEFT JOIN (p.@ AS a JOIN p.@ AS b ON a.port_id = b.port_id) ON true",
    "SELECT k FROM UNNEST((SELECT array_agg(port_id) FROM p.@)) AS t(k)",
    "SELECT port_id FROM UNNEST(ARRAY(SELECT port_id FROM p.@)) AS t(port_id)",
    "SELECT u.k FROM p.@ AS n CROSS JOIN UNNEST(ARRAY[n.port_id, n.port_id + 10]) AS u(k)",
    "SELECT * FROM (VALUES ((SELECT max(port_id) FROM p.@)))",
    "SELECT x, x IN (SELECT port_id FROM p.@) AS there FROM (VALUES (1), (3), (4)) AS v(x)",
    "SELECT 1 = ANY (SELECT port_id FROM p.@) AS x",
    "SELECT transform(array_sort(array_agg(port_id)), x -> x + 1) AS x FROM p.@",
    "SELECT reduce(array_sort(array_agg(port_id)), 0, (s, x) -> s + x, s -> s) AS x FROM p.@",
    "SELECT ROW(n.port_id, n.desk) AS x FROM p.@ AS n",
    "SELECT count(*) AS n FROM p.@ GROUP BY GROUPING SETS ((port_id), (desk), ())",
    "SELECT count(*) AS n FROM p.@ GROUP BY CUBE (port_id, desk)",
    "SELECT sum(value) OVER w AS x FROM p.@ WINDOW w AS (PARTITION BY desk ORDER BY port_id, value)",
    "SELECT port_id FROM p.@ ORDER BY (SELECT max(q.port_id) FROM p.@ AS q) - port_id, value LIMIT 3",
    "SELECT port_id FROM p.@ EXCEPT ALL SELECT 1",
    "SELECT DISTINCT ON (port_id) port_id FROM p.@",
    "SELECT a.port_id FROM p.@ AS a SEMI JOIN p.@ AS b ON a.port_id = b.port_id",
    "SELECT a.port_id FROM p.@ AS a ANTI JOIN p.@ AS b ON a.desk = b.desk",
    "SELECT x.port_id FROM p.@ AS x(trade_date, port_id, desk, value)",
    "SELECT desk.port_id, desk.desk FROM p.@ AS desk",
    "SELECT CASE WHEN (SELECT count(*) FROM p.@ WHERE port_id = 1) > 0 THEN 1 / 0 ELSE 1 END AS x",
    'SELECT a.desk FROM "@"(3) AS a UNION SELECT b.desk FROM @(port_id => 1) AS b',
)


@pytest.mark.parametrize("sql", ODD)
def test_so_do_odd_statements(twins: Twins, sql: str) -> None:
    for who in (ALICE, BOB, NOBODY):
        guarded, seen = compared(twins, sql, who, back=False)
        assert guarded == seen
    # The tables differ enough for that to mean something, and the statement is not merely refused.
    assert twins.ask(sql.replace("@", "nav"), ALICE, None) != twins.ask(sql.replace("@", "zoe"), NOBODY, None)


def compared(twins: Twins, sql: str, who: Caller, back: bool) -> tuple[object, object]:
    as_of = twins.between if back else None
    return (
        twins.ask(sql.replace("@", "nav"), who, as_of),
        twins.ask(sql.replace("@", who.name), Caller("oracle", frozenset({"pm"})), as_of),
    )


@settings(max_examples=150)
@given(sql=statements(), who=st.sampled_from((ALICE, BOB, NOBODY)), back=st.booleans())
def test_a_guarded_table_is_the_table_of_what_is_seen(twins: Twins, sql: str, who: Caller, back: bool) -> None:
    guarded, seen = compared(twins, sql, who, back)
    assert guarded == seen


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(max_examples=3000)
@given(sql=statements(), who=st.sampled_from((ALICE, BOB, NOBODY)), back=st.booleans())
def test_three_thousand_statements(twins: Twins, sql: str, who: Caller, back: bool) -> None:
    guarded, seen = compared(twins, sql, who, back)
    assert guarded == seen


def test_the_oracle_can_tell(twins: Twins) -> None:
    """Both moments have rows to hide, and most of what is generated runs."""
    everything = Caller("oracle", frozenset({"pm"}))
    for back, count in ((True, 4), (False, 6)):
        assert sum(compared(twins, "SELECT * FROM p.@", ALICE, back)[0].values()) == count  # type: ignore[attr-defined]
    assert twins.ask("SELECT * FROM p.alice", everything, None) != twins.ask("SELECT * FROM p.bob", everything, None)
