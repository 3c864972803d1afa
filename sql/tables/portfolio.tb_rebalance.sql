-- /// table
-- doc      = "Target weights of each portfolio, valid from the close of rebal_date until the next rebalance."
-- not_null = ["rebal_date", "port_id", "meta_id", "weight"]
-- ///
CREATE TABLE portfolio.tb_rebalance (
  rebal_date date  COMMENT 'Day of the rebalance',
  port_id    int   COMMENT 'Portfolio',
  meta_id    int   COMMENT 'Stock, as in reference.tb_meta',
  weight     float COMMENT 'Share of the portfolio; the weights of one portfolio and day sum to 1'
)
PARTITIONED BY (year(rebal_date))
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
