-- /// table
-- doc      = "Value of each portfolio on each trading day at the weights of the latest rebalance on or before that day."
-- not_null = ["trade_date", "port_id", "portfolio_value"]
-- ///
CREATE TABLE analytics.daily_portfolio_value (
  trade_date      date   COMMENT 'Trading day',
  port_id         int    COMMENT 'Portfolio',
  portfolio_value double COMMENT 'Sum over the stocks of weight * adj_close of that day, in USD'
)
PARTITIONED BY (month(trade_date))
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
