"""Opening catalogs from settings, creating tables in them, finding tables; SQLite on disk, and Glue and S3 by moto."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pyiceberg.catalog import Catalog

from flight_server import config
from flight_server.errors import ConfigError, TableError
from flight_server.tables.catalog import create_table, find_table, open_catalog, table_names
from flight_server.tables.ddl import parse, read_all
from flight_server.tables.load import load_file
from tests.fix_tables import DDL, local_config


def settings(uri: str = "sqlite:///catalog.db", warehouse: str = "warehouse", **aws: str) -> config.Config:
    return config.Config(catalog=config.Catalog(uri=uri, warehouse=warehouse), aws=config.Aws(**aws))


def test_create_makes_database_and_table_once(catalog: Catalog) -> None:
    nav = read_all(DDL)["portfolio.tb_nav"]
    assert create_table(catalog, nav)
    assert not create_table(catalog, nav)
    assert table_names(catalog) == ["portfolio.tb_nav"]
    table = find_table(catalog, "portfolio.tb_nav")
    assert [field.required for field in table.schema().fields] == [True, True, True]
    assert [str(field.transform) for field in table.spec().fields] == ["month"]
    assert table.schema().find_field("value").doc
    assert table.format_version == 2


def test_partition_fields_follow_their_columns_when_types_are_nested(catalog: Catalog) -> None:
    text = (
        "CREATE TABLE t.nested (s struct<a:int,b:array<string>>, m map<string,int>, d date)"
        " PARTITIONED BY (month(d)) TBLPROPERTIES ('table_type'='ICEBERG')"
    )
    create_table(catalog, parse(text, Path("t.nested.sql")))
    table = find_table(catalog, "t.nested")
    assert table.schema().find_column_name(table.spec().fields[0].source_id) == "d"


def test_relative_paths_hold_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(open_catalog(settings("sqlite:///deep/er/catalog.db", "deep/warehouse"))) as catalog:
        monkeypatch.chdir(tmp_path / "elsewhere")
        # Close the pooled connections, so that the next use opens the file anew.
        catalog.close()
        create_table(catalog, read_all(DDL)["portfolio.tb_nav"])
        assert find_table(catalog, "portfolio.tb_nav").location() == str(tmp_path / "deep/warehouse/portfolio/tb_nav")
    assert (tmp_path / "deep/er/catalog.db").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    with closing(open_catalog(settings(f"sqlite:///{tmp_path}/c.db", f"file://{tmp_path}/w"))) as catalog:
        create_table(catalog, read_all(DDL)["portfolio.tb_nav"])
        assert find_table(catalog, "portfolio.tb_nav").location() == f"{tmp_path}/w/portfolio/tb_nav"


@pytest.mark.parametrize(
    ("found", "setting"),
    [
        (settings(uri="not an address"), "catalog.uri"),
        (settings(uri="sqlite://"), "catalog.uri"),
        (settings(uri="sqlite:///:memory:"), "catalog.uri"),
        (settings(warehouse="gs://bucket"), "catalog.warehouse"),
        (settings(warehouse="/dev/null/warehouse"), "catalog.warehouse"),
        (config.Config(catalog=config.Catalog(kind="glue", warehouse="folder")), "catalog.warehouse"),
        (config.Config(catalog=config.Catalog(kind="glue", warehouse="s3://b/w")), "aws.region"),
    ],
)
def test_settings_that_name_no_catalog_are_refused(
    found: config.Config, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigError, match=f"setting '{setting}'"):
        open_catalog(found)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("certainly no database " * 100)
    with pytest.raises(TableError, match=r"catalog\.db.*not a database"):
        open_catalog(local_config(tmp_path))


@pytest.mark.parametrize("name", ["portfolio.tb_nva", "portfolio.nav", "tb_nav", "", ".", "a.b.c", "portfolio."])
def test_an_unknown_table_is_named_with_the_nearest(catalog: Catalog, name: str) -> None:
    create_table(catalog, read_all(DDL)["portfolio.tb_nav"])
    with pytest.raises(TableError, match="there is no table") as caught:
        find_table(catalog, name)
    assert repr(name) in str(caught.value)
    if name == "portfolio.tb_nva":
        assert "did you mean 'portfolio.tb_nav'?" in str(caught.value)


def test_three_processes_open_and_create_at_once(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from tests.fix_tables import DDL, local_config
        from flight_server.tables.catalog import create_table, open_catalog
        from flight_server.tables.ddl import read_all

        catalog = open_catalog(local_config(Path(sys.argv[1])))
        print(sum(create_table(catalog, definition) for definition in read_all(DDL).values()))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(each.communicate()[0]) for each in running) == 7
    with closing(open_catalog(local_config(tmp_path))) as catalog:
        assert len(table_names(catalog)) == 7


def test_readers_and_a_writer_do_not_wait_for_each_other(catalog: Catalog, tmp_path: Path) -> None:
    create_table(catalog, read_all(DDL)["portfolio.tb_nav"])
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM iceberg_tables").fetchall()
        start = time.perf_counter()
        assert create_table(catalog, read_all(DDL)["reference.tb_meta"])
        assert time.perf_counter() - start < 10
        other.execute("ROLLBACK")
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE iceberg_tables SET metadata_location = ''")
        assert find_table(catalog, "portfolio.tb_nav").name() == ("portfolio", "tb_nav")
        other.execute("ROLLBACK")


def test_a_writer_waits_for_another(catalog: Catalog, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, lambda: writer.execute("ROLLBACK"))
        release.start()
        assert create_table(catalog, read_all(DDL)["portfolio.tb_nav"])
        release.join()


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """Endpoint of a local Glue and S3 with the bucket `lake`; the environment carries made-up credentials."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="lake")
        yield endpoint
        server.stop()


def test_glue_creates_and_loads_in_s3(aws: str, tmp_path: Path) -> None:
    found = config.Config(
        catalog=config.Catalog(kind="glue", warehouse="s3://lake/warehouse"),
        aws=config.Aws(region="us-east-1", glue_endpoint=aws, s3_endpoint=aws),
    )
    with closing(open_catalog(found)) as catalog:
        nav = read_all(DDL)["portfolio.tb_nav"]
        assert create_table(catalog, nav)
        assert not create_table(catalog, nav)
        assert table_names(catalog) == ["portfolio.tb_nav"]
        table = find_table(catalog, "portfolio.tb_nav")
        assert table.location().startswith("s3://lake/warehouse/portfolio")
        path = tmp_path / "nav.csv"
        path.write_text("trade_date,port_id,value\n2010-01-04,1,100.5\n")
        load_file(table, path)
        assert find_table(catalog, "portfolio.tb_nav").scan().to_arrow()["value"].to_pylist() == [100.5]
        path.write_text("trade_date,port_id,value\n2010-01-04,1,many\n")
        with pytest.raises(TableError, match="'many' is not a valid float"):
            load_file(table, path)


def test_a_glue_without_credentials_is_said(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    found = config.Config(
        catalog=config.Catalog(kind="glue", warehouse="s3://lake/warehouse"),
        aws=config.Aws(region="us-east-1", glue_endpoint=aws, s3_endpoint=aws),
    )
    with pytest.raises(TableError, match=r"cannot .*: (Unable to locate|Partial) credentials"):
        table_names(open_catalog(found))
