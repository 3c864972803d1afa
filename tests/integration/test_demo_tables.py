"""The demo tables against the source's own figures and against the rules, computed once more by plain loops."""

from __future__ import annotations

import math
import statistics
import sys
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bokeh_sampledata import stocks
from pyiceberg.catalog import Catalog

from flight_server.errors import TableError, to_install
from flight_server.tables import demo, demo_prices
from flight_server.tables.catalog import create_table, find_table
from flight_server.tables.ddl import read_all
from tests.fix_tables import DDL

Rows = list[dict[str, Any]]


def rows(catalog: Catalog, name: str) -> Rows:
    return list(find_table(catalog, name).scan().to_arrow().to_pylist())


def by(found: Rows, *keys: str) -> dict[Any, dict[str, Any]]:
    """The rows by the values of `keys`, which are unique."""
    answer = {tuple(row[key] for key in keys): row for row in found}
    assert len(answer) == len(found)
    return answer


def test_apple_closed_at_214_01(demo_catalog: Catalog) -> None:
    prices = by(rows(demo_catalog, "market_data.us_stocks_price"), "meta_id", "trade_date")
    assert prices[1, date(2010, 1, 4)]["close"] == pytest.approx(214.01, abs=1e-5)


def test_us_prices_are_the_sources(demo_catalog: Catalog) -> None:
    prices = by(rows(demo_catalog, "market_data.us_stocks_price"), "meta_id", "trade_date")
    seen = 0
    for meta_id, ticker in enumerate(("AAPL", "FB", "GOOG", "IBM", "MSFT"), start=1):
        source = getattr(stocks, ticker)
        before = math.nan
        for text, close, adj_close in zip(source["date"], source["close"], source["adj_close"], strict=True):
            row = prices[meta_id, date.fromisoformat(text)]
            assert row["close"] == pytest.approx(close, rel=1e-6)
            assert row["adj_close"] == pytest.approx(adj_close, rel=1e-6)
            if math.isnan(before):
                assert row["gross_return"] is None
            else:
                assert row["gross_return"] == pytest.approx(adj_close / before - 1, rel=1e-5, abs=1e-9)
            before = adj_close
            seen += 1
    assert seen == len(prices)


def test_stocks_are_named_and_generated_ones_say_so(demo_catalog: Catalog) -> None:
    found = by(rows(demo_catalog, "reference.tb_meta"), "meta_id")
    assert [found[(meta_id,)]["ticker"] for meta_id in range(1, 6)] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert [found[(meta_id,)]["name"] for meta_id in range(101, 106)] == [
        f"Generated series {number} (not real)" for number in range(1, 6)
    ]
    assert all(row["sector"] for row in found.values())


def test_each_market_trades_on_days_when_the_other_does_not(demo_catalog: Catalog) -> None:
    us = {row["trade_date"] for row in rows(demo_catalog, "market_data.us_stocks_price")}
    kr = {row["trade_date"] for row in rows(demo_catalog, "market_data.kr_stocks_price")}
    assert date(2012, 7, 4) in kr - us
    assert date(2012, 6, 6) in us - kr
    assert min(len(us & kr) // 100, len(us - kr), len(kr - us)) > 20


def test_generated_prices_are_the_same_everywhere(demo_catalog: Catalog) -> None:
    prices = by(rows(demo_catalog, "market_data.kr_stocks_price"), "meta_id", "trade_date")
    # Written down from one machine: another value elsewhere would make two demos differ.
    last = [prices[meta_id, date(2013, 2, 28)]["close"] for meta_id in range(103, 106)]
    assert last == [25661.0, 25289.0, 60306.0]
    changes = [row["gross_return"] for row in prices.values() if row["gross_return"] is not None]
    assert len(prices) - len(changes) == 5
    assert 0.014 < statistics.stdev(changes) < 0.016


def weights_of(catalog: Catalog) -> dict[int, dict[date, dict[int, float]]]:
    """The weights of portfolio, rebalance day and stock, in order of days."""
    answer: dict[int, dict[date, dict[int, float]]] = {1: {}, 2: {}}
    for row in sorted(rows(catalog, "portfolio.tb_rebalance"), key=lambda row: (row["rebal_date"], row["meta_id"])):
        answer[row["port_id"]].setdefault(row["rebal_date"], {})[row["meta_id"]] = row["weight"]
    return answer


@pytest.mark.parametrize("port_id", [1, 2])
def test_rebalances_are_on_the_first_trading_day_of_each_quarter(demo_catalog: Catalog, port_id: int) -> None:
    found = weights_of(demo_catalog)[port_id]
    trading = sorted({row["trade_date"] for row in rows(demo_catalog, "market_data.us_stocks_price")})
    firsts = [b for a, b in pairwise(trading) if (a.year, (a.month - 1) // 3) != (b.year, (b.month - 1) // 3)]
    assert list(found) == firsts
    for weights in found.values():
        assert sum(weights.values()) == pytest.approx(1, abs=1e-6)
        assert min(weights.values()) > 0
    assert [next(day for day, held in found.items() if stock in held) for stock in (2, 3)] == [
        date(2012, 7, 2),
        date(2004, 10, 1),
    ]


def test_portfolio_1_is_equally_weighted(demo_catalog: Catalog) -> None:
    for weights in weights_of(demo_catalog)[1].values():
        assert list(weights.values()) == pytest.approx([1 / len(weights)] * len(weights), rel=1e-6)


def test_portfolio_2_weighs_by_the_inverse_deviation_of_the_60_returns_before(demo_catalog: Catalog) -> None:
    prices = sorted(rows(demo_catalog, "market_data.us_stocks_price"), key=lambda row: row["trade_date"])
    for day, weights in list(weights_of(demo_catalog)[2].items())[::7]:
        scores = {}
        for stock in range(1, 6):
            mine = [row for row in prices if row["meta_id"] == stock and row["trade_date"] < day]
            changes = [row["gross_return"] for row in mine if row["gross_return"] is not None][-60:]
            if len(changes) >= 20:
                scores[stock] = 1 / statistics.stdev(changes)
        assert weights == pytest.approx({s: v / sum(scores.values()) for s, v in scores.items()}, rel=1e-5)


@pytest.mark.parametrize("port_id", [1, 2])
def test_nav_is_that_of_the_shares_bought_at_each_rebalance(demo_catalog: Catalog, port_id: int) -> None:
    prices = by(rows(demo_catalog, "market_data.us_stocks_price"), "trade_date", "meta_id")
    weights = weights_of(demo_catalog)[port_id]
    nav = {
        key[0]: row["value"]
        for key, row in by(rows(demo_catalog, "portfolio.tb_nav"), "trade_date", "port_id").items()
        if key[1] == port_id
    }
    shares: dict[int, float] = {}
    value = 100.0
    for day in sorted({day for day, _ in prices if day >= min(weights)}):
        if shares:
            value = sum(count * prices[day, stock]["adj_close"] for stock, count in shares.items())
        assert nav.pop(day) == pytest.approx(value, rel=1e-6)
        if day in weights:
            shares = {stock: value * part / prices[day, stock]["adj_close"] for stock, part in weights[day].items()}
    assert nav == {}


@pytest.mark.parametrize("port_id", [1, 2])
def test_portfolio_value_uses_the_latest_rebalance_only(demo_catalog: Catalog, port_id: int) -> None:
    prices = by(rows(demo_catalog, "market_data.us_stocks_price"), "trade_date", "meta_id")
    weights = weights_of(demo_catalog)[port_id]
    found = [row for row in rows(demo_catalog, "analytics.daily_portfolio_value") if row["port_id"] == port_id]
    assert {row["trade_date"] for row in found} == {day for day, _ in prices if day >= min(weights)}
    for row in found:
        day = row["trade_date"]
        latest = weights[max(rebalance for rebalance in weights if rebalance <= day)]
        expected = sum(part * prices[day, stock]["adj_close"] for stock, part in latest.items())
        assert row["portfolio_value"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("port_id", [1, 2])
def test_metrics_follow_from_the_nav_up_to_each_quarter_end(demo_catalog: Catalog, port_id: int) -> None:
    nav = sorted(
        (row["trade_date"], row["value"]) for row in rows(demo_catalog, "portfolio.tb_nav") if row["port_id"] == port_id
    )
    found = [row for row in rows(demo_catalog, "analytics.tb_metrics") if row["port_id"] == port_id]
    ends = [a for (a, _), (b, _) in pairwise(nav) if (a.year, (a.month - 1) // 3) != (b.year, (b.month - 1) // 3)]
    assert sorted(row["calculation_date"] for row in found) == ends
    assert (min(ends), max(ends)) == (date(2000, 6, 30), date(2012, 12, 31))
    for row in found:
        values = [value for day, value in nav if day <= row["calculation_date"]]
        changes = [b / a - 1 for a, b in pairwise(values)]
        peak, lowest = 0.0, 0.0
        for value in values:
            peak = max(peak, value)
            lowest = min(lowest, value / peak - 1)
        deviation = statistics.stdev(changes)
        assert row["mdd"] == pytest.approx(lowest, rel=1e-6)
        assert row["ann_ret"] == pytest.approx((values[-1] / values[0]) ** (252 / len(changes)) - 1, rel=1e-5)
        assert row["ann_vol"] == pytest.approx(deviation * math.sqrt(252), rel=1e-5)
        assert row["sharpe"] == pytest.approx(statistics.mean(changes) / deviation * math.sqrt(252), rel=1e-4, abs=1e-6)


def test_every_table_is_one_commit_of_zstd_with_one_file_a_partition(demo_catalog: Catalog) -> None:
    for name in demo.TABLES:
        table = find_table(demo_catalog, name)
        assert len(table.snapshots()) == 1
        files = [task.file for task in table.scan().plan_files()]
        assert len({str(file.partition) for file in files}) == len(files)


def test_a_second_build_does_nothing_and_at_once(demo_catalog: Catalog) -> None:
    before = {name: find_table(demo_catalog, name).metadata_location for name in demo.TABLES}
    start = time.thread_time()
    assert demo.build(demo_catalog, DDL) == {}
    assert time.thread_time() - start < 1
    assert {name: find_table(demo_catalog, name).metadata_location for name in demo.TABLES} == before


def test_a_second_build_does_not_need_the_source(demo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh_sampledata", None)
    assert demo.build(demo_catalog, DDL) == {}


def test_an_interrupted_build_is_finished(catalog: Catalog) -> None:
    said: list[str] = []

    def stop_after_the_first(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.build(catalog, DDL, stop_after_the_first)
    assert said == ["reference.tb_meta: 10 rows in 1 files"]
    assert list(demo.build(catalog, DDL)) == list(demo.TABLES[1:])
    assert demo.build(catalog, DDL) == {}


def test_another_versions_demo_is_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "VERSION", "0")
    monkeypatch.setattr(demo, "tables", lambda _: {"reference.tb_meta": demo_prices.stocks()})
    demo.build(catalog, DDL)
    monkeypatch.undo()
    with pytest.raises(TableError, match="holds version 0 of the demo and this is version 1"):
        demo.build(catalog, DDL)


def test_a_missing_source_says_what_to_install(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh_sampledata", None)
    with pytest.raises(TableError) as error:
        demo.build(catalog, DDL)
    assert error.value.message == f"the demo's prices are not installed; {to_install('demo')}"


def test_a_ddl_folder_without_the_demos_tables_is_said(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "portfolio.tb_nav.sql").write_bytes((DDL / "portfolio.tb_nav.sql").read_bytes())
    with pytest.raises(TableError, match=r"there is no table 'reference\.tb_meta'"):
        demo.build(catalog, tmp_path)


def test_rows_of_the_users_own_are_left_alone(catalog: Catalog, tmp_path: Path) -> None:
    from flight_server.tables.load import load_file

    create_table(catalog, read_all(DDL)["reference.tb_meta"])
    path = tmp_path / "own.csv"
    path.write_text("meta_id,ticker\n900,OWN\n")
    load_file(find_table(catalog, "reference.tb_meta"), path)
    assert "reference.tb_meta" not in demo.build(catalog, DDL)
    assert [row["ticker"] for row in rows(catalog, "reference.tb_meta")] == ["OWN"]
