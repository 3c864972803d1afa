"""The tables of tests/lake.py in the local AWS."""

from __future__ import annotations

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.transforms import MonthTransform

from tests.fakes.aws import LocalAws
from tests.lake import DATABASE, prices, values


@pytest.fixture(scope="session")
def lake_session(aws_session: LocalAws) -> Catalog:
    catalog = aws_session.catalog()
    catalog.create_namespace(DATABASE)
    table = catalog.create_table((DATABASE, "prices"), prices().schema, location=f"{aws_session.warehouse}/prices")
    with table.update_spec() as spec:
        spec.add_field("trade_date", MonthTransform(), "trade_month")
    table.append(prices())
    small = catalog.create_table((DATABASE, "values_"), values().schema, location=f"{aws_session.warehouse}/values")
    small.append(values())
    catalog.create_table((DATABASE, "nothing"), values().schema, location=f"{aws_session.warehouse}/nothing")
    return catalog


@pytest.fixture
def lake(aws: LocalAws, lake_session: Catalog) -> Catalog:
    """The catalog with the tables `prices`, `values_` and the never-written `nothing` of database `lake`."""
    return lake_session
