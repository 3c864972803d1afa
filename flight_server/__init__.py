"""athena-flight: named, typed SQL datasets served as Arrow record batches over Arrow Flight."""

__version__ = "0.1.0"
