-- /// dataset
-- title   = "Daily value of a portfolio"
-- doc     = """
-- One row per day on which the portfolio has a value, read from the table that \
-- materialize/daily_portfolio_value.sql fills: the sum of weight * adj_close over the held stocks that have a \
-- price that day, with the weights of the latest rebalance on or before the day. As fresh as the last refresh of \
-- that table."""
-- owner   = "portfolio-analytics"
-- tags    = ["portfolio", "materialized"]
-- version = 1
-- key     = ["port_id", "trade_date"]
-- sorted  = ["trade_date"]
--
-- [params.port_id]
-- type    = "int32"
-- min     = 1
-- suggest = "SELECT port_id FROM analytics.daily_portfolio_value"
-- example = 1
-- doc     = "Portfolio"
--
-- [params.start_date]
-- type     = "date"
-- optional = true
-- min      = 1990-01-01
-- example  = 2012-01-03
-- doc      = "First day, inclusive; absent = earliest"
--
-- [params.end_date]
-- type     = "date"
-- optional = true
-- example  = 2012-12-31
-- doc      = "Last day, inclusive; absent = latest"
--
-- [rules]
-- range = "start_date <= end_date"
--
-- [columns]
-- trade_date      = { type = "date", null = false, doc = "Day on which at least one held stock has a price" }
-- port_id         = { type = "int32", null = false, doc = "Portfolio" }
-- portfolio_value = { type = "float64", null = false, unit = "USD", doc = "Sum of weight * adj_close" }
--
-- [limits]
-- max_scan = "1 GB"
-- timeout  = "60s"
-- max_rows = 50_000
--
-- [materialize]
-- table     = "analytics.daily_portfolio_value"
-- partition = "month(trade_date)"
-- query     = "materialize/daily_portfolio_value.sql"
-- ///
SELECT v.trade_date, v.port_id, CAST(v.portfolio_value AS DOUBLE) AS portfolio_value
FROM analytics.daily_portfolio_value AS v
WHERE v.port_id = :port_id
  AND v.trade_date >= :start_date
  AND v.trade_date <= :end_date
ORDER BY v.trade_date
