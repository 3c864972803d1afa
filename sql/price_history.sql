-- /// dataset
-- title   = "Adjusted closes of several stocks"
-- doc     = "One row per trading day and US stock. A stock without a price in the range has no row."
-- owner   = "market-data"
-- tags    = ["prices", "equities", "us"]
-- version = 1
-- key     = ["meta_id", "trade_date"]
-- sorted  = ["trade_date", "meta_id"]
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
-- meta_id    = { type = "int32", null = false, doc = "The stock's meta_id in reference.tb_meta" }
-- trade_date = { type = "date", null = false, doc = "Trading day" }
-- adj_close  = { type = "float32", unit = "USD", doc = "Close adjusted for splits and dividends" }
--
-- [limits]
-- max_scan = "20 GB"
-- timeout  = "120s"
-- max_rows = 10_000_000
-- ///
SELECT p.meta_id, p.trade_date, p.adj_close
FROM market_data.us_stocks_price AS p
WHERE p.meta_id IN (:meta_ids)
  AND p.trade_date >= :start_date
  AND p.trade_date <= :end_date
ORDER BY p.trade_date, p.meta_id
