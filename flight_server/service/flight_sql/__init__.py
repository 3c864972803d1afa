"""Flight SQL: what ADBC, JDBC and BI tools speak. A second encoding of the same requests, and metadata about them."""
