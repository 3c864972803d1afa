-- /// dataset
-- title   = "Too many rows"
-- doc     = "More rows than its limit allows."
-- owner   = "tests"
-- version = 1
--
-- [columns]
-- trade_date = { type = "date", null = false }
--
-- [limits]
-- max_rows = 10
-- ///
SELECT p.trade_date
FROM market_data.us_stocks_price AS p
