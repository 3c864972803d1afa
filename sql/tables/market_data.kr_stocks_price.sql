-- /// table
-- doc      = "Daily prices of Korean stocks, one row per stock and trading day."
-- not_null = ["meta_id", "trade_date"]
-- ///
CREATE TABLE market_data.kr_stocks_price (
  meta_id      int    COMMENT 'Stock, as in reference.tb_meta',
  trade_date   date   COMMENT 'Trading day of the stock exchange',
  close        float  COMMENT 'Unadjusted close in KRW',
  adj_close    float  COMMENT 'Close in KRW, adjusted for splits and dividends',
  gross_return float  COMMENT 'Simple return of adj_close on the previous trading day of the same stock (0.01 = +1 %); null on its first day'
)
PARTITIONED BY (month(trade_date))
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
