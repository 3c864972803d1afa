"""The repository's datasets over the hostile tables of frames.py, in Glue and S3, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from flight_server.tables.catalog import create_table, find_table
from flight_server.tables.ddl import read_all
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, open_lab, settings
from tests.frames import Tables, hostile_tables

SQL = Path(__file__).parents[1] / "sql"


@pytest.fixture(scope="session")
def hostile_frames() -> Tables:
    return hostile_tables()


@pytest.fixture(scope="session")
def hostile_lab(aws_session: LocalAws, hostile_frames: Tables) -> Iterator[Lab]:
    catalog = aws_session.catalog()
    for name, definition in read_all(SQL / "tables").items():
        create_table(catalog, definition)
        table = find_table(catalog, name)
        schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
        rows = hostile_frames[name].to_arrow().select(schema.names)
        table.append(
            pa.Table.from_arrays([c.cast(f.type) for c, f in zip(rows.columns, schema, strict=True)], schema=schema)
        )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_session.environment.items():
            patch.setenv(name, value)
        opened = open_lab(settings(aws_session, SQL))
    yield opened
    opened.close()
