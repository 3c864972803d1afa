-- /// dataset
-- title   = "Performance of a portfolio's NAV"
-- doc     = """
-- One row for the portfolio, none when it has no NAV in the range. Everything is computed from the n NAVs inside \
-- the range: n - 1 simple returns of each NAV on the one before it, 252 of them a year, sample standard deviation. \
-- One NAV gives only max_drawdown (0); ann_volatility and sharpe need three."""
-- owner   = "portfolio-analytics"
-- tags    = ["portfolio", "performance", "risk"]
-- version = 1
-- key     = ["port_id"]
-- sorted  = ["port_id"]
--
-- [params.port_id]
-- type    = "int32"
-- min     = 1
-- suggest = "SELECT port_id FROM portfolio.tb_nav"
-- example = 1
-- doc     = "Portfolio"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2011-01-03, doc = "First day, inclusive" }
-- end_date   = { type = "date", optional = true, example = 2012-12-31, doc = "Last day, inclusive; absent = latest" }
--
-- [params.risk_free_rate]
-- type    = "float64"
-- default = 0.0
-- min     = -1.0
-- max     = 1.0
-- unit    = "fraction per year"
-- example = 0.02
-- doc     = "Yearly risk-free rate for the Sharpe ratio; 1/252 of it is taken off every daily return"
--
-- [rules]
-- range = "start_date <= end_date"
--
-- [columns]
-- port_id        = { type = "int32", null = false, doc = "Portfolio" }
-- first_date     = { type = "date", null = false, doc = "Day of the first NAV in the range" }
-- last_date      = { type = "date", null = false, doc = "Day of the last NAV in the range" }
-- ann_return     = { type = "float64", unit = "fraction", doc = "(last NAV / first NAV) ^ (252 / (n - 1)) - 1" }
-- ann_volatility = { type = "float64", unit = "fraction", doc = "Standard deviation of the daily returns * sqrt(252)" }
--
-- [columns.sharpe]
-- type = "float64"
-- doc  = "(mean daily return - risk_free_rate / 252) / their standard deviation * sqrt(252); null when that is 0"
--
-- [columns.max_drawdown]
-- type = "float64"
-- unit = "fraction"
-- doc  = "Lowest NAV / running maximum - 1, the maximum running from the first NAV in the range; 0 or negative"
--
-- [limits]
-- max_scan = "1 GB"
-- timeout  = "60s"
-- max_rows = 1
-- ///
WITH nav AS (
  SELECT n.port_id, n.trade_date, CAST(n.value AS DOUBLE) AS nav_value
  FROM portfolio.tb_nav AS n
  WHERE n.port_id = :port_id
    AND n.trade_date >= :start_date
    AND n.trade_date <= :end_date
),
steps AS (
  SELECT
    n.port_id,
    n.trade_date,
    n.nav_value,
    n.nav_value / NULLIF(LAG(n.nav_value) OVER (ORDER BY n.trade_date), 0) - 1 AS daily_return,
    MAX(n.nav_value) OVER (ORDER BY n.trade_date ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running_max
  FROM nav AS n
)
SELECT
  s.port_id,
  MIN(s.trade_date) AS first_date,
  MAX(s.trade_date) AS last_date,
  POWER(
    MAX_BY(s.nav_value, s.trade_date) / NULLIF(MIN_BY(s.nav_value, s.trade_date), 0),
    CAST(252 AS DOUBLE) / NULLIF(COUNT(*) - 1, 0)
  ) - 1 AS ann_return,
  STDDEV_SAMP(s.daily_return) * SQRT(252) AS ann_volatility,
  (AVG(s.daily_return) - CAST(:risk_free_rate AS DOUBLE) / 252)
    / NULLIF(STDDEV_SAMP(s.daily_return), 0) * SQRT(252) AS sharpe,
  MIN(s.nav_value / NULLIF(s.running_max, 0)) - 1 AS max_drawdown
FROM steps AS s
GROUP BY s.port_id
ORDER BY s.port_id
