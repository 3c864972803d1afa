-- /// dataset
-- title   = "A long thought"
-- doc     = "One row, after a time that no test waits for."
-- owner   = "tests"
-- version = 1
--
-- [columns]
-- n = { type = "int64", null = false }
-- ///
SELECT count(*) AS n
FROM market_data.us_stocks_price AS a
CROSS JOIN market_data.us_stocks_price AS b
CROSS JOIN market_data.us_stocks_price AS c
WHERE a.close * b.close > c.close
