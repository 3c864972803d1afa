-- /// dataset
-- title   = "Value of a weighted basket"
-- doc     = """
-- One row per day on which every stock of the basket has a price: the sum of weight * adj_close. A day on which \
-- one of them has none is left out, because a partial sum would look like a fall in value."""
-- owner   = "portfolio-analytics"
-- tags    = ["portfolio", "equities", "us"]
-- version = 1
-- key     = ["trade_date"]
-- sorted  = ["trade_date"]
--
-- [params.weights]
-- type      = "map<int32, float64>"
-- max_items = 500
-- example   = { 1 = 0.6, 5 = 0.4 }
-- doc       = "Number of shares, or any other weight, by meta_id of reference.tb_meta; negative = short"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2010-01-04, doc = "First day, inclusive" }
-- end_date   = { type = "date", optional = true, example = 2010-01-29, doc = "Last day, inclusive; absent = latest" }
--
-- [rules]
-- range = "start_date <= end_date"
--
-- [columns]
-- trade_date = { type = "date", null = false, doc = "Day on which every stock of the basket traded" }
-- value      = { type = "float64", null = false, unit = "USD", doc = "Sum of weight * adj_close" }
--
-- [limits]
-- max_scan = "20 GB"
-- timeout  = "120s"
-- max_rows = 50_000
-- ///
WITH basket AS (
  SELECT w.meta_id, w.weight
  FROM UNNEST(:weights) AS w (meta_id, weight)
)
SELECT p.trade_date, SUM(CAST(b.weight AS DOUBLE) * CAST(p.adj_close AS DOUBLE)) AS value
FROM market_data.us_stocks_price AS p
JOIN basket AS b ON b.meta_id = p.meta_id
WHERE p.adj_close IS NOT NULL
  AND p.trade_date >= :start_date
  AND p.trade_date <= :end_date
GROUP BY p.trade_date
HAVING COUNT(*) = (SELECT COUNT(*) FROM basket)
ORDER BY p.trade_date
