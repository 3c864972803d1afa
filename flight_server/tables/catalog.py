"""The catalog of Iceberg tables: opening it from the settings, creating tables from their DDL, finding one by name.

A `sql` catalog is one SQLite file beside a local warehouse; `glue` is AWS Glue with the data in S3. Errors of
pyiceberg, SQLAlchemy and botocore become TableError or ConfigError here. Data is written in `load.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, SQLAlchemyError

from flight_server import config as settings
from flight_server.errors import ConfigError, TableError, first_line, nearest
from flight_server.plan import scan
from flight_server.tables.ddl import Definition

# The name under which a `sql` catalog registers its tables; part of its data, so never to be changed.
NAME = "athena_flight"
# Calls that plan at once, and probes beside them; more connections are made when needed, and thrown away after use.
_GLUE_CONNECTIONS = 32


def open_catalog(config: settings.Config) -> Catalog:
    """The catalog that `config` names; close it with `contextlib.closing`.

    For `sql`, the database's folder and a local warehouse are created and both paths made absolute, so that a later
    change of directory does not move them. For `glue`, credentials come from the usual AWS chain.
    Raises ConfigError for settings that name no catalog, TableError when it cannot be reached.
    """
    if config.catalog.kind == "glue":
        return _open_glue(config.catalog, config.aws)
    return _open_sql(config.catalog, config.aws)


def database(catalog: settings.Catalog) -> Path | None:
    """The file of a SQLite catalog, None of every other. Raises ConfigError for settings that name no catalog.

    Nothing is opened, but the database's driver is looked for.
    """
    if catalog.kind == "glue":
        if not catalog.warehouse.startswith("s3://"):
            raise ConfigError(
                f"setting 'catalog.warehouse': a Glue catalog stores tables in s3://…, got {catalog.warehouse!r}"
            )
        return None
    shown = settings.without_secrets(catalog.uri)
    try:
        url = make_url(catalog.uri)
        url.get_dialect().import_dbapi()
    except ArgumentError as error:
        raise ConfigError(f"setting 'catalog.uri': {shown!r} is no database address") from error
    except ModuleNotFoundError as error:
        raise ConfigError(f"setting 'catalog.uri': {shown!r} needs the package {error.name!r}") from error
    if url.get_backend_name() != "sqlite":
        return None
    if url.database in (None, "", ":memory:"):
        raise ConfigError(f"setting 'catalog.uri': name a file, sqlite:///path/catalog.db, got {shown!r}")
    return Path(url.database or "").absolute()


def _open_glue(catalog: settings.Catalog, aws: settings.Aws) -> Catalog:
    database(catalog)
    # Without a region, pyarrow would ask S3 for that of every bucket.
    region = aws.region or boto3.Session().region_name
    if region is None:
        raise ConfigError("setting 'aws.region': needed for a Glue catalog; the AWS chain names none either")
    found: dict[str, str | None] = {"warehouse": catalog.warehouse}
    with translated("open the Glue catalog"):
        client = boto3.Session(region_name=region).client(
            "glue", endpoint_url=aws.glue_endpoint, config=_patience(catalog, aws)
        )
        return GlueCatalog(NAME, client=client, **_present(found | _s3(catalog, aws, region)))


def _patience(catalog: settings.Catalog, aws: settings.Aws) -> BotoConfig:
    """Every plan asks Glue where its tables are; pyiceberg's own client tries ten times, for a minute and a half."""
    return BotoConfig(
        retries={"mode": "standard", "total_max_attempts": catalog.tries_max},
        connect_timeout=aws.connect_s,
        read_timeout=catalog.answer_s,
        max_pool_connections=_GLUE_CONNECTIONS,
    )


def _open_sql(catalog: settings.Catalog, aws: settings.Aws) -> Catalog:
    file = database(catalog)
    shown, url = settings.without_secrets(catalog.uri), make_url(catalog.uri)
    if file is not None:
        url = url.set(database=str(file)).update_query_dict({"timeout": str(catalog.busy_s)})
        with translated(f"open the catalog {str(file)!r}"):
            _prepare_sqlite(file, catalog.busy_s)
    found: dict[str, str | None] = {
        "uri": url.render_as_string(hide_password=False),
        "warehouse": _warehouse(catalog.warehouse),
    }
    s3: dict[str, str | None] = _s3(catalog, aws, aws.region) if catalog.warehouse.startswith("s3://") else {}
    with translated(f"open the catalog {shown!r}"):
        return _sql_catalog(_present(found | s3))


def _sql_catalog(properties: dict[str, str]) -> Catalog:
    try:
        return SqlCatalog(NAME, **properties)
    except OperationalError as error:
        if "already exists" not in str(error):
            raise
        # Another process made the catalog's own tables between pyiceberg's look and its CREATE TABLE.
        return SqlCatalog(NAME, **properties)


def _prepare_sqlite(file: Path, busy_s: float) -> None:
    """Create the file in write-ahead mode, which is kept in the file: a reader never waits for a writer."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=busy_s)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode = WAL")


def _warehouse(warehouse: str) -> str:
    if warehouse.startswith("s3://"):
        return warehouse
    scheme, separator, path = warehouse.partition("://")
    if separator and scheme != "file":
        raise ConfigError(f"setting 'catalog.warehouse': a folder or an s3:// URI, got {warehouse!r}")
    # A plain path, not file://: DuckDB's allowed_directories and iceberg_scan compare texts.
    folder = Path(path if separator else warehouse).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"setting 'catalog.warehouse': cannot create {str(folder)!r}: {error.strerror}") from error
    return str(folder)


def _s3(catalog: settings.Catalog, aws: settings.Aws, region: str | None) -> dict[str, str | None]:
    return {
        "s3.region": region,
        "s3.endpoint": aws.s3_endpoint,
        "s3.connect-timeout": str(min(aws.connect_s, catalog.metadata_s)),
        "s3.request-timeout": str(catalog.metadata_s),
    }


def _present(properties: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in properties.items() if value is not None}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn a failure of the catalog or its storage into TableError `cannot <what>: <reason>`; ours pass through."""
    try:
        yield
    except (BotoCoreError, ClientError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        # SQLAlchemy appends the statement and a link; its cause is the database's own words.
        reason = error.__cause__ if isinstance(error, SQLAlchemyError) and error.__cause__ else error
        raise TableError(f"cannot {what}: {first_line(reason)}") from error


def table_names(catalog: Catalog) -> list[str]:
    """All tables of the catalog as `database.table`, sorted."""
    with translated("list the tables"):
        return scan.table_names(catalog)


def find_table(catalog: Catalog, name: str) -> Table:
    """The table `database.table`, with the metadata of now. TableError with the nearest name when there is none."""
    try:
        with translated(f"open table {name!r}"):
            if name.count(".") == 1 and all(name.split(".")):
                return catalog.load_table(name)
    except (NoSuchTableError, NoSuchNamespaceError):
        pass
    raise TableError(f"there is no table {name!r}{nearest(name, table_names(catalog))}")


def create_table(catalog: Catalog, definition: Definition) -> bool:
    """Create the table, and its database when missing. False when it exists already: it is left as it is."""
    database = definition.name.partition(".")[0]
    with translated(f"create table {definition.name!r}"):
        if catalog.table_exists(definition.name):
            return False
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(database)
        try:
            catalog.create_table(
                definition.name,
                definition.schema,
                partition_spec=definition.spec,
                properties=dict(definition.properties),
            )
        except TableAlreadyExistsError:
            # Another process was faster; its table stands, as if it had been there before.
            return False
    return True
