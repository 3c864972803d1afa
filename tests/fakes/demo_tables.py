"""Loads the demo tables into the local AWS, for `python -m tests.fakes.athena --load`."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.catalog import Catalog

from flight_server.tables import demo
from tests.fakes.aws import LocalAws


def load(catalog: Catalog, aws: LocalAws) -> None:
    """Create and fill the tables of `sql/tables`, saying what was done."""
    demo.build(catalog, Path("sql/tables"), lambda line: print(f"# {line}", flush=True))
