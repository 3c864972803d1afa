-- /// dataset
-- title   = "Portfolio value, NAV and metrics by day"
-- doc     = """
-- One row per day on which the portfolio has a NAV. portfolio_value uses the weights of the latest rebalance on or \
-- before the day, and of that rebalance only: a stock that it does not name is no longer held. It sums weight * \
-- adj_close over the held US stocks that have a price that day; null before the first rebalance and when none has \
-- one. The metrics are those of the latest calculation on or before the day, null before the first one."""
-- owner   = "portfolio-analytics"
-- tags    = ["portfolio", "performance"]
-- version = 1
-- key     = ["trade_date"]
-- sorted  = ["trade_date"]
--
-- [params.port_id]
-- type    = "int32"
-- min     = 1
-- suggest = "SELECT port_id FROM portfolio.tb_nav"
-- example = 1
-- doc     = "Portfolio"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2012-01-03, doc = "First day, inclusive" }
--
-- [columns]
-- trade_date      = { type = "date", null = false, doc = "Day of the NAV" }
-- portfolio_value = { type = "float64", unit = "USD", doc = "Sum of weight * adj_close with the weights in force" }
-- nav_value       = { type = "float32", null = false, doc = "NAV of the portfolio, in the unit of portfolio.tb_nav" }
-- sharpe          = { type = "float32", doc = "Sharpe ratio of the latest calculation" }
-- mdd             = { type = "float32", unit = "fraction", doc = "Maximum drawdown of the latest calculation" }
-- ann_ret         = { type = "float32", unit = "fraction", doc = "Annualised return of the latest calculation" }
-- ann_vol         = { type = "float32", unit = "fraction", doc = "Annualised volatility of the latest calculation" }
--
-- [limits]
-- max_scan = "10 GB"
-- timeout  = "120s"
-- max_rows = 50_000
-- ///
WITH rebalance AS (
  -- The next date is taken over the portfolio's dates, not over each stock's: a stock that is dropped ends there.
  SELECT d.rebal_date, LEAD(d.rebal_date) OVER (ORDER BY d.rebal_date) AS next_date
  FROM (SELECT DISTINCT r.rebal_date FROM portfolio.tb_rebalance AS r WHERE r.port_id = :port_id) AS d
),
valuation AS (
  SELECT p.trade_date, SUM(CAST(w.weight AS DOUBLE) * CAST(p.adj_close AS DOUBLE)) AS portfolio_value
  FROM rebalance AS r
  JOIN portfolio.tb_rebalance AS w ON w.rebal_date = r.rebal_date
  JOIN market_data.us_stocks_price AS p
    ON p.meta_id = w.meta_id
    AND p.trade_date >= r.rebal_date
    AND p.trade_date < COALESCE(r.next_date, DATE '9999-12-31')
  WHERE w.port_id = :port_id
    AND p.trade_date >= :start_date
  GROUP BY p.trade_date
),
metrics AS (
  SELECT
    t.port_id,
    t.calculation_date,
    LEAD(t.calculation_date) OVER (ORDER BY t.calculation_date) AS next_date,
    t.sharpe,
    t.mdd,
    t.ann_ret,
    t.ann_vol
  FROM analytics.tb_metrics AS t
  WHERE t.port_id = :port_id
)
SELECT
  n.trade_date,
  v.portfolio_value,
  n.value AS nav_value,
  m.sharpe,
  m.mdd,
  m.ann_ret,
  m.ann_vol
FROM portfolio.tb_nav AS n
LEFT JOIN valuation AS v ON v.trade_date = n.trade_date
LEFT JOIN metrics AS m
  ON m.port_id = n.port_id
  AND m.calculation_date <= n.trade_date
  AND n.trade_date < COALESCE(m.next_date, DATE '9999-12-31')
WHERE n.port_id = :port_id
  AND n.trade_date >= :start_date
ORDER BY n.trade_date
