-- /// table
-- doc      = "Risk and return of each portfolio since its first day, computed at quarter ends from its NAV."
-- not_null = ["port_id", "calculation_date"]
-- ///
CREATE TABLE analytics.tb_metrics (
  port_id          int   COMMENT 'Portfolio',
  calculation_date date  COMMENT 'Last trading day that is counted',
  sharpe           float COMMENT 'Mean / standard deviation of the daily returns * sqrt(252); risk-free rate zero',
  mdd              float COMMENT 'Maximum drawdown: lowest value of NAV / running maximum - 1 (-0.25 = -25 %)',
  ann_ret          float COMMENT 'Annualised return, 252 days a year (0.05 = +5 %)',
  ann_vol          float COMMENT 'Annualised standard deviation of the daily returns, 252 days a year'
)
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
