"""Unmodified clients on the local Athena: what they return is what they return on AWS, errors and gaps included."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import awswrangler as wr
import pyarrow.fs as pafs
import pytest
from awswrangler.exceptions import EmptyDataFrame, QueryFailed
from pyathena import connect
from pyathena.arrow.cursor import ArrowCursor
from pyathena.arrow.result_set import AthenaArrowResultSet, AthenaArrowResultSetMetadataReader
from pyathena.connection import Connection
from pyathena.error import OperationalError
from pyathena.pandas.cursor import PandasCursor
from pyiceberg.catalog import Catalog

from tests.fakes.aws import LocalAws
from tests.lake import DATABASE, ROWS

ALL = "SELECT * FROM values_ ORDER BY id"
PLAIN = "SELECT id, ticker, trade_date, price, amount FROM prices ORDER BY id"
NONE = "SELECT id, ticker FROM prices WHERE id < 0"
# PyAthena and awswrangler call pandas in ways that pandas 3 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:engine='auto' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest.fixture
def here(aws_environment: LocalAws, lake: Catalog) -> LocalAws:
    """The local AWS with its tables, found through the environment as on a developer's machine."""
    return aws_environment


def wrangled(aws: LocalAws, sql: str, **how: Any) -> Any:
    """awswrangler's read_sql_query without the choice of result location left to it."""
    prefix = f"s3://{aws.bucket}/wr/{len(aws.athena.state()['queries'])}/"
    return wr.athena.read_sql_query(sql, DATABASE, s3_output=prefix, athena_query_wait_polling_delay=0.05, **how)


def test_awswrangler_reads_csv(here: LocalAws) -> None:
    frame = wrangled(here, ALL, ctas_approach=False)
    assert frame["text"].tolist()[0] == 'it\'s "quoted", \n twice'
    assert frame["number"].tolist()[0] == 1.5
    assert frame["day"].tolist() == [dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)]
    assert frame["amount"].tolist() == [Decimal("12345.6789"), None, Decimal("-0.0001")]
    assert frame["small"].isna().tolist() == [False, True, False]
    assert frame["list"].tolist()[0] == "[1, 2]"


def test_awswrangler_reads_unload(here: LocalAws) -> None:
    frame = wrangled(here, ALL, ctas_approach=False, unload_approach=True).sort_values("id", ignore_index=True)
    assert frame["text"].tolist()[0] == 'it\'s "quoted", \n twice'
    assert frame["text"].isna().tolist() == [False, True, False]
    assert frame["day"].tolist() == [dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)]
    assert frame["amount"].tolist() == [Decimal("12345.6789"), None, Decimal("-0.0001")]
    assert [None if v is None else list(v) for v in frame["list"]] == [[1, 2], None, []]


def test_awswrangler_reads_ctas_and_drops_its_table(here: LocalAws, lake: Catalog) -> None:
    frame = wrangled(here, PLAIN, ctas_approach=True)
    assert sorted(frame["id"]) == list(range(ROWS))
    assert frame["amount"].sum() == sum(Decimal(i) / 100 for i in range(ROWS))
    glue = here.client("glue").get_tables(DatabaseName=DATABASE)["TableList"]
    assert not [t["Name"] for t in glue if t["Name"].startswith("temp_table")]


def test_awswrangler_loses_order_over_unload(here: LocalAws) -> None:
    frame = wrangled(here, PLAIN, ctas_approach=False, unload_approach=True)
    assert sorted(frame["id"]) == list(range(ROWS))
    assert frame["id"].tolist() != list(range(ROWS))


def test_awswrangler_fails_on_iceberg_timestamps_over_unload(here: LocalAws) -> None:
    with pytest.raises(QueryFailed, match="Incorrect timestamp precision for timestamp\\(6\\)"):
        wrangled(here, "SELECT ts FROM prices", ctas_approach=False, unload_approach=True)


def test_awswrangler_reads_millisecond_timestamps_over_unload(here: LocalAws) -> None:
    sql = "SELECT CAST(ts AS timestamp(3)) AS ts FROM prices WHERE id = 0"
    frame = wrangled(here, sql, ctas_approach=False, unload_approach=True)
    assert frame["ts"].tolist() == [dt.datetime(2024, 1, 1, 9, 30, 0, 123000)]


def test_awswrangler_has_no_schema_for_zero_rows_of_unload(here: LocalAws) -> None:
    with pytest.raises(EmptyDataFrame):
        wrangled(here, NONE, ctas_approach=False, unload_approach=True)


def test_awswrangler_takes_the_schema_of_zero_rows_from_glue_after_ctas(here: LocalAws) -> None:
    assert wrangled(here, NONE, ctas_approach=True).columns.tolist() == ["id", "ticker"]


def test_awswrangler_passes_parameters(here: LocalAws) -> None:
    sql = "SELECT count(*) AS n FROM prices WHERE ticker = ? AND id < ?"
    frame = wrangled(here, sql, ctas_approach=False, params=["'AAPL'", "10"], paramstyle="qmark")
    assert frame["n"].tolist() == [5]


def connected(aws: LocalAws, **how: Any) -> Connection[Any]:
    staging = f"s3://{aws.bucket}/pyathena/"
    return connect(s3_staging_dir=staging, schema_name=DATABASE, poll_interval=0.05, **how)


def test_pyathena_cursor_reads_pages(here: LocalAws) -> None:
    with connected(here) as connection, connection.cursor() as cursor:
        rows = cursor.execute(PLAIN).fetchall()
        assert rows[1] == (1, "MSFT", dt.date(2024, 1, 1), 0.5, Decimal("0.0100"))
        assert len(rows) == ROWS
        assert cursor.data_scanned_in_bytes


def test_pyathena_cursor_reads_nulls_and_arrays(here: LocalAws) -> None:
    with connected(here) as connection, connection.cursor() as cursor:
        first, second, third = cursor.execute(ALL).fetchall()
    assert first[-1] == [1, 2]
    assert second == (2, *[None] * 7)
    assert third[1] == ""


def test_pyathena_cursor_formats_parameters(here: LocalAws) -> None:
    sql = "SELECT count(*) FROM prices WHERE ticker = %(ticker)s AND trade_date >= %(day)s"
    with connected(here) as connection, connection.cursor() as cursor:
        cursor.execute(sql, {"ticker": "AAPL", "day": dt.date(2024, 10, 1)})
        assert cursor.fetchone() == (26,)


def test_pyathena_reports_the_reason_of_a_failed_query(here: LocalAws) -> None:
    with connected(here) as connection, connection.cursor() as cursor, pytest.raises(OperationalError) as failed:
        cursor.execute("SELECT nope FROM prices")
    assert "COLUMN_NOT_FOUND: line 1:8: Column 'nope' cannot be resolved" in str(failed.value)


@pytest.mark.parametrize("unload", [False, True])
def test_pyathena_pandas_cursor(here: LocalAws, unload: bool) -> None:
    with connected(here, cursor_class=PandasCursor) as connection, connection.cursor(unload=unload) as cursor:
        frame = cursor.execute(PLAIN).as_pandas()
    assert sorted(frame["id"]) == list(range(ROWS))
    assert sum(frame["amount"]) == sum(Decimal(i) / 100 for i in range(ROWS))
    assert (frame["id"].tolist() == list(range(ROWS))) is not unload


class LocalReader(AthenaArrowResultSetMetadataReader):
    """pyarrow's S3FileSystem ignores AWS_ENDPOINT_URL_S3: the one thing that has to be told."""

    endpoint = ""

    def _create_s3_file_system(self) -> pafs.S3FileSystem:
        return pafs.S3FileSystem(
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            access_key="testing",
            secret_key="testing",
        )


@pytest.fixture
def arrow_cursor(here: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(LocalReader, "endpoint", here.s3_endpoint)
    monkeypatch.setattr(AthenaArrowResultSet, "_metadata_reader_class", LocalReader)
    with connected(here, cursor_class=ArrowCursor) as connection, connection.cursor(unload=True) as cursor:
        yield cursor


def test_pyathena_arrow_cursor_reads_unload(arrow_cursor: Any) -> None:
    table = arrow_cursor.execute(ALL).as_arrow().sort_by("id")
    assert table["list"].to_pylist() == [[1, 2], None, []]
    assert table["amount"].to_pylist() == [Decimal("12345.6789"), None, Decimal("-0.0001")]
    assert str(table.schema.field("amount").type) == "decimal128(18, 4)"


def test_pyathena_arrow_cursor_gets_no_columns_for_zero_rows(arrow_cursor: Any) -> None:
    assert arrow_cursor.execute(NONE).as_arrow().num_columns == 0


def test_pyathena_reads_leftovers_that_the_manifest_does_not_name(here: LocalAws, arrow_cursor: Any) -> None:
    here.faults.leftovers = 1
    assert arrow_cursor.execute(PLAIN).as_arrow().num_rows > ROWS
