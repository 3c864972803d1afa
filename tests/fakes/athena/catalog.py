"""The tables that queries can name: Glue's entries, read per query so that a commit is seen by the next one.

Iceberg tables are read at their `metadata_location`; other tables are Parquet files below their location. Writing goes
through pyiceberg's GlueCatalog, as any other writer of these tables does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.table import StaticTable
from sqlglot import exp

from tests.fakes.athena.errors import QueryFailed

# Metadata files kept open: more than the tables of any test.
_OPENED_MAX = 256


@dataclass(frozen=True)
class Store:
    """How moto is reached: endpoints (`http://host:port`) and the credentials of everything here."""

    s3_endpoint: str
    glue_endpoint: str
    region: str = "us-east-1"
    access_key: str = "testing"
    secret_key: str = "testing"

    def client(self, service: str) -> Any:
        endpoint = self.s3_endpoint if service == "s3" else self.glue_endpoint
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    @property
    def iceberg(self) -> dict[str, str]:
        """The properties that pyiceberg's catalogs and file IO understand."""
        return {
            "glue.endpoint": self.glue_endpoint,
            "glue.region": self.region,
            "glue.access-key-id": self.access_key,
            "glue.secret-access-key": self.secret_key,
            "s3.endpoint": self.s3_endpoint,
            "s3.region": self.region,
            "s3.access-key-id": self.access_key,
            "s3.secret-access-key": self.secret_key,
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        }


@dataclass(frozen=True)
class Entry:
    """One table of Glue. `columns` are (name, Hive type); `metadata_location` is empty but for Iceberg tables."""

    database: str
    name: str
    columns: tuple[tuple[str, str], ...]
    location: str
    metadata_location: str
    suffix: str = ""

    @property
    def iceberg(self) -> bool:
        return bool(self.metadata_location)


class Catalog:
    """Glue through boto3 for reading, through pyiceberg for writing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.glue = store.client("glue")
        self.s3 = store.client("s3")
        self._iceberg: IcebergCatalog | None = None
        self._opened: dict[str, StaticTable] = {}

    @property
    def iceberg(self) -> IcebergCatalog:
        if self._iceberg is None:
            self._iceberg = load_catalog("local", type="glue", **self.store.iceberg)
        return self._iceberg

    def name_of(self, table: exp.Table, database: str) -> tuple[str, str]:
        """(database, table) of a possibly qualified name. Raises QueryFailed on another data catalog."""
        catalog = table.catalog.lower()
        if catalog not in ("", "awsdatacatalog", "hive"):
            raise QueryFailed("CATALOG_NOT_FOUND", f"{position(table)}: Catalog '{catalog}' not found")
        return (table.db or database).lower(), table.name.lower()

    def find(self, table: exp.Table, database: str) -> Entry:
        """The entry that a table expression names. Raises QueryFailed: TABLE_NOT_FOUND, SCHEMA_NOT_FOUND."""
        db, name = self.name_of(table, database)
        base, _, suffix = name.partition("$")
        entry = self.lookup(db, base)
        if entry is None:
            if not self.has_database(db):
                message = f"{position(table)}: Schema '{db}' does not exist"
                raise QueryFailed("SCHEMA_NOT_FOUND", message, error_type=1006)
            message = f"{position(table)}: Table 'awsdatacatalog.{db}.{name}' does not exist"
            raise QueryFailed("TABLE_NOT_FOUND", message, error_type=1006)
        return Entry(db, base, entry.columns, entry.location, entry.metadata_location, suffix)

    def lookup(self, database: str, name: str) -> Entry | None:
        try:
            table = self.glue.get_table(DatabaseName=database, Name=name)["Table"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "EntityNotFoundException":
                return None
            raise
        described = table.get("StorageDescriptor", {})
        columns = [(c["Name"], c.get("Type", "string")) for c in described.get("Columns", [])]
        columns += [(c["Name"], c.get("Type", "string")) for c in table.get("PartitionKeys", [])]
        parameters = table.get("Parameters", {})
        metadata = parameters.get("metadata_location", "")
        is_iceberg = parameters.get("table_type", "").upper() == "ICEBERG"
        return Entry(database, name, tuple(columns), described.get("Location", ""), metadata if is_iceberg else "")

    def has_database(self, name: str) -> bool:
        try:
            self.glue.get_database(Name=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "EntityNotFoundException":
                return False
            raise
        return True

    def opened(self, entry: Entry) -> StaticTable:
        """The table at the metadata file of the entry, which never changes: read once for all queries."""
        location = entry.metadata_location
        if location not in self._opened:
            if len(self._opened) >= _OPENED_MAX:
                self._opened.clear()
            self._opened[location] = StaticTable.from_metadata(location, self.store.iceberg)
        return self._opened[location]

    def snapshot_of(self, entry: Entry, table: exp.Table, millis: Callable[[exp.Expr], int]) -> int | None:
        """The snapshot that FOR VERSION | TIMESTAMP AS OF names; None = the current one.

        `millis` evaluates the expression of a time to milliseconds since 1970.
        """
        version = table.args.get("version")
        if version is None:
            return None
        value = version.expression
        if str(version.this).upper() == "VERSION":
            number = int(value.name) if value.name.isdigit() else -1
            if self.opened(entry).snapshot_by_id(number) is None:
                raise QueryFailed(
                    "INVALID_ARGUMENTS", f"{position(table)}: Iceberg snapshot ID does not exist: {number}"
                )
            return number
        moment = millis(value)
        found = self.opened(entry).snapshot_as_of_timestamp(moment)
        if found is None:
            name = f'"{entry.database}"."{entry.name}"'
            raise QueryFailed(
                "INVALID_ARGUMENTS",
                f"No version history table {name} at or before {datetime.fromtimestamp(moment / 1000, UTC)}",
            )
        return found.snapshot_id

    def objects(self, location: str) -> list[tuple[str, int]]:
        """(s3 URI, size) of everything below a location."""
        bucket, prefix = split(location)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [(f"s3://{bucket}/{o['Key']}", o["Size"]) for page in pages for o in page.get("Contents", [])]


def split(location: str) -> tuple[str, str]:
    """(bucket, key) of an s3:// URI."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return bucket, key


def position(node: exp.Expr) -> str:
    """`line 1:15` of the first identifier of a node, counted as Trino counts."""
    for identifier in node.find_all(exp.Identifier):
        meta = identifier.meta
        if "line" in meta:
            width = int(meta["end"]) - int(meta["start"])
            return f"line {meta['line']}:{int(meta['col']) - width}"
    return "line 1:1"
