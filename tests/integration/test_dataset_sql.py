"""Every dataset's SQL, translated to DuckDB and run over in-memory tables, against the oracle and its own test file.

The harness at the bottom binds and translates with a few lines of sqlglot, so that these tests judge the SQL alone and
not the pipeline that serves it.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from tests.frames import SCHEMAS, Tables, hostile_tables, real_tables
from tests.oracle import EXPECTED, assert_equal, expected_materialized_value

SQL = Path(__file__).parents[2] / "sql"
NAMES = sorted(path.stem for path in SQL.glob("*.sql"))
Params = Mapping[str, Any]

REAL: list[tuple[str, Params]] = [
    ("daily_prices", {"ticker": "AAPL", "start_date": date(2010, 1, 4), "end_date": date(2010, 1, 29)}),
    ("daily_prices", {"ticker": "FB", "start_date": date(2000, 1, 1)}),
    ("aggregate_stats", {"tickers": ["AAPL", "IBM"], "start_date": date(2010, 1, 4)}),
    ("aggregate_stats", {"tickers": ["MSFT", "GOOG", "FB", "KRX-GEN1"], "start_date": date(2000, 1, 1)}),
    ("portfolio_perf", {"port_id": 1, "start_date": date(2000, 1, 1)}),
    ("portfolio_perf", {"port_id": 2, "start_date": date(2012, 1, 3)}),
    ("cross_market", {"us_ticker": "AAPL", "kr_ticker": "KRX-GEN1", "start_date": date(2012, 1, 3)}),
    ("cross_market", {"us_ticker": "IBM", "kr_ticker": "KRX-GEN2", "start_date": date(2000, 1, 1)}),
    ("price_history", {"meta_ids": [1, 4, 5], "start_date": date(2010, 1, 4), "end_date": date(2010, 1, 29)}),
    ("price_history", {"meta_ids": [2, 3], "start_date": date(2011, 1, 1)}),
    ("returns", {"meta_ids": [1, 4, 5], "start_date": date(2010, 1, 4), "end_date": date(2010, 1, 29)}),
    ("returns", {"meta_ids": [1, 2, 3, 4, 5], "start_date": date(2000, 1, 1)}),
    ("basket_value", {"weights": {1: 0.6, 5: 0.4}, "start_date": date(2010, 1, 4), "end_date": date(2010, 1, 29)}),
    ("basket_value", {"weights": {1: 1.0, 2: -3.5, 3: 0.1}, "start_date": date(2000, 1, 1)}),
    ("performance_metrics", {"port_id": 1, "start_date": date(2011, 1, 3), "end_date": date(2012, 12, 31)}),
    ("performance_metrics", {"port_id": 2, "start_date": date(2000, 1, 1), "risk_free_rate": 0.03}),
    ("daily_portfolio_value", {"port_id": 1}),
    ("daily_portfolio_value", {"port_id": 1, "start_date": date(2012, 1, 3), "end_date": date(2012, 12, 31)}),
]

_DAYS: list[Params] = [
    {"start_date": date(2022, 1, 1)},
    {"start_date": date(2024, 1, 20)},
    {"start_date": date(2024, 1, 20), "end_date": date(2024, 3, 5)},
    {"start_date": date(2024, 2, 10), "end_date": date(2024, 2, 10)},
    {"start_date": date(2030, 1, 1)},
]
_OPEN: list[Params] = [days for days in _DAYS if "end_date" not in days]
_HOSTILE: dict[str, tuple[list[Params], list[Params]]] = {
    "daily_prices": ([{"ticker": t} for t in ("AAA", "BBB", "ONE", "NIL", "NUL", "KRX-A", "' OR '1'='1")], _DAYS),
    "aggregate_stats": ([{"tickers": ["ONE", "NUL", "BBB", "AAA", "NIL", "OLD"]}, {"tickers": ["BBB"]}], _OPEN),
    "portfolio_perf": ([{"port_id": i} for i in (1, 2, 3, 4, 5, 6)], _OPEN),
    "cross_market": (
        [{"us_ticker": u, "kr_ticker": k} for u in ("AAA", "BBB", "ONE", "NIL") for k in ("KRX-A", "KRX-B", "NIL")],
        _OPEN,
    ),
    "price_history": ([{"meta_ids": [2, 1, 6]}, {"meta_ids": [5]}], _DAYS),
    "returns": ([{"meta_ids": [1, 2, 3, 6]}, {"meta_ids": [2]}, {"meta_ids": [5]}], _DAYS),
    "basket_value": ([{"weights": {1: 2.0, 2: 0.5}}, {"weights": {2: -1.0}}, {"weights": {1: 1.0, 5: 1.0}}], _DAYS),
    "performance_metrics": (
        [{"port_id": i, "risk_free_rate": r} for i in (1, 2, 3, 4, 5, 6) for r in (0.0, 0.02)],
        _DAYS,
    ),
    "daily_portfolio_value": ([{"port_id": 1}, {"port_id": 6}], [*_DAYS, {}, {"end_date": date(2024, 2, 1)}]),
}
HOSTILE: list[tuple[str, Params]] = [
    (name, {**what, **days})
    for name, (whats, dayss) in _HOSTILE.items()
    for what, days in itertools.product(whats, dayss)
]


@dataclass(frozen=True)
class Engine:
    """The tables twice: as frames for the oracle and loaded into DuckDB."""

    tables: Tables
    connection: duckdb.DuckDBPyConnection

    def ask(self, name: str, params: Params) -> pa.Table:
        return self.connection.sql(translated(SQL / f"{name}.sql", params)).to_arrow_table()


@pytest.fixture(scope="module")
def real() -> Iterator[Engine]:
    yield from loaded(real_tables())


@pytest.fixture(scope="module")
def hostile() -> Iterator[Engine]:
    yield from loaded(hostile_tables())


def test_there_is_an_oracle_for_every_dataset() -> None:
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize(("name", "params"), REAL)
def test_real_prices_give_what_the_oracle_says(real: Engine, name: str, params: Params) -> None:
    expected = EXPECTED[name](real.tables, **params)
    assert expected.height > 0
    assert_equal(real.ask(name, params), expected)


@pytest.mark.parametrize(("name", "params"), HOSTILE)
def test_hostile_tables_give_what_the_oracle_says(hostile: Engine, name: str, params: Params) -> None:
    assert_equal(hostile.ask(name, params), EXPECTED[name](hostile.tables, **params))


def test_hostile_questions_are_mostly_not_empty(hostile: Engine) -> None:
    answered = {name for name, params in HOSTILE if EXPECTED[name](hostile.tables, **params).height > 1}
    assert answered == set(NAMES) - {"performance_metrics"}


@pytest.mark.parametrize("name", NAMES)
def test_example_of_the_contract_has_rows(real: Engine, name: str) -> None:
    params = {key: _from_toml(key, spec["example"]) for key, spec in contract(name)["params"].items()}
    expected = EXPECTED[name](real.tables, **params)
    assert expected.height > 0
    assert_equal(real.ask(name, params), expected)


@pytest.mark.parametrize("name", NAMES)
def test_result_has_the_columns_types_key_and_order_of_the_contract(hostile: Engine, name: str) -> None:
    header = contract(name)
    asked = [params for other, params in HOSTILE if other == name]
    for table in [hostile.ask(name, params) for params in asked]:
        declared = {column: spec["type"].replace("date", "date32[day]") for column, spec in header["columns"].items()}
        names = {"float32": "float", "float64": "double"}
        assert dict(zip(table.column_names, map(str, table.schema.types), strict=True)) == {
            column: names.get(kind, kind) for column, kind in declared.items()
        }
        for column, spec in header["columns"].items():
            assert spec.get("null", True) or table.column(column).null_count == 0
        rows = table.to_pylist()
        assert len({tuple(row[k] for k in header["key"]) for row in rows}) == len(rows)
        order = [tuple(row[k] for k in header["sorted"]) for row in rows]
        assert order == sorted(order)


@pytest.mark.parametrize("tables", ["real", "hostile"])
def test_materialized_query_gives_what_the_oracle_says(tables: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(tables)
    source = SQL / contract("daily_portfolio_value")["materialize"]["query"]
    actual = engine.connection.sql(translated(source, {})).to_arrow_table()
    assert actual.num_rows > 0
    assert_equal(actual, expected_materialized_value(engine.tables))


def test_case_of_every_test_file() -> None:
    """Cases of errors and of files read need the pipeline, and are run by it."""
    ran = 0
    for name in NAMES:
        suite = tomllib.loads((SQL / f"{name}.test.toml").read_text())
        for engine in loaded(_inputs(suite["inputs"])):
            for case in suite["case"]:
                if "error" in case or "rows" not in case:
                    continue
                params = {key: _from_toml(key, value) for key, value in case["params"].items()}
                _assert_case(name, case, engine.ask(name, params).to_pylist())
                ran += 1
    assert ran > 3 * len(NAMES)


def _assert_case(name: str, case: Params, rows: list[dict[str, Any]]) -> None:
    # Columns that no expected row names are not compared; a column that others name and a row does not is null there.
    columns = sorted({column for row in case["rows"] for column in row})
    where = f"{name}: {case['name']}"
    assert len(rows) == len(case["rows"]), where
    for number, (got, want) in enumerate(zip(rows, case["rows"], strict=True)):
        for column in columns:
            value, expected = got[column], want.get(column)
            same = value == expected
            if "approx" in case and isinstance(value, float) and isinstance(expected, float):
                same = math.isclose(value, expected, rel_tol=case["approx"], abs_tol=case["approx"])
            assert same, f"{where}: {column}[{number}]: got {value!r}, expected {expected!r}"


def _inputs(inputs: Mapping[str, Params]) -> Tables:
    tables: Tables = {}
    for name, schema in SCHEMAS.items():
        given = inputs.get(name, {"rows": []})
        if "csv" in given:
            tables[name] = pl.read_csv(SQL / given["csv"], schema=schema, try_parse_dates=True)
        else:
            rows = [tuple(row.get(column) for column in schema) for row in given["rows"]]
            tables[name] = pl.DataFrame(rows, schema=schema, orient="row")
    assert inputs.keys() <= tables.keys()
    return tables


# --- the harness


def contract(name: str) -> dict[str, Any]:
    lines = (SQL / f"{name}.sql").read_text().splitlines()
    return tomllib.loads("\n".join(line[3:] for line in lines[1 : lines.index("-- ///")]))


def translated(path: Path, params: Params) -> str:
    """The query in DuckDB's dialect with `params` as literals, defaults filled in and absent optional terms dropped."""
    text = path.read_text()
    header = contract(path.stem) if text.startswith("-- /// dataset\n") else {"params": {}}
    tree = sqlglot.parse_one(text.split("-- ///\n")[-1], read="athena")
    for placeholder in list(tree.find_all(exp.Placeholder)):
        spec = header["params"][placeholder.name]
        value = params.get(placeholder.name, spec.get("default"))
        if value is None:
            assert spec["optional"]
            term = placeholder.parent
            assert isinstance(term, exp.Predicate)
            term.replace(exp.true())
        elif isinstance(value, dict):
            _replace_unnest(placeholder, value)
        elif isinstance(value, list):
            term = placeholder.parent
            assert isinstance(term, exp.In)
            term.set("expressions", [_literal(item) for item in value])
        else:
            placeholder.replace(_literal(value))
    return tree.sql("duckdb")


def _replace_unnest(placeholder: exp.Placeholder, value: Mapping[int, float]) -> None:
    unnest = placeholder.parent
    assert isinstance(unnest, exp.Unnest)
    key, item = unnest.args["alias"].columns
    rows = exp.select(
        exp.alias_(exp.Explode(this=exp.array(*map(_literal, value))), key),
        exp.alias_(exp.Explode(this=exp.array(*map(_literal, value.values()))), item),
    )
    unnest.replace(rows.subquery(unnest.alias))


def _literal(value: object) -> exp.Expr:
    if isinstance(value, float):
        return exp.cast(exp.Literal.number(repr(value)), "double")
    if isinstance(value, date):
        return exp.cast(exp.Literal.string(value.isoformat()), "date")
    assert isinstance(value, int | str)
    return exp.convert(value)


def loaded(tables: Tables) -> Iterator[Engine]:
    with duckdb.connect() as connection:
        for name, frame in tables.items():
            connection.sql(f"CREATE SCHEMA IF NOT EXISTS {name.split('.')[0]}")
            connection.register("incoming", frame.to_arrow())
            connection.sql(f"CREATE TABLE {name} AS SELECT * FROM incoming")
            connection.unregister("incoming")
        yield Engine(tables, connection)


def _from_toml(name: str, value: Any) -> Any:
    return {int(key): item for key, item in value.items()} if name == "weights" else value
