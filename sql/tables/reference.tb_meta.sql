-- /// table
-- doc      = "The stocks that the other tables name by meta_id, one row each."
-- not_null = ["meta_id"]
-- ///
CREATE TABLE reference.tb_meta (
  meta_id int    COMMENT 'Stock; unique',
  ticker  string COMMENT 'Exchange ticker',
  name    string COMMENT 'Name of the company',
  sector  string COMMENT 'Sector of the company'
)
TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet', 'write_compression'='zstd')
