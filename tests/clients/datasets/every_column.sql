-- /// dataset
-- title   = "Every column type"
-- doc     = "Three rows: ordinary values, the edges of each type, and nulls."
-- owner   = "tests"
-- version = 1
-- key     = ["row"]
-- sorted  = ["row"]
--
-- [params]
-- last = { type = "int32", min = 0, default = 3, doc = "How many of the rows; 0 for an empty result" }
--
-- [columns]
-- row     = { type = "int32", null = false, doc = "1, 2, 3" }
-- flag    = { type = "bool" }
-- tiny    = { type = "int8" }
-- small   = { type = "int16" }
-- whole   = { type = "int32" }
-- large   = { type = "int64" }
-- single  = { type = "float32", unit = "USD" }
-- ratio   = { type = "float64" }
-- amount  = { type = "decimal(18,4)" }
-- wide    = { type = "decimal(38,10)" }
-- word    = { type = "string" }
-- raw     = { type = "binary" }
-- day     = { type = "date" }
-- clock   = { type = "time" }
-- moment  = { type = "timestamp" }
-- instant = { type = "timestamp(tz)" }
-- numbers = { type = "list<int32>" }
-- tags    = { type = "map<string, int32>" }
-- pair    = { type = "struct<x: int32, y: string>" }
-- nested  = { type = "list<list<string>>" }
-- ///
WITH rows AS (
  SELECT
    1 AS row,
    TRUE AS flag,
    CAST(-7 AS TINYINT) AS tiny,
    CAST(300 AS SMALLINT) AS small,
    CAST(-70000 AS INTEGER) AS whole,
    CAST(9007199254740993 AS BIGINT) AS large,
    CAST(0.1 AS REAL) AS single,
    CAST(0.1 AS DOUBLE) AS ratio,
    CAST('-12345.6789' AS DECIMAL(18, 4)) AS amount,
    CAST('0.0000000001' AS DECIMAL(38, 10)) AS wide,
    'it''s 삼성 𝔸' AS word,
    CAST('ab' AS VARBINARY) AS raw,
    DATE '2024-02-29' AS day,
    TIME '10:11:12' AS clock,
    TIMESTAMP '2024-02-29 10:11:12.123456' AS moment,
    CAST('2024-02-29 10:11:12.123456 UTC' AS TIMESTAMP WITH TIME ZONE) AS instant,
    ARRAY[1, NULL, 3] AS numbers,
    MAP(ARRAY['a', 'b'], ARRAY[1, NULL]) AS tags,
    CAST(ROW(1, 'a') AS ROW(x INTEGER, y VARCHAR)) AS pair,
    ARRAY[ARRAY['a', NULL], NULL] AS nested
  UNION ALL
  SELECT
    2,
    FALSE,
    CAST(-128 AS TINYINT),
    CAST(-32768 AS SMALLINT),
    CAST(-2147483648 AS INTEGER),
    CAST(-9223372036854775807 AS BIGINT),
    CAST('1e-45' AS REAL),
    CAST('1.7976931348623157e308' AS DOUBLE),
    CAST('99999999999999.9999' AS DECIMAL(18, 4)),
    CAST('-9999999999999999999999999999.9999999999' AS DECIMAL(38, 10)),
    '',
    CAST('' AS VARBINARY),
    DATE '0001-01-01',
    TIME '23:59:59',
    TIMESTAMP '0001-01-01 00:00:00.000001',
    CAST('9999-12-31 23:59:59.999999 UTC' AS TIMESTAMP WITH TIME ZONE),
    CAST(ARRAY[] AS ARRAY<INTEGER>),
    CAST(MAP(ARRAY[], ARRAY[]) AS MAP<VARCHAR, INTEGER>),
    CAST(ROW(NULL, NULL) AS ROW(x INTEGER, y VARCHAR)),
    CAST(ARRAY[] AS ARRAY<ARRAY<VARCHAR>>)
  UNION ALL
  SELECT
    3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
)
SELECT
  r.row, r.flag, r.tiny, r.small, r.whole, r.large, r.single, r.ratio, r.amount, r.wide, r.word, r.raw, r.day, r.clock,
  r.moment, r.instant, r.numbers, r.tags, r.pair, r.nested
FROM rows AS r
WHERE r.row <= :last
ORDER BY r.row
