"""The Athena engine: queries run as UNLOAD into the result store, and are read back as Parquet parts."""
