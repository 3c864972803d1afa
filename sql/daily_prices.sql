-- /// dataset
-- title   = "Daily prices"
-- doc     = "One row per trading day of one US stock, with the stock's name and sector. Prices in USD."
-- owner   = "market-data"
-- tags    = ["prices", "equities", "us"]
-- version = 1
-- key     = ["ticker", "trade_date"]
-- sorted  = ["trade_date"]
--
-- [params.ticker]
-- type       = "string"
-- max_length = 12
-- pattern    = "[A-Z0-9.\\-]+"
-- suggest    = "SELECT ticker FROM reference.tb_meta"
-- example    = "AAPL"
-- doc        = "Exchange ticker of a US stock"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2010-01-04, doc = "First day, inclusive" }
-- end_date   = { type = "date", optional = true, example = 2010-01-29, doc = "Last day, inclusive; absent = latest" }
--
-- [rules]
-- range = "start_date <= end_date"
--
-- [columns]
-- trade_date   = { type = "date", null = false, doc = "Trading day" }
-- close        = { type = "float32", unit = "USD", doc = "Close as quoted that day" }
-- adj_close    = { type = "float32", unit = "USD", doc = "Close adjusted for splits and dividends" }
-- gross_return = { type = "float32", unit = "fraction", doc = "Return on the stock's previous adj_close" }
-- ticker       = { type = "string", null = false, doc = "Exchange ticker" }
-- name         = { type = "string", doc = "Company name" }
-- sector       = { type = "string", doc = "Sector" }
--
-- [limits]
-- max_scan = "2 GB"
-- timeout  = "60s"
-- max_rows = 50_000
-- ///
SELECT p.trade_date, p.close, p.adj_close, p.gross_return, m.ticker, m.name, m.sector
FROM market_data.us_stocks_price AS p
JOIN reference.tb_meta AS m ON m.meta_id = p.meta_id
WHERE m.ticker = :ticker
  AND p.trade_date >= :start_date
  AND p.trade_date <= :end_date
ORDER BY p.trade_date
