"""Portfolios of the demo, computed from the prices of `market_data.us_stocks_price`. Pure: Arrow tables in and out.

Both portfolios are rebalanced at the close of the first US trading day of every quarter, from the first whole quarter:
- 1 holds every stock that has a price that day, in equal weights;
- 2 holds every stock that has at least 20 returns before that day, weighted by the inverse of the standard deviation of
  its latest 60 returns (simple returns, the day itself not among them).
So GOOG comes in with the fourth quarter of 2004 and FB with the third of 2012. The weights of a rebalance sum to 1.

NAV is 100 at the first rebalance. With t_k the days of the rebalances, w the weights set on t_k and P adj_close:

    NAV(t) = NAV(t_k) * sum_i w_i * P_i(t) / P_i(t_k)     for t_k < t <= t_(k+1)

so between rebalances the holdings rest and their weights drift, and on the day of a rebalance NAV is still that of the
old holdings, which buys the new ones at that day's close. There are no costs and no cash.

Everything is computed in double from the float32 values that the tables hold, so it can be checked from the tables.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

_REBALANCES = """
WITH days AS (
    SELECT min(trade_date) AS rebal_date FROM prices
    GROUP BY date_trunc('quarter', trade_date)
    QUALIFY row_number() OVER (ORDER BY rebal_date) > 1
),
recent AS (
    SELECT d.rebal_date, p.meta_id, CAST(p.gross_return AS DOUBLE) AS daily
    FROM days AS d JOIN prices AS p ON p.trade_date < d.rebal_date AND p.gross_return IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY d.rebal_date, p.meta_id ORDER BY p.trade_date DESC) <= 60
),
calm AS (
    SELECT rebal_date, meta_id, 1 / stddev_samp(daily) AS score FROM recent
    GROUP BY rebal_date, meta_id HAVING count(*) >= 20
),
scored AS (
    SELECT d.rebal_date, 1 AS port_id, p.meta_id, CAST(1 AS DOUBLE) AS score
    FROM days AS d JOIN prices AS p ON p.trade_date = d.rebal_date
    UNION ALL
    SELECT c.rebal_date, 2, c.meta_id, c.score
    FROM calm AS c JOIN prices AS p ON p.trade_date = c.rebal_date AND p.meta_id = c.meta_id
)
SELECT rebal_date, port_id, meta_id,
       CAST(score / sum(score) OVER (PARTITION BY rebal_date, port_id) AS FLOAT) AS weight
FROM scored ORDER BY rebal_date, port_id, meta_id
"""

# The rebalances with the next one of the same portfolio, whatever stocks either holds.
_PERIODS = """
periods AS (
    SELECT port_id, rebal_date, lead(rebal_date) OVER (PARTITION BY port_id ORDER BY rebal_date) AS next_date
    FROM (SELECT DISTINCT port_id, rebal_date FROM rebalances)
),
held AS (
    SELECT s.port_id, s.rebal_date, s.next_date, r.meta_id, CAST(r.weight AS DOUBLE) AS weight
    FROM periods AS s JOIN rebalances AS r ON r.port_id = s.port_id AND r.rebal_date = s.rebal_date
)
"""

_NAV = f"""
WITH {_PERIODS},
-- Materialised: joined in one go, prices meet prices first, for seconds.
bought AS MATERIALIZED (
    SELECT h.*, CAST(p.adj_close AS DOUBLE) AS price
    FROM held AS h JOIN prices AS p ON p.meta_id = h.meta_id AND p.trade_date = h.rebal_date
),
growth AS (
    SELECT b.port_id, b.rebal_date, b.next_date, p.trade_date,
           sum(b.weight * CAST(p.adj_close AS DOUBLE) / b.price) AS factor
    FROM bought AS b
    JOIN prices AS p ON p.meta_id = b.meta_id AND p.trade_date > b.rebal_date
        AND p.trade_date <= coalesce(b.next_date, DATE '9999-12-31')
    GROUP BY b.port_id, b.rebal_date, b.next_date, p.trade_date
),
starts AS (
    SELECT port_id, min(rebal_date) AS rebal_date, CAST(100 AS DOUBLE) AS value FROM rebalances GROUP BY port_id
    UNION ALL
    SELECT port_id, next_date, 100 * product(factor) OVER (PARTITION BY port_id ORDER BY next_date)
    FROM growth WHERE trade_date = next_date
)
SELECT rebal_date AS trade_date, port_id, CAST(100 AS FLOAT) AS value
FROM (SELECT port_id, min(rebal_date) AS rebal_date FROM rebalances GROUP BY port_id)
UNION ALL
SELECT g.trade_date, g.port_id, CAST(s.value * g.factor AS FLOAT)
FROM growth AS g JOIN starts AS s ON s.port_id = g.port_id AND s.rebal_date = g.rebal_date
ORDER BY trade_date, port_id
"""

_VALUE = f"""
WITH {_PERIODS}
SELECT p.trade_date, h.port_id, sum(h.weight * CAST(p.adj_close AS DOUBLE)) AS portfolio_value
FROM held AS h
JOIN prices AS p ON p.meta_id = h.meta_id AND p.trade_date >= h.rebal_date
    AND p.trade_date < coalesce(h.next_date, DATE '9999-12-31')
GROUP BY p.trade_date, h.port_id ORDER BY p.trade_date, h.port_id
"""

_METRICS = """
WITH daily AS (
    SELECT port_id, trade_date, CAST(value AS DOUBLE) AS value,
           value::DOUBLE / lag(value::DOUBLE) OVER so_far - 1 AS change,
           value::DOUBLE / max(value::DOUBLE) OVER so_far - 1 AS drawdown
    FROM nav WINDOW so_far AS (PARTITION BY port_id ORDER BY trade_date)
),
running AS (
    SELECT port_id, trade_date,
           count(change) OVER so_far AS changes,
           avg(change) OVER so_far AS mean,
           stddev_samp(change) OVER so_far AS deviation,
           min(drawdown) OVER so_far AS mdd,
           value / first_value(value) OVER so_far AS factor
    FROM daily WINDOW so_far AS (PARTITION BY port_id ORDER BY trade_date)
),
quarter_ends AS (
    SELECT max(trade_date) AS calculation_date FROM nav GROUP BY date_trunc('quarter', trade_date)
    QUALIFY row_number() OVER (ORDER BY calculation_date DESC) > 1
)
SELECT port_id, calculation_date,
       CAST(mean / deviation * sqrt(252) AS FLOAT) AS sharpe,
       CAST(mdd AS FLOAT) AS mdd,
       CAST(pow(factor, 252.0 / changes) - 1 AS FLOAT) AS ann_ret,
       CAST(deviation * sqrt(252) AS FLOAT) AS ann_vol
FROM running JOIN quarter_ends ON calculation_date = trade_date
ORDER BY calculation_date, port_id
"""


def rebalances(prices: pa.Table) -> pa.Table:
    """`portfolio.tb_rebalance`: rebal_date date32, port_id int32, meta_id int32, weight float32; in that order."""
    return _run(_REBALANCES, prices=prices)


def nav(prices: pa.Table, rebalances: pa.Table) -> pa.Table:
    """`portfolio.tb_nav`: trade_date date32, port_id int32, value float32; in that order."""
    return _run(_NAV, prices=prices, rebalances=rebalances)


def portfolio_value(prices: pa.Table, rebalances: pa.Table) -> pa.Table:
    """`analytics.daily_portfolio_value`: trade_date date32, port_id int32, portfolio_value float64; in that order.

    The sum of weight * adj_close over the stocks of the latest rebalance on or before the day; from the first one on.
    """
    return _run(_VALUE, prices=prices, rebalances=rebalances)


def metrics(nav: pa.Table) -> pa.Table:
    """`analytics.tb_metrics` at the last trading day of each quarter that is over, from the portfolio's first NAV on.

    Columns port_id int32, calculation_date date32, sharpe, mdd, ann_ret, ann_vol float32; by date and portfolio. Over n
    simple daily returns of NAV: ann_ret = (last NAV / first NAV) ^ (252 / n) - 1; ann_vol = sample standard deviation *
    sqrt(252); sharpe = mean / standard deviation * sqrt(252); mdd = lowest of NAV / running maximum - 1.
    """
    return _run(_METRICS, nav=nav)


def _run(sql: str, **tables: pa.Table) -> pa.Table:
    # One thread: sums of doubles depend on their order, and the demo is the same on every machine.
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(sql).to_arrow_table()
