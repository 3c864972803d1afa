-- /// table
-- doc      = "Net asset value of each portfolio at the close of each trading day."
-- not_null = ["trade_date", "port_id", "value"]
-- ///
CREATE TABLE portfolio.tb_nav (
  trade_date date  COMMENT 'Trading day',
  port_id    int   COMMENT 'Portfolio',
  value      float COMMENT 'Net asset value; 100 on the first day of the portfolio'
)
PARTITIONED BY (month(trade_date))
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
