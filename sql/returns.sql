-- /// dataset
-- title   = "Simple daily returns of several stocks"
-- doc     = """
-- One row per US stock and trading day. simple_return compares adj_close with the same stock's previous row inside \
-- the requested range, so that the first row of every stock is null; nothing before start_date is read."""
-- owner   = "market-data"
-- tags    = ["returns", "equities", "us"]
-- version = 1
-- key     = ["meta_id", "trade_date"]
-- sorted  = ["meta_id", "trade_date"]
--
-- [params.meta_ids]
-- type      = "list<int32>"
-- min       = 1
-- max_items = 1000
-- suggest   = "SELECT meta_id FROM reference.tb_meta"
-- example   = [1, 4, 5]
-- doc       = "Stocks by their meta_id in reference.tb_meta"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2010-01-04, doc = "First day, inclusive" }
-- end_date   = { type = "date", optional = true, example = 2010-01-29, doc = "Last day, inclusive; absent = latest" }
--
-- [rules]
-- range = "start_date <= end_date"
--
-- [columns]
-- meta_id       = { type = "int32", null = false, doc = "The stock's meta_id in reference.tb_meta" }
-- trade_date    = { type = "date", null = false, doc = "Trading day" }
-- adj_close     = { type = "float32", unit = "USD", doc = "Close adjusted for splits and dividends" }
-- simple_return = { type = "float64", unit = "fraction", doc = "adj_close / previous adj_close - 1; null after a 0" }
--
-- [limits]
-- max_scan = "20 GB"
-- timeout  = "120s"
-- max_rows = 10_000_000
-- ///
SELECT
  p.meta_id,
  p.trade_date,
  p.adj_close,
  CAST(p.adj_close AS DOUBLE)
    / NULLIF(LAG(CAST(p.adj_close AS DOUBLE)) OVER (PARTITION BY p.meta_id ORDER BY p.trade_date), 0)
    - 1 AS simple_return
FROM market_data.us_stocks_price AS p
WHERE p.meta_id IN (:meta_ids)
  AND p.trade_date >= :start_date
  AND p.trade_date <= :end_date
ORDER BY p.meta_id, p.trade_date
