-- /// dataset
-- title   = "A US and a Korean stock side by side"
-- doc     = """
-- One row per day from start_date on which at least one of the two stocks traded; the other one's columns are null \
-- when its market was closed. rolling_correlation_20d covers the last 20 days on which both stocks have a return, \
-- up to and including the row's day, whatever lies between them. It is null on days on which only one has a \
-- return, until 20 such days have passed since start_date (it never looks further back), and while one of the two \
-- returns is constant."""
-- owner   = "market-data"
-- tags    = ["prices", "equities", "us", "kr", "correlation"]
-- version = 1
-- key     = ["trade_date"]
-- sorted  = ["trade_date"]
--
-- [params.us_ticker]
-- type       = "string"
-- max_length = 12
-- pattern    = "[A-Z0-9.\\-]+"
-- suggest    = "SELECT ticker FROM reference.tb_meta"
-- example    = "AAPL"
-- doc        = "Exchange ticker of a US stock"
--
-- [params.kr_ticker]
-- type       = "string"
-- max_length = 12
-- pattern    = "[A-Z0-9.\\-]+"
-- suggest    = "SELECT ticker FROM reference.tb_meta"
-- example    = "KRX-GEN1"
-- doc        = "Exchange ticker of a Korean stock"
--
-- [params]
-- start_date = { type = "date", min = 1990-01-01, example = 2012-01-03, doc = "First day, inclusive" }
--
-- [columns]
-- trade_date = { type = "date", null = false, doc = "Day on which at least one of the two stocks traded" }
-- us_price   = { type = "float32", unit = "USD", doc = "Close of the US stock as quoted that day" }
-- kr_price   = { type = "float32", unit = "KRW", doc = "Close of the Korean stock as quoted that day" }
-- us_return  = { type = "float32", unit = "fraction", doc = "gross_return of the US stock" }
-- kr_return  = { type = "float32", unit = "fraction", doc = "gross_return of the Korean stock" }
--
-- [columns.rolling_correlation_20d]
-- type = "float64"
-- doc  = "Correlation of us_return and kr_return over the last 20 days on which both have one"
--
-- [limits]
-- max_scan = "4 GB"
-- timeout  = "60s"
-- max_rows = 50_000
-- ///
WITH us AS (
  SELECT p.trade_date, p.close, p.gross_return
  FROM market_data.us_stocks_price AS p
  JOIN reference.tb_meta AS m ON m.meta_id = p.meta_id
  WHERE m.ticker = :us_ticker
    AND p.trade_date >= :start_date
),
kr AS (
  SELECT p.trade_date, p.close, p.gross_return
  FROM market_data.kr_stocks_price AS p
  JOIN reference.tb_meta AS m ON m.meta_id = p.meta_id
  WHERE m.ticker = :kr_ticker
    AND p.trade_date >= :start_date
),
days AS (
  SELECT
    COALESCE(us.trade_date, kr.trade_date) AS trade_date,
    us.close AS us_price,
    kr.close AS kr_price,
    us.gross_return AS us_return,
    kr.gross_return AS kr_return,
    us.gross_return IS NOT NULL AND kr.gross_return IS NOT NULL AS paired
  FROM us
  FULL OUTER JOIN kr ON kr.trade_date = us.trade_date
),
-- Partitioned by paired, so that a frame of 20 rows is 20 days with both returns and no other day can get into it.
frames AS (
  SELECT
    d.trade_date,
    d.us_price,
    d.kr_price,
    d.us_return,
    d.kr_return,
    d.paired,
    COUNT(*)
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS paired_days,
    MIN(d.us_return)
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS us_min,
    MAX(d.us_return)
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS us_max,
    MIN(d.kr_return)
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS kr_min,
    MAX(d.kr_return)
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS kr_max,
    CORR(CAST(d.us_return AS DOUBLE), CAST(d.kr_return AS DOUBLE))
      OVER (PARTITION BY d.paired ORDER BY d.trade_date ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) AS correlation
  FROM days AS d
)
SELECT
  f.trade_date,
  f.us_price,
  f.kr_price,
  f.us_return,
  f.kr_return,
  -- The engines disagree on the correlation with a constant (NaN or null), so it is decided here.
  CASE
    WHEN f.paired AND f.paired_days = 20 AND f.us_min < f.us_max AND f.kr_min < f.kr_max THEN f.correlation
  END AS rolling_correlation_20d
FROM frames AS f
ORDER BY f.trade_date
