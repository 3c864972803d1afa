"""The HTTP face beside the Flight port: probes, metrics, version. It answers no data."""
