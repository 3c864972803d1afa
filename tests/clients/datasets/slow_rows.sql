-- /// dataset
-- title   = "Many rows"
-- doc     = "Every pair of two prices: millions of rows, for as long as somebody reads."
-- owner   = "tests"
-- version = 1
--
-- [columns]
-- trade_date = { type = "date", null = false }
-- one        = { type = "float32" }
-- two        = { type = "float32" }
-- ///
SELECT a.trade_date, a.close AS one, b.close AS two
FROM market_data.us_stocks_price AS a
CROSS JOIN market_data.us_stocks_price AS b
