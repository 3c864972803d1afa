-- /// dataset
-- title   = "Price and return statistics"
-- doc     = """
-- One row per US stock over its trading days from start_date on; a ticker that did not trade in that time has no \
-- row. Standard deviations are those of a sample (n - 1), null for one value only. Days without a price or a \
-- return are left out of its figures. A year has 252 days."""
-- owner   = "market-data"
-- tags    = ["statistics", "equities", "us"]
-- version = 1
-- key     = ["ticker"]
-- sorted  = ["ticker"]
--
-- [params.tickers]
-- type       = "list<string>"
-- max_items  = 500
-- max_length = 12
-- pattern    = "[A-Z0-9.\\-]+"
-- suggest    = "SELECT ticker FROM reference.tb_meta"
-- example    = ["AAPL", "IBM"]
-- doc        = "Exchange tickers of US stocks"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2010-01-04, doc = "First day, inclusive" }
--
-- [columns]
-- ticker       = { type = "string", null = false, doc = "Exchange ticker" }
-- name         = { type = "string", doc = "Company name" }
-- sector       = { type = "string", doc = "Sector" }
-- trading_days = { type = "int64", null = false, unit = "days", doc = "Number of trading days" }
-- avg_price    = { type = "float64", unit = "USD", doc = "Mean of close" }
-- price_std    = { type = "float64", unit = "USD", doc = "Sample standard deviation of close" }
-- avg_return   = { type = "float64", unit = "fraction", doc = "Mean of the daily gross_return" }
-- volatility   = { type = "float64", unit = "fraction", doc = "Sample standard deviation of gross_return * sqrt(252)" }
-- min_price    = { type = "float32", unit = "USD", doc = "Lowest close" }
-- max_price    = { type = "float32", unit = "USD", doc = "Highest close" }
--
-- [limits]
-- max_scan = "20 GB"
-- timeout  = "120s"
-- max_rows = 500
-- ///
SELECT
  m.ticker,
  m.name,
  m.sector,
  COUNT(*) AS trading_days,
  AVG(CAST(p.close AS DOUBLE)) AS avg_price,
  STDDEV_SAMP(CAST(p.close AS DOUBLE)) AS price_std,
  AVG(CAST(p.gross_return AS DOUBLE)) AS avg_return,
  STDDEV_SAMP(CAST(p.gross_return AS DOUBLE)) * SQRT(252) AS volatility,
  MIN(p.close) AS min_price,
  MAX(p.close) AS max_price
FROM market_data.us_stocks_price AS p
JOIN reference.tb_meta AS m ON m.meta_id = p.meta_id
WHERE m.ticker IN (:tickers)
  AND p.trade_date >= :start_date
GROUP BY m.meta_id, m.ticker, m.name, m.sector
ORDER BY m.ticker
