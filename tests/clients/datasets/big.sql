-- /// dataset
-- title   = "A big result"
-- doc     = "Every price, once for each pair of stocks."
-- owner   = "tests"
-- version = 1
--
-- [columns]
-- trade_date = { type = "date", null = false }
-- one        = { type = "int32", null = false }
-- two        = { type = "int32", null = false }
-- close      = { type = "float32" }
-- ///
SELECT p.trade_date, a.meta_id AS one, b.meta_id AS two, p.close
FROM market_data.us_stocks_price AS p
CROSS JOIN reference.tb_meta AS a
CROSS JOIN reference.tb_meta AS b
